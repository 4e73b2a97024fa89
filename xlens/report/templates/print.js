"use strict";
// What is folded is unfolded on paper, and every picture is there before the browser prints.

const unfolded = new Set();

window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details:not([open])").forEach((part) => {
    part.open = true;
    unfolded.add(part);
  });
  document.querySelectorAll("textarea").forEach((note) => {
    note.style.height = `${note.scrollHeight}px`;
  });
});
window.addEventListener("afterprint", () => {
  unfolded.forEach((part) => { part.open = false; });
  unfolded.clear();
});

async function printed() {
  if (page.gallery && !page.gallery.hidden) await Promise.all(report.items.map((_, i) => fill(i)));
  window.print();
}

for (const name of ["print", "print-one"]) document.getElementById(name)?.addEventListener("click", printed);
