"use strict";
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
const find = (id) => document.getElementById(id);
let now = null;
// An answer belongs to the image that is shown: none is taken while one is under way, or before its image is there.
let busy = false, shown = null;
const ready = () => !busy && find("image").complete && find("image").naturalWidth > 0;

function element(name, attributes = {}, text = "") {
  const svg = ["polyline", "circle", "line", "text", "rect"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function choiceName(choices, value) {
  return choices.length === 2 && choices[0] === 0 && choices[1] === 1 ? (value ? "yes" : "no") : String(value);
}

function drawQuestions(questions) {
  find("questions").replaceChildren(...questions.map((question, index) => {
    const set = element("fieldset");
    set.append(element("legend", {}, question.name));
    if (!question.choices.length) {
      set.append(element("input", { type: "number", step: "any", name: `q${index}`, "aria-label": question.name }));
      return set;
    }
    for (const value of [...question.choices, null]) {
      const label = element("label");
      const radio = element("input", { type: "radio", name: `q${index}`, value: value === null ? "" : value });
      radio.checked = value === null;
      label.append(radio, " " + (value === null ? "cannot tell" : choiceName(question.choices, value)));
      set.append(label);
    }
    return set;
  }));
}

function drawChart(state) {
  const chart = find("chart"), rounds = state.history, names = state.questions.map((question) => question.name);
  const x = (i) => 40 + (i * 580) / Math.max(1, rounds.length - 1), y = (v) => 210 - 190 * v;
  const parts = [element("rect", { x: 40, y: 20, width: 580, height: 190, class: "frame" })];
  for (const mark of [0, 0.5, 1]) parts.push(element("text", { x: 8, y: y(mark) + 5 }, String(mark)));
  names.forEach((name, index) => {
    const colour = COLOURS[index % COLOURS.length];
    const points = rounds.map((one, i) => [x(i), one[name]]).filter((point) => point[1] !== null);
    const line = points.map(([at, value]) => `${at},${y(value)}`).join(" ");
    parts.push(element("polyline", { points: line, fill: "none", stroke: colour, "stroke-width": 2 }));
    for (const [at, value] of points) parts.push(element("circle", { cx: at, cy: y(value), r: 4, fill: colour }));
    const left = 50 + 150 * (index % 4), below = 240 + 24 * Math.floor(index / 4);
    parts.push(element("circle", { cx: left, cy: below, r: 5, fill: colour, class: "key" }));
    parts.push(element("text", { x: left + 10, y: below + 5 }, name));
  });
  chart.setAttribute("viewBox", `0 0 640 ${236 + 24 * Math.ceil(names.length / 4)}`);
  chart.replaceChildren(...parts);
  const head = element("tr");
  for (const title of ["answers learned from", ...names]) head.append(element("th", { scope: "col" }, title));
  find("figures").tHead.replaceChildren(head);
  find("figures").tBodies[0].replaceChildren(...rounds.map((one) => {
    const row = element("tr");
    row.append(element("td", {}, String(one.taught)));
    for (const name of names) row.append(element("td", {}, one[name] === null ? "too few yet" : one[name].toFixed(3)));
    return row;
  }));
}

function say(state) {
  if (state.learning) return "Learning from your answers …";
  if (state.fault && state.next === null) return `${state.answered} answers are kept.`;
  if (state.done) return `Nothing is left to ask: ${state.answered} answers are kept.`;
  const what = state.checking ? "for checking only, never learned from" : `round ${state.round}`;
  return `${state.left} left (${what}); ${state.answered} answers are kept. You can stop at any time.`;
}

function show(state) {
  if (!now) drawQuestions(state.questions);
  const fresh = !now || now.next !== state.next || now.turn !== state.turn;
  now = state;
  find("progress").textContent = say(state);
  find("fault").hidden = !state.fault;
  find("fault").textContent = state.fault;
  find("ask").hidden = state.next === null;
  if (fresh && state.next !== null) {
    find("form").reset();
    for (const radio of document.querySelectorAll('input[type=radio][value=""]')) radio.checked = true;
    shown = { position: state.next, turn: state.turn };
    find("image").src = `image/${state.next}.png`;
  }
  drawChart(state);
  if (state.learning) setTimeout(refresh, 400);
}

async function ask(path, body) {
  if (body !== undefined) {
    if (busy) return;
    busy = true;
  }
  try {
    const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
    if (body !== undefined) options.headers = { "Content-Type": "application/json" };
    const response = await fetch(path, options);
    const said = await response.json();
    if (response.ok) return show(said);
    const fault = said.fault || "the answer was refused";
    const current = await fetch("state");
    show({ ...(current.ok ? await current.json() : now), fault });
  } catch {
    show({ ...now, fault: "xlens label does not answer: is it still running? What you answered is kept." });
  } finally {
    if (body !== undefined) busy = false;
  }
}

const refresh = () => ask("state");

find("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!ready()) return;
  const values = {};
  now.questions.forEach((question, index) => {
    const given = new FormData(find("form")).get(`q${index}`);
    values[question.name] = given === "" || given === null ? null : Number(given);
  });
  ask("answer", { ...shown, values });
});
for (const name of ["send", "back"]) {
  // The second half of a double click was meant for what the first one answered.
  find(name).addEventListener("click", (event) => {
    if (event.detail > 1) { event.preventDefault(); event.stopImmediatePropagation(); }
  });
}
find("back").addEventListener("click", () => ask("back", { turn: now?.turn }));
find("image").addEventListener("error", () => show({ ...now, fault: "the image cannot be shown" }));
document.addEventListener("keydown", (event) => {
  // A shortcut of the browser is no answer, nor is a key that is held down.
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || find("ask").hidden || !ready()) return;
  const first = now && now.questions.length === 1 ? document.querySelectorAll('input[name="q0"][type=radio]') : [];
  const index = Number(event.key) - 1;
  if (first[index]) { first[index].checked = true; find("form").requestSubmit(); }
});
refresh();
