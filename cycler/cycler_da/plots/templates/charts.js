"use strict";
// Small charts in SVG: lines over time and stacked bars over time, with a cursor at the cycle that is shown.

const SVG = "http://www.w3.org/2000/svg";
const MARKS = ["circle", "square", "triangle", "diamond", "cross"];

function svgNode(name, attributes, parent) {
  const node = document.createElementNS(SVG, name);
  for (const key of Object.keys(attributes)) node.setAttribute(key, attributes[key]);
  if (parent) parent.appendChild(node);
  return node;
}

function niceStep(span, count) {
  const rough = span / count;
  const power = Math.pow(10, Math.floor(Math.log10(rough)));
  return [1, 2, 5, 10].map((digit) => digit * power).find((step) => step >= rough * (1 - 1e-9));
}

function numberText(value) {
  if (value === null || value === undefined || !isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) {
    const [digits, power] = value.toExponential(2).split("e");
    return Number(digits) + "e" + Number(power);
  }
  return String(Number(value.toPrecision(size >= 1000 ? 4 : 3)));
}

function linearTicks(high) {
  const step = niceStep(high, 4);
  return Array.from({ length: Math.floor(high / step + 1e-9) + 1 }, (unused, i) => i * step);
}

// Numbers of the ladder 1-2-5 between low and high, or only powers of ten where that would be too many.
function logTicks(low, high) {
  const digits = Math.log10(high / low) > 2.5 ? [1] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const digit of digits) ticks.push(Number(`${digit}e${power}`));
  }
  return ticks.filter((tick) => tick >= low && tick <= high);
}

// Ticks of a time axis: whole hours or days, at most five, written as short as they can be.
function timeTicks(from, to) {
  const minute = 60e3, hour = 60 * minute, day = 24 * hour;
  const steps = [minute, 5 * minute, 10 * minute, 30 * minute, hour, 3 * hour, 6 * hour, 12 * hour,
    day, 2 * day, 5 * day, 10 * day, 20 * day, 50 * day, 100 * day, 365 * day];
  const step = steps.find((one) => (to - from) / one <= 5) || 1000 * day;
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    const text = new Date(at).toISOString();
    ticks.push([at, step < day ? text.slice(11, 16) + "Z" : step >= 365 * day ? text.slice(0, 7) : text.slice(5, 10)]);
  }
  return ticks;
}

function markPath(kind, x, y, r) {
  if (kind === "square") return `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`;
  if (kind === "triangle") return `M${x},${y - 1.2 * r}l${1.2 * r},${2.2 * r}h${-2.4 * r}z`;
  if (kind === "diamond") return `M${x},${y - 1.3 * r}l${1.3 * r},${1.3 * r}l${-1.3 * r},${1.3 * r}l${-1.3 * r},${-1.3 * r}z`;
  if (kind === "cross") return `M${x - r},${y - r}l${2 * r},${2 * r}M${x + r},${y - r}l${-2 * r},${2 * r}`;
  return `M${x - r},${y}a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0`;
}

// Axes common to both charts; returns the frame with the two scales.
function chartFrame(holder, options) {
  const width = Math.max(holder.clientWidth, 240), height = options.height;
  const left = 50, right = 8, top = 10, bottom = 22;
  holder.replaceChildren();
  const svg = svgNode("svg", { viewBox: `0 0 ${width} ${height}`, height: height, role: "img", "aria-label": options.label }, holder);
  const [from, to] = options.range, high = options.high || 1, low = options.low || 0;
  const x = (at) => left + ((at - from) / Math.max(to - from, 1)) * (width - left - right);
  const share = low > 0 ? (value) => Math.log(Math.max(value, low) / low) / Math.log(high / low) : (value) => value / high;
  const y = (value) => height - bottom - share(value) * (height - top - bottom);
  for (const value of low > 0 ? logTicks(low, high) : linearTicks(high)) {
    svgNode("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }, svg);
    svgNode("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, svg).textContent = numberText(value);
  }
  for (const [at, text] of timeTicks(from, to)) {
    svgNode("text", { x: Math.min(x(at), width - 16), y: height - 5, "text-anchor": "middle" }, svg).textContent = text;
  }
  const cursor = svgNode("line", { class: "cursor", y1: top, y2: height - bottom }, svg);
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    const at = from + (((event.clientX - box.left) * width) / box.width - left) / (width - left - right) * (to - from);
    options.pick(at);
  });
  const moveCursor = (at) => { cursor.setAttribute("x1", x(at)); cursor.setAttribute("x2", x(at)); };
  return { svg, x, y, cursor, moveCursor, top, left, right, width, height };
}

// series: {name, colour, dash, mark, points: [[time, value or null]], width}
function lineChart(holder, series, options) {
  const values = series.flatMap((one) => one.points.map((point) => point[1])).filter((value) => value !== null && isFinite(value));
  const positive = values.filter((value) => value > 0);
  // four decades at most: what lies below is drawn at the bottom
  const low = options.isLog && positive.length ? Math.max(Math.min(...positive) * 0.85, Math.max(...positive) * 1e-4) : 0;
  const frame = chartFrame(holder, { ...options, low, high: values.length ? Math.max(...values, options.least || 0) * 1.06 : 1 });
  const level = options.level;
  if (level && level <= Math.max(...values, options.least || 0) * 1.06) {
    svgNode("line", { x1: frame.left, x2: frame.width - frame.right, y1: frame.y(level), y2: frame.y(level), stroke: "#8492a0" }, frame.svg);
  }
  for (const one of series) {
    let path = "", pen = "M";
    for (const [at, value] of one.points) {
      if (value === null || value === undefined) { pen = "M"; continue; }
      path += `${pen}${frame.x(at).toFixed(1)},${frame.y(value).toFixed(1)}`;
      pen = "L";
    }
    const look = { fill: "none", stroke: one.colour, "stroke-width": one.width, "stroke-dasharray": one.dash || "none", "stroke-linejoin": "round" };
    svgNode("path", { d: path, ...look }, frame.svg);
    if (!one.mark) continue;
    const every = Math.max(1, Math.ceil(one.points.length / 24));
    const marks = one.points.filter((point, i) => i % every === 0 && point[1] !== null && point[1] !== undefined);
    const shape = marks.map(([at, value]) => markPath(one.mark, frame.x(at), frame.y(value), 3)).join("");
    svgNode("path", { d: shape, fill: one.mark === "cross" ? "none" : "white", stroke: one.colour, "stroke-width": 1.4 }, frame.svg);
  }
  return frame;
}

// bars: [[time, {part: value}]]; parts: [{name, colour}]
function barChart(holder, bars, parts, options) {
  const totals = bars.map(([, values]) => parts.reduce((sum, part) => sum + (values[part.name] || 0), 0));
  const frame = chartFrame(holder, { ...options, high: Math.max(...totals, 1e-9) * 1.06 });
  const room = (frame.width - frame.left - frame.right) / Math.max(options.slots, 1);
  const width = Math.max(1, Math.min(room * 0.72, 22));
  for (const [at, values] of bars) {
    let below = 0;
    for (const part of parts) {
      const value = values[part.name] || 0;
      if (!value) continue;
      const x = Math.min(Math.max(frame.x(at) - width / 2, frame.left), frame.width - frame.right - width);
      const top = frame.y(below + value);
      svgNode("rect", { x: x.toFixed(1), y: top.toFixed(1), width: width.toFixed(1), height: Math.max(frame.y(below) - top, 0.5).toFixed(1), fill: part.colour }, frame.svg);
      below += value;
    }
  }
  frame.svg.appendChild(frame.cursor);
  return frame;
}
