"use strict";
// Notes that a person writes on an input; a page cannot write to its own file, so it is saved as a new one with them.

let unkept = false;

page.note.addEventListener("input", () => {
  view.item.note = page.note.value;
  unkept = true;
  page.kept.textContent = "Not in the file yet.";
});
// The browser asks before notes are lost with the page.
window.addEventListener("beforeunload", (event) => {
  if (unkept) event.preventDefault();
});
page.keep.addEventListener("click", () => {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([withNotes()], { type: "text/html" }));
  link.download = `${document.title.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60) || "page"}-with-notes.html`;
  link.click();
  URL.revokeObjectURL(link.href);
  unkept = false;
  page.kept.textContent = `Saved as ${link.download}.`;
});
// A frame in a notebook may not save files.
page.notes.hidden = window.parent !== window;

/** Return the page as it came, with the notes among its data. */
function withNotes() {
  const copy = pristine.cloneNode(true);
  const passing = new Set(["loading", "pictures"]);
  const data = JSON.stringify(report, (key, value) => (passing.has(key) ? undefined : value));
  // Nothing in a note can end the element that it stands in.
  copy.querySelector("#data").textContent = data.replace(/</g, "\\u003c");
  const known = copy.querySelectorAll("script").length;
  [...document.querySelectorAll("script")].slice(known).forEach((script) => copy.querySelector("body").append(script.cloneNode(true)));
  return `<!doctype html>\n${copy.outerHTML}\n`;
}
