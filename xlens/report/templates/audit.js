"use strict";
// Groups as cards with a map of where they lie, and one group with its exemplars. Text is only ever set as text.

const audit = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const view = { order: [], index: -1, cards: [], scroll: 0 };

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function shape(tag, facts) {
  const element = document.createElementNS(SVG, tag);
  Object.entries(facts).forEach(([name, value]) => element.setAttribute(name, value));
  return element;
}

/** Where the parts of a group lie in the image. */
function map(group) {
  const size = [100 * audit.width / audit.height, 100];
  const drawn = shape("svg", { viewBox: `0 0 ${size[0]} ${size[1]}`, "aria-hidden": "true" });
  group.dots.forEach(([row, column]) => {
    drawn.append(shape("circle", { cx: column * size[0], cy: row * size[1], r: 1.5, class: "part-dot" }));
  });
  const [row, column] = group.place;
  const ring = { cx: column * size[0], cy: row * size[1], r: Math.max(4, 100 * group.radius) };
  drawn.append(shape("circle", { ...ring, class: group.alarm ? "centre suspect" : "centre" }));
  return drawn;
}

/** An image of a group before and filled, and where all its parts lie. */
function example(group) {
  const shown = make("div", "triple");
  picture(group).then((image) => {
    if (image) shown.prepend(frame(group, image, 0, ""), frame(group, image, 1, ""));
  });
  shown.append(map(group));
  return shown;
}

function card(index) {
  const group = audit.groups[index];
  const place = make("li");
  const button = make("button", group.alarm ? "suspect" : "");
  button.type = "button";
  button.append(
    example(group),
    make("span", "title", group.title),
    make("span", "small", `in ${Math.round(100 * group.share)}% of the decisions for ${group.target}`),
    make("span", "small", `without it, ${group.effect.toFixed(2)} less of the probability`),
  );
  if (group.alarm) button.append(make("span", "alarm", "✗ looks like a shortcut"));
  button.addEventListener("click", () => open(index));
  place.append(button);
  return { place, button };
}

function arrange() {
  const wanted = at("filter").value;
  const kept = (group) => !wanted || (wanted === "!" ? group.alarm : group.target === wanted.slice(1));
  view.order = audit.groups.map((_, i) => i).filter((i) => kept(audit.groups[i]));
  at("cards").replaceChildren(...view.order.map((i) => view.cards[i].place));
  at("shown").textContent = `${view.order.length} of ${audit.groups.length} shown`;
}

/** The picture of all exemplars of a group, or null. */
async function picture(group) {
  if (!group.pictures) return null;
  const image = new Image();
  image.src = group.pictures;
  await image.decode();
  return image;
}

/** One frame of it; they lie row by row among each other. */
function frame(group, image, number, label) {
  const canvas = make("canvas");
  canvas.width = audit.width;
  canvas.height = audit.height;
  if (label) canvas.setAttribute("role", "img");
  canvas.setAttribute(label ? "aria-label" : "aria-hidden", label || "true");
  const context = canvas.getContext("2d");
  for (let row = 0; row < audit.height; row += 1) {
    const from = row * 2 * group.names.length + number;
    context.drawImage(image, 0, from, audit.width, 1, 0, row, audit.width, 1);
  }
  return canvas;
}

/** Where two frames differ, and how much as share of the most: dark is much. */
function change(before, filled, label) {
  const canvas = make("canvas");
  const size = [before.width, before.height];
  [canvas.width, canvas.height] = size;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  const [one, other] = [before, filled].map((shown) => shown.getContext("2d").getImageData(0, 0, ...size).data);
  const apart = new Float32Array(size[0] * size[1]);
  one.forEach((value, i) => { apart[i >> 2] += Math.abs(value - other[i]); });
  const most = apart.reduce((found, value) => Math.max(found, value), 1);
  const drawn = new ImageData(...size);
  apart.forEach((value, i) => drawn.data.set([255 - (41 * value) / most, 255 - (161 * value) / most, 255 - (255 * value) / most, 255], 4 * i));
  canvas.getContext("2d").putImageData(drawn, 0, 0);
  return canvas;
}

