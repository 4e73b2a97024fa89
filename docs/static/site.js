// What the theme leaves out for screen readers and the keyboard.
document.addEventListener("DOMContentLoaded", () => {
  for (const caption of document.querySelectorAll(".caption[role=heading]")) caption.setAttribute("aria-level", "2");
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "All pages");
  document.querySelector(".toc-drawer")?.setAttribute("aria-label", "On this page");
  // The page of the search has no heading.
  const main = document.querySelector("#furo-main-content");
  if (main && !document.querySelector("h1")) main.insertAdjacentHTML("afterbegin", "<h1>Search</h1>");
  const scrolls = "pre, .table-wrapper, dt.sig";
  for (const box of document.querySelectorAll(scrolls)) if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
});
