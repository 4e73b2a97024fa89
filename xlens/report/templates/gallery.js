"use strict";
// The gallery: cards that are filled when they come into view, sorting, and the way to one explanation and back.

const gallery = { order: [], cards: [], scroll: 0 };

const orders = {
  given: (a, b) => a - b,
  // Broken explanations are the least faithful; among the others, how far the reconstruction's score is off.
  faithful: (a, b) => unfaithfulness(a) - unfaithfulness(b) || a - b,
  faithless: (a, b) => unfaithfulness(b) - unfaithfulness(a) || a - b,
  high: (a, b) => report.items[b].score - report.items[a].score || a - b,
  low: (a, b) => report.items[a].score - report.items[b].score || a - b,
};
const filters = { all: () => true, holds: (item) => item.holds, fails: (item) => !item.holds };

function unfaithfulness(index) {
  const item = report.items[index];
  return item.gap + (item.holds ? 0 : 1e6 * (1 + item.problems.length));
}

function makeCard(index) {
  const item = report.items[index];
  const place = make("li");
  const button = make("button", item.holds ? "" : "fails");
  button.type = "button";
  const pair = make("div", `pair ${report.kind}`);
  const turns = item.says[0] !== item.says[1];
  button.append(
    pair,
    make("span", "title", turns ? `${item.says[0]} → ${item.says[1]}` : `${item.says[0]}, and stays so`),
    make("span", "small", item.name),
    margin(item),
    make("span", "verdict", item.holds ? "✓ holds" : item.unchanged ? "✗ no change found" : "✗ do not trust"),
  );
  if (item.reasons.length) button.append(make("span", "small", item.reasons[0]));
  button.addEventListener("click", () => open(index));
  place.append(button);
  return { place, button, pair, filled: null };
}

/** How sure the model is of the class explained, before and after, on a line from 0 to 1 with the middle marked. */
function margin(item) {
  const place = make("span", "margin");
  const ends = [probability(item.path[report.frames - 1]), probability(item.path[0])].map((p) => 100 * p);
  const line = make("span", "line");
  const way = make("span", "way");
  way.style.left = `${Math.min(...ends)}%`;
  way.style.width = `${Math.abs(ends[0] - ends[1])}%`;
  const dots = ends.map((at, i) => {
    const dot = make("span", i ? "dot after" : "dot");
    dot.style.left = `${at}%`;
    return dot;
  });
  line.append(way, ...dots);
  place.append(make("span", "small", `${item.target} ${item.before} → ${item.after}${item.against}`), line);
  return place;
}

/** Decode and draw the two pictures of a card, once it is seen. */
function fill(index) {
  const card = gallery.cards[index];
  if (!card.filled) card.filled = drawCard(card, index);
  return card.filled;
}

function drawCard(card, index) {
  const canvases = [make("canvas"), make("canvas")];
  card.pair.append(...canvases);
  canvases.forEach((canvas) => {
    prepare(canvas);
    canvas.setAttribute("aria-hidden", "true");
  });
  return loadFrames(report.items[index]).then((frames) => {
    drawFrame(canvases[0], frames, inputFrame, total);
    drawFrame(canvases[1], frames, 0, total);
  });
}

function arrange() {
  const keep = filters[page.filter.value];
  gallery.order = report.items.map((_, i) => i).filter((i) => keep(report.items[i])).sort(orders[page.sort.value]);
  page.cards.replaceChildren(...gallery.order.map((i) => gallery.cards[i].place));
  page.shown.textContent = `${gallery.order.length} of ${report.items.length} shown`;
}

function open(index) {
  if (page.detail.hidden) gallery.scroll = window.scrollY;
  page.gallery.hidden = true;
  page.detail.hidden = false;
  const place = gallery.order.indexOf(index);
  page.position.textContent = `${place + 1} of ${gallery.order.length}`;
  page.previous.disabled = place <= 0;
  page.next.disabled = place >= gallery.order.length - 1;
  showItem(index);
  window.scrollTo(0, 0);
  page.question.focus({ preventScroll: true });
}

function step(by) {
  const index = gallery.order[gallery.order.indexOf(view.index) + by];
  if (index !== undefined) open(index);
}

function close() {
  stop();
  page.detail.hidden = true;
  page.gallery.hidden = false;
  window.scrollTo(0, gallery.scroll);
  gallery.cards[view.index].button.focus({ preventScroll: true });
}

function startGallery() {
  gallery.cards = report.items.map((_, i) => makeCard(i));
  const index = new Map(gallery.cards.map((card, i) => [card.place, i]));
  const watcher = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => fill(index.get(entry.target))),
    { rootMargin: "300px" },
  );
  gallery.cards.forEach((card) => watcher.observe(card.place));
  arrange();
  page.sort.addEventListener("change", arrange);
  page.filter.addEventListener("change", arrange);
  page.back.addEventListener("click", close);
  page.previous.addEventListener("click", () => step(-1));
  page.next.addEventListener("click", () => step(1));
  document.addEventListener("keydown", (event) => {
    if (page.detail.hidden || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("select, textarea")) return;
    const action = { n: () => step(1), p: () => step(-1), Escape: close }[event.key];
    if (action) action();
  });
}

if (page.gallery) startGallery();
else showItem(0);
