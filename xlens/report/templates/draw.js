"use strict";
// Pictures: frames out of a PNG in which their rows alternate, signed maps over them, and signals as lines.

// The page as it came, before anything is drawn: what is saved with a person's notes. In a document of its own nothing
// of it is loaded again.
const pristine = document.implementation.createHTMLDocument("").importNode(document.documentElement, true);
const report = JSON.parse(document.getElementById("data").textContent);
const RED = "#b2182b", BLUE = "#2166ac", VIOLET = "#54278f";
const LINES = ["#0072b2", "#c77700", "#009e73", "#b0508a"];
const FULL = 1000; // signals come as whole numbers of so many steps

const probability = (score) => 1 / (1 + Math.exp(-score));
const decimals = (value, digits = 2) => value.toFixed(digits);

/** Make an element; text is always set as text, so nothing in a name is ever markup. */
function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function loadImage(source) {
  const image = new Image();
  image.src = source;
  return image.decode().then(() => image);
}

/** Decode what one item needs, once. */
function load(item) {
  if (!item.loading) {
    const image = report.kind === "image";
    const sources = image ? [item.images, item.maps, item.mask, ...item.traversals.map((one) => one.images)] : [];
    item.loading = Promise.all(sources.map((source) => (source ? loadImage(source) : null)));
    item.loading = item.loading.then(([frames, maps, mask, ...moved]) => {
      item.pictures = image
        ? { frames, maps, mask, moved }
        : { frames: item.images, maps: item.maps, mask: null, moved: item.traversals.map((one) => one.images) };
      return item.pictures;
    });
  }
  return item.loading;
}

/** Only the frames: enough for a card. */
function loadFrames(item) {
  return report.kind === "image" ? loadImage(item.images) : Promise.resolve(item.images);
}

function prepare(canvas) {
  const signal = report.kind === "signal";
  canvas.width = signal ? 640 : report.width;
  canvas.height = signal ? 240 : report.height;
  canvas.classList.toggle("lines", signal);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  return context;
}

/** Draw frame `index` of `count`; `stacked` frames lie one below the other, others have alternating rows. */
function drawFrame(canvas, frames, index, count, stacked = false) {
  const context = prepare(canvas);
  if (report.kind === "signal") {
    drawLines(context, frames[index], canvas.width, canvas.height);
    return;
  }
  if (stacked) {
    const { width, height } = report;
    context.drawImage(frames, 0, (index * frames.naturalHeight) / count, width, height, 0, 0, width, height);
    return;
  }
  for (let row = 0; row < report.height; row += 1) {
    context.drawImage(frames, 0, row * count + index, report.width, 1, 0, row, report.width, 1);
  }
}

/** Lay map number `index` over what is drawn, or alone on white. */
function drawMap(canvas, maps, index, { strength = 1, alone = false } = {}) {
  const context = alone ? prepare(canvas) : canvas.getContext("2d");
  context.globalAlpha = strength;
  // Bars in full would hide the line below them.
  if (report.kind === "signal" && !alone) context.globalAlpha = 0.4 * strength;
  const unsigned = index === 0 || report.methods[index - 1].unsigned;
  if (report.kind === "signal") drawBars(context, maps[index], canvas.width, canvas.height, unsigned);
  else {
    const { width, height } = report;
    const tile = [maps, 0, index * height, width, height, 0, 0, width, height];
    context.drawImage(...tile);
    // Over an image faint colours drown, so they are laid on twice.
    if (!alone) context.drawImage(...tile);
  }
  context.globalAlpha = 1;
}

function drawPicture(canvas, image) {
  prepare(canvas).drawImage(image, 0, 0);
}

function drawLines(context, values, width, height) {
  const length = report.width;
  for (let channel = 0; channel < report.channels; channel += 1) {
    context.beginPath();
    for (let i = 0; i < length; i += 1) {
      const x = 4 + ((width - 8) * i) / Math.max(length - 1, 1);
      const y = 6 + (height - 12) * (1 - values[channel * length + i] / FULL);
      if (i === 0) context.moveTo(x, y);
      else context.lineTo(x, y);
    }
    context.strokeStyle = LINES[channel % LINES.length];
    context.lineWidth = 2;
    context.stroke();
  }
}

function drawBars(context, values, width, height, unsigned) {
  const step = (width - 8) / values.length;
  values.forEach((value, i) => {
    context.fillStyle = unsigned ? VIOLET : value > 0 ? RED : BLUE;
    const size = ((height / 2 - 6) * value) / FULL;
    context.fillRect(4 + i * step, height / 2 - Math.max(size, 0), Math.max(step, 1), Math.abs(size));
  });
}
