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

const radios = (index) => [...document.querySelectorAll(`input[name="q${index}"][type=radio]`)];
const isOpen = (index) => radios(index).length > 0 && !radios(index).some((radio) => radio.checked);
const openQuestion = () => (now ? now.questions.findIndex((_, index) => isOpen(index)) : -1);

// The number of a choice is its key; 0 is that it cannot be told.
function drawQuestions(questions) {
  find("questions").replaceChildren(...questions.map((question, index) => {
    const set = element("fieldset");
    set.append(element("legend", {}, question.name));
    if (!question.choices.length) {
      const about = { type: "number", step: "any", name: `q${index}`, "aria-label": question.name };
      set.append(element("input", { ...about, placeholder: "a number; empty if it cannot be told" }));
      return set;
    }
    [...question.choices, null].forEach((value, place) => {
      const label = element("label", { class: "choice" }), key = value === null ? 0 : place + 1;
      const radio = element("input", { type: "radio", name: `q${index}`, value: value === null ? "" : value });
      label.append(radio, " " + (value === null ? "cannot tell" : choiceName(question.choices, value)));
      if (key < 10) label.append(element("kbd", { "aria-hidden": "true" }, String(key)));
      set.append(label);
    });
    return set;
  }));
  const several = questions.length > 1;
  find("keys").textContent = several
    ? "A number answers the question that is marked, and goes on to the next; Enter answers the image."
    : "A number answers at once, and goes on to the next image.";
}

/** Mark the question whose turn it is, which is what the number keys answer. */
function mark() {
  const open = openQuestion();
  [...find("questions").children].forEach((set, index) => set.classList.toggle("turn", index === open));
  if (open < 0) find("hint").textContent = "";
}

function drawAnswers(state) {
  const titles = ["question", "answer", "for checking", "to learn from"];
  const head = element("tr");
  for (const title of titles) head.append(element("th", { scope: "col" }, title));
  find("answers").tHead.replaceChildren(head);
  const rows = state.questions.flatMap((question, index) => {
    const told = state.given[index];
    const choices = [...question.choices, null].map((value) => [
      value === null ? "cannot tell" : choiceName(question.choices, value),
      value === null ? told.untold : told.told[question.choices.indexOf(value)],
    ]);
    const numbers = [["a number", told.told[0]], ["cannot tell", told.untold]];
    return (question.choices.length ? choices : numbers).map(([name, counts], place) => {
      const row = element("tr");
      row.append(element("td", {}, place ? "" : question.name), element("td", {}, name));
      for (const count of counts) row.append(element("td", {}, String(count)));
      return row;
    });
  });
  find("answers").tBodies[0].replaceChildren(...rows);
}

function drawChart(state) {
  const empty = !state.history.some((one) => state.questions.some((question) => one[question.name] !== null));
  find("chart").toggleAttribute("hidden", empty);
  find("figures").hidden = empty;
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
  const place = `${state.of - state.left + 1} of ${state.of}`;
  return `${state.checking ? `Image for checking, ${place}` : `Round ${state.round}, image ${place}`}: ${state.left} left.`;
}

function explain(state) {
  if (state.next === null) return "";
  return state.checking
    ? "These first images check the lens, like an exam: it never learns from your answers to them, so that what it has " +
      "learned from the others can be judged honestly. After them it chooses what to ask."
    : "The lens chose these images, since it is unsure about them. It learns when the round is complete. " +
      "Every answer is kept at once: stop whenever you like.";
}

function waitFor(state) {
  if (!find("chart").hasAttribute("hidden")) return "";
  const left = state.checking ? `${state.left} more images for checking, and a first round` : "this round";
  return `Nothing can be said yet: it takes ${left}, with each answer given a few times.`;
}

function show(state) {
  if (!now) drawQuestions(state.questions);
  const fresh = !now || now.next !== state.next || now.turn !== state.turn;
  now = state;
  find("progress").textContent = say(state);
  find("bar").max = Math.max(1, state.of);
  find("bar").value = state.of - state.left;
  find("why").textContent = explain(state);
  find("fault").hidden = !state.fault;
  find("fault").textContent = state.fault;
  find("ask").hidden = state.next === null;
  if (fresh && state.next !== null) {
    // Nothing is chosen beforehand: an answer that nobody gave would be learned as if somebody had.
    find("form").reset();
    shown = { position: state.next, turn: state.turn };
    find("image").src = `image/${state.next}.png`;
  }
  mark();
  drawAnswers(state);
  drawChart(state);
  find("waiting").textContent = waitFor(state);
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
  const open = openQuestion();
  if (open >= 0) {
    find("hint").textContent = `Choose an answer to “${now.questions[open].name}” first, or that it cannot be told.`;
    return;
  }
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
  if (event.target.matches("input[type=number]")) return;
  if (event.key === "Backspace") return find("back").click();
  if (event.key === "Enter" && !event.target.matches("button")) {
    event.preventDefault();
    return find("form").requestSubmit();
  }
  const open = Math.max(0, openQuestion()), choices = radios(open);
  if (!/^[0-9]$/.test(event.key) || !choices.length) return;
  const chosen = event.key === "0" ? choices.at(-1) : choices.slice(0, -1)[Number(event.key) - 1];
  if (!chosen) return;
  chosen.checked = true;
  mark();
  if (now.questions.length === 1) find("form").requestSubmit();
});
find("form").addEventListener("change", mark);
refresh();
