"use strict";
// One explanation: the image that morphs along the path, its overlay, its curve, its numbers.

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
const view = { item: null, pictures: null, index: 0, move: null, timer: 0, mode: "still" };
// Behind the frames of the path come the reconstruction, and the input where the path does not end in it.
const total = report.frames + (report.reconstruction ? 1 : 0) + (report.end === "input" ? 0 : 1);
const inputFrame = report.end === "input" ? report.frames - 1 : total - 1;

page.slider.max = String(report.frames - 1);
["none", "difference to the counterfactual", ...report.methods.map((method) => method.title)].forEach((title, i) => {
  // Two real cases differ in everything: there is no edit to draw.
  if (i === 1 && report.retrieved) return;
  const option = make("option", "", title);
  option.value = String(i - 1);
  page.method.append(option);
});
page.method.value = "-1";
page.parts.hidden = report.features.length === 0;
if (report.leftOut.length) {
  page["left-out"].hidden = false;
  page["left-out"].textContent = `Without sliders, so that this file stays small: ${report.leftOut.join(", ")}.`;
}

const other = report.other;
const frame = () => Number(page.slider.value);
const chosen = () => Number(page.method.value);

/** How much of the score is back at this frame, 0 at the counterfactual and 1 at the input. */
function shareOfScore(item, index) {
  const first = item.path[0], last = item.path[item.path.length - 1];
  if (Math.abs(last - first) < 1e-9) return 1;
  return Math.min(1, Math.max(0, (item.path[index] - first) / (last - first)));
}

function refresh() {
  const { item, pictures } = view;
  if (!pictures) return;
  const index = frame();
  const share = shareOfScore(item, index);
  drawFrame(page.image, pictures.frames, index, total);
  // Maps are of the input: over another real case they would point at nothing.
  const elsewhere = report.retrieved && index !== inputFrame;
  const overlaid = chosen() >= 0 && !elsewhere;
  if (overlaid) drawMap(page.image, pictures.maps, chosen(), { strength: (share * Number(page.strength.value)) / 100 });
  view.move(index);
  const p = decimals(probability(item.path[index]));
  const ends = { 0: ` (${other})`, [report.frames - 1]: ` (${report.end})` };
  const near = report.decoded ? " (decoded from this point of the way)"
    : report.retrieved ? " (the real case nearest to this point of the way)" : "";
  const place = `frame ${index + 1} of ${report.frames}${ends[index] ?? near}`;
  page.where.textContent = `${place}: ${item.p} = ${p}, score ${decimals(item.path[index])}`;
  page.slider.setAttribute("aria-valuetext", `${place}, ${item.p} ${p}`);
  page.image.setAttribute("aria-label", `${item.name}, ${place}`);
  page["overlay-note"].textContent = overlaid
    ? `${legend(chosen())} The overlay follows the score: ` +
      `${Math.round(100 * share)}% of the difference is reached here.`
    : elsewhere && chosen() >= 0
      ? `${report.decoded ? "What is decoded from the layer" : "Another real case"} is shown, and the overlay is of the input alone.`
      : "";
}

/** Say what the colours of an overlay are, but for red and blue, which stand for the same everywhere. */
function legend(index) {
  const several = report.channels > 1;
  if (index === 0) {
    const channel = several ? " At each place the channel that differs most is shown." : "";
    return `Violet: how much the two differ.${channel}`;
  }
  const summed = several ? "Summed over channels." : "";
  return report.methods[index - 1].unsigned ? `Violet: magnitude only, for neither class. ${summed}` : summed;
}

function stop() {
  clearInterval(view.timer);
  view.mode = "still";
  page.play.textContent = "Play";
  page.blink.setAttribute("aria-pressed", "false");
  drawBefore();
}

function play() {
  const running = view.mode === "play";
  stop();
  if (running) return refresh();
  view.mode = "play";
  page.play.textContent = "Pause";
  if (frame() === report.frames - 1) page.slider.value = "0";
  refresh();
  view.timer = setInterval(() => {
    page.slider.value = String(frame() + 1);
    if (frame() === report.frames - 1) stop();
    refresh();
  }, 180);
}

function blink() {
  const running = view.mode === "blink";
  stop();
  if (running || !view.pictures) return;
  view.mode = "blink";
  page.blink.setAttribute("aria-pressed", "true");
  let after = false;
  // 1.4 changes a second: well below what can harm.
  view.timer = setInterval(() => {
    after = !after;
    drawBefore(after);
  }, 700);
}

const labelBefore = page["before-label"].textContent;

/** Fill the first of the two pictures, which blinks between both. */
function drawBefore(after = false) {
  const { item, pictures } = view;
  if (!pictures) return;
  drawFrame(page.before, pictures.frames, after ? 0 : inputFrame, total);
  page["before-label"].textContent = after ? page["after-label"].textContent : labelBefore;
  page["before-says"].textContent = says(item, after);
}

const says = (item, after) =>
  after && item.unchanged ? "no change was found" : `the model says “${item.says[after ? 1 : 0]}” (${item.target} ${after ? item.after : item.before}${item.against})`;

function tile(title, draw, limit, unsigned = false) {
  const figure = make("figure");
  const canvas = make("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", title);
  draw(canvas);
  figure.append(canvas);
  if (limit !== undefined) {
    const scale = make("div", "scale");
    for (const text of unsigned ? ["0", String(limit)] : [`−${limit}`, "0", `+${limit}`]) {
      scale.append(make("span", "", text));
    }
    figure.append(make("div", unsigned ? "ramp unsigned" : "ramp"), scale);
  }
  figure.append(make("figcaption", "", title));
  return figure;
}