/** The explanation of one exemplar: before, filled, what changed, and its figures. */
function single(group, image, i, opener) {
  const name = group.names[i];
  const [before, filled] = ["before", "filled"].map((state, one) => frame(group, image, 2 * i + one, `${name}, ${state}`));
  const shown = [[before, "before"], [filled, "filled"], [change(before, filled, `${name}, what changes`), "what changes: dark is most"]];
  at("single-pictures").replaceChildren(...shown.map(([canvas, text]) => {
    const figure = make("figure");
    figure.append(canvas, make("figcaption", "", text));
    return figure;
  }));
  at("single-title").textContent = name;
  rows("single-table", group.singles[i]);
  at("single").hidden = false;
  closeSingle.opener = opener;
  at("tiles").querySelectorAll("button").forEach((button) => button.setAttribute("aria-expanded", String(button === opener)));
  at("single-title").focus();
}

function closeSingle() {
  at("single").hidden = true;
  const opener = closeSingle.opener;
  closeSingle.opener = null;
  if (!opener) return;
  opener.setAttribute("aria-expanded", "false");
  opener.focus();
}

function rows(id, figures) {
  at(id).replaceChildren(...figures.map(([name, value]) => {
    const row = make("tr");
    const head = make("th", "", name);
    head.scope = "row";
    row.append(head, make("td", "", value));
    return row;
  }));
}

async function draw(group) {
  at("tiles").replaceChildren();
  closeSingle.opener = null;
  at("single").hidden = true;
  const image = await picture(group);
  if (!image || audit.groups[view.index] !== group) return;
  group.names.forEach((name, i) => {
    const figure = make("figure");
    const pair = make("div", "pair");
    ["before", "filled"].forEach((state, one) => pair.append(frame(group, image, 2 * i + one, `${name}, ${state}`)));
    const button = make("button");
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-controls", "single");
    button.append(pair, make("span", "small", `${name}: its explanation`));
    button.addEventListener("click", () => single(group, image, i, button));
    figure.append(button);
    at("tiles").append(figure);
  });
}

function list(id, texts) {
  at(id).replaceChildren(...texts.map((text) => make("li", "", text)));
}

function open(index) {
  const group = audit.groups[index];
  if (at("detail").hidden) view.scroll = window.scrollY;
  view.index = index;
  at("gallery").hidden = true;
  at("detail").hidden = false;
  const place = view.order.indexOf(index);
  at("position").textContent = `${place + 1} of ${view.order.length}`;
  at("previous").disabled = place <= 0;
  at("next").disabled = place >= view.order.length - 1;
  at("question").textContent = group.title;
  at("verdict").textContent = group.verdict;
  at("alarm").hidden = !group.alarm;
  list("signs", group.signs);
  list("refuted", group.refuted);
  list("associations", group.associations.map(([said, p]) => `${said} (p ${p})`));
  at("alone").hidden = group.associations.length > 0;
  rows("table", group.table);
  draw(group);
  window.scrollTo(0, 0);
  at("question").focus({ preventScroll: true });
}

function step(by) {
  const index = view.order[view.order.indexOf(view.index) + by];
  if (index !== undefined) open(index);
}

function close() {
  at("detail").hidden = true;
  at("gallery").hidden = false;
  window.scrollTo(0, view.scroll);
  view.cards[view.index].button.focus({ preventScroll: true });
}

view.cards = audit.groups.map((_, i) => card(i));
const choices = [["!", "those that look like a shortcut"]];
new Set(audit.groups.map((group) => group.target)).forEach((name) => choices.push([`=${name}`, `decisions for ${name}`]));
choices.forEach(([value, text]) => {
  const choice = make("option", "", text);
  choice.value = value;
  at("filter").append(choice);
});
arrange();
at("filter").addEventListener("change", arrange);
at("back").addEventListener("click", close);
at("single-close").addEventListener("click", closeSingle);
at("previous").addEventListener("click", () => step(-1));
at("next").addEventListener("click", () => step(1));
document.addEventListener("keydown", (event) => {
  if (at("detail").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("select")) return;
  const action = { n: () => step(1), p: () => step(-1), Escape: at("single").hidden ? close : closeSingle }[event.key];
  if (action) action();
});
