"use strict";
// The probability along the path, and the contributions of the features.

const BOX = { left: 44, right: 408, top: 12, bottom: 205 };

function shape(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const across = (share) => BOX.left + (BOX.right - BOX.left) * share;
const upward = (p) => BOX.bottom - (BOX.bottom - BOX.top) * p;

/** Draw the curve; `choose(frame)` is called when a point is clicked. Returns a function that moves the marker. */
function drawCurve(svg, scores, choose) {
  const last = Math.max(scores.length - 1, 1);
  const points = scores.map((score, i) => [across(i / last), upward(probability(score))]);
  svg.replaceChildren();
  svg.append(shape("path", { class: "axis", d: `M${BOX.left} ${BOX.top}V${BOX.bottom}H${BOX.right}` }));
  svg.append(shape("line", { class: "half", x1: BOX.left, x2: BOX.right, y1: upward(0.5), y2: upward(0.5) }));
  for (const p of [0, 0.5, 1]) {
    svg.append(shape("text", { x: BOX.left - 8, y: upward(p) + 4, "text-anchor": "end" }, String(p)));
  }
  svg.append(shape("text", { x: BOX.left, y: 226 }, report.other));
  svg.append(shape("text", { x: BOX.right, y: 226, "text-anchor": "end" }, report.end));
  svg.append(shape("polyline", { class: "line", points: points.map((point) => point.join(",")).join(" ") }));
  points.forEach(([cx, cy], i) => {
    const dot = shape("circle", { class: "dot", cx, cy, r: 5 });
    dot.addEventListener("click", () => choose(i));
    svg.append(dot);
  });
  const marker = shape("circle", { class: "now", r: 7 });
  svg.append(marker);
  return (frame) => {
    marker.setAttribute("cx", points[frame][0]);
    marker.setAttribute("cy", points[frame][1]);
  };
}

/** Draw one bar per feature, the largest first. */
function drawContributions(place, names, values, item) {
  const largest = Math.max(...values.map(Math.abs), 1e-9);
  const order = values.map((_, i) => i).sort((a, b) => Math.abs(values[b]) - Math.abs(values[a])).slice(0, 12);
  place.replaceChildren();
  // What nobody answered about is shown as such, however many contribute.
  order.push(...values.map((_, i) => i).filter((i) => report.notTaught.includes(names[i]) && !order.includes(i)));
  for (const i of order) {
    const row = make("div", "part");
    const svg = shape("svg", { viewBox: "0 0 200 10", preserveAspectRatio: "none", "aria-hidden": "true" });
    const size = (98 * Math.abs(values[i])) / largest;
    svg.append(shape("line", { class: "axis", x1: 100, x2: 100, y1: 0, y2: 10 }));
    svg.append(
      shape("rect", { class: values[i] > 0 ? "plus" : "minus", x: values[i] > 0 ? 100 : 100 - size, y: 1, width: size, height: 8 }),
    );
    const side = values[i] > 0 ? item.target : item.contrast;
    const untaught = report.notTaught.includes(names[i]);
    const speaks = untaught ? "not taught" : values[i] === 0 ? "0" : `${values[i] > 0 ? "+" : "−"}${decimals(Math.abs(values[i]))} for ${side}`;
    row.append(make("span", "", names[i]), svg, make("span", "", speaks));
    place.append(row);
  }
  if (values.length > order.length) place.append(make("p", "quiet", `and ${values.length - order.length} smaller ones`));
}