function drawTiles(item, pictures) {
  const frameTile = (title, index) => tile(title, (canvas) => drawFrame(canvas, pictures.frames, index, total));
  const mapTile = (title, index, unsigned) =>
    tile(title, (canvas) => drawMap(canvas, pictures.maps, index, { alone: true }), item.limits[index], unsigned);
  const tiles = [frameTile("input", inputFrame)];
  if (report.reconstruction) tiles.push(frameTile("the lens's reconstruction", report.frames));
  const own = `${item.p} = ${decimals(probability(item.end))}`;
  tiles.push(frameTile(report.retrieved ? `${other}, ${own}` : other, 0));
  if (pictures.mask) tiles.push(tile("mask: where it was changed", (canvas) => drawPicture(canvas, pictures.mask)));
  if (!report.retrieved) tiles.push(mapTile("how much input and counterfactual differ", 0, true));
  report.methods.forEach((method, i) => {
    const note = method.complete ? "" : method.unsigned ? " (magnitude only)" : " (own scale)";
    tiles.push(mapTile(method.title + note, i + 1, method.unsigned));
  });
  page.tiles.classList.toggle("signal", report.kind === "signal");
  page.tiles.replaceChildren(...tiles);
}

/** One slider per feature whose frames were rendered ahead. */
function drawSliders(item, pictures) {
  const made = item.traversals.map((one, i) => {
    const figure = make("figure");
    const canvas = make("canvas");
    canvas.setAttribute("role", "img");
    const label = make("label", "", `${one.feature} set to `);
    const slider = make("input");
    Object.assign(slider, { type: "range", min: "0", max: String(one.values.length - 1), step: "1" });
    const caption = make("figcaption");
    const show = () => {
      const step = Number(slider.value);
      const where = report.reconstruction ? "the lens's own decoding" : "a real input near that";
      const text = `${one.values[step]}: ${item.p} = ${decimals(probability(one.scores[step]))} on ${where}`;
      drawFrame(canvas, pictures.moved[i], step, one.values.length, one.stacked);
      canvas.setAttribute("aria-label", `${one.feature} set to ${text}`);
      slider.setAttribute("aria-valuetext", text);
      caption.textContent = text;
    };
    slider.value = String(Math.floor(one.values.length / 2));
    slider.addEventListener("input", show);
    label.append(slider);
    figure.append(canvas, label, caption);
    show();
    return figure;
  });
  page.sliders.replaceChildren(...made);
}

function drawWords(item) {
  page.question.textContent = item.question;
  page.name.textContent = item.name;
  page.finding.textContent = item.finding;
  page["before-says"].textContent = says(item, false);
  page["after-says"].textContent = says(item, true);
  page.verdict.className = item.holds ? "holds" : "fails";
  [page.standing.textContent, page.certifies.textContent] = item.verdict;
  page.signs.textContent =
    `Everywhere below, red and + speak for “${item.target}”, blue and − for “${item.contrast}”.`;
  page.warning.hidden = !item.reasons.length;
  page.reasons.replaceChildren(...item.reasons.map((reason) => make("li", "", reason)));
  page.failed.hidden = !item.problems.length;
  page.problems.replaceChildren(...item.problems.map((problem) => make("li", "", problem)));
  page["curve-title"].textContent = `${item.p} along the path`;
  page.said.replaceChildren(
    ...item.said.map(([holds, text]) => make("li", holds === null ? "" : holds ? "yes" : "no", text)),
  );
  page.table.replaceChildren(
    ...item.table.map(([name, value]) => {
      const row = make("tr");
      const head = make("th", "", name);
      head.scope = "row";
      row.append(head, make("td", "", value));
      return row;
    }),
  );
}

/** Show what somebody wrote about this input. */
function showNote(item) {
  page.note.value = item.note ?? "";
  page.kept.textContent = "";
}

function showItem(index) {
  stop();
  const item = report.items[index];
  view.item = item;
  view.index = index;
  view.pictures = null;
  drawWords(item);
  view.move = drawCurve(page.curve, item.path, (chosenFrame) => {
    stop();
    page.slider.value = String(chosenFrame);
    refresh();
  });
  drawContributions(page.bars, report.features, item.contributions, item);
  showNote(item);
  page.slider.value = String(report.frames - 1);
  return load(item).then((pictures) => {
    if (view.item !== item) return;
    view.pictures = pictures;
    drawBefore();
    drawFrame(page.after, pictures.frames, 0, total);
    drawTiles(item, pictures);
    drawSliders(item, pictures);
    refresh();
  });
}

page.slider.addEventListener("input", () => {
  stop();
  refresh();
});
page.method.addEventListener("change", refresh);
page.strength.addEventListener("input", refresh);
page.play.addEventListener("click", play);
page.blink.addEventListener("click", blink);

document.addEventListener("keydown", (event) => {
  if (page.detail.hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("textarea")) return;
  const typing = event.target.matches("select, button, summary");
  if (event.key === " " && !typing) play();
  else if (event.key === "b" && !event.target.matches("select")) blink();
  else if (event.key === "m" && !event.target.matches("select")) {
    page.method.selectedIndex = (page.method.selectedIndex + 1) % page.method.options.length;
    refresh();
  } else return;
  event.preventDefault();
});
