// The page: one time line over all chains, one state, one function that shows it.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const chains = data.chains.filter((chain) => chain.cycles.length);
const allTimes = [...new Set(chains.flatMap((chain) => chain.cycles.map((cycle) => cycle.time)))].sort();
const moments = allTimes.map((time) => Date.parse(time));
chains.forEach((chain, i) => {
  chain.colour = data.colours[i % data.colours.length];
  chain.mark = MARKS[i % MARKS.length];
  chain.at = new Map(chain.cycles.map((cycle) => [cycle.time, cycle]));
});
const figureKeys = [...new Set(chains.flatMap((chain) => chain.cycles.flatMap((cycle) => cycle.figures.map((figure) => figure.file))))];
const SCORE_NAMES = { rmse: "RMSE", fair_crps: "Fair CRPS", spread: "Spread", spread_skill: "Spread / skill" };
const FLAG_NAMES = { used: "used", passive: "withheld", missing: "missing", pre_qc: "flagged before", bounds: "out of bounds",
  domain: "outside", blacklist: "blacklisted", h_failed: "H failed", thinned: "thinned", first_guess: "far from background" };
const PART_COLOURS = ["#7c93a8", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b8ad3d", "#3b4856", "#9a6324"];

const state = { chain: firstChain(), k: allTimes.length - 1, figure: figureKeys[0], score: "rmse", variable: "all", timer: null };
let frames = [];

function firstChain() {
  const newest = Math.max(...chains.map((chain) => Date.parse(chain.cycles[chain.cycles.length - 1].time)));
  const index = chains.findIndex((chain) => chain.name !== "free_run" && Date.parse(chain.cycles[chain.cycles.length - 1].time) === newest);
  return Math.max(index, 0);
}

function element(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function clockText(time) {
  const day = new Date(time).toLocaleDateString("en-GB", { weekday: "short", timeZone: "UTC" });
  const seconds = time.slice(17, 19);
  return `${time.slice(0, 10)} ${time.slice(11, 13)}${time.slice(14, 16)}${seconds === "00" ? "" : seconds}Z (${day})`;
}

function ageText(time) {
  const minutes = Math.round((Date.now() - Date.parse(time)) / 60e3);
  if (minutes < 0) return `valid ${spanText(-minutes)} from now`;
  return `age ${spanText(minutes)} by valid time`;
}

function spanText(minutes) {
  if (minutes < 120) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  const days = Math.floor(minutes / 1440);
  return days < 730 ? `${days} d` : `${Math.floor(days / 365.25)} years`;
}

function unitOf(name) {
  const variable = data.variables.find((one) => one.name === name);
  return variable ? variable.units : "";
}

const chain = () => chains[state.chain];
const cycle = () => chain().at.get(allTimes[state.k]);
const isSafe = () => byId("safe-colours").checked;
const flagName = (key) => FLAG_NAMES[key] || key.replaceAll("_", " ");

// ---- status strip
function showStatus() {
  const last = chain().cycles[chain().cycles.length - 1];
  const used = last.counts.used;
  const others = Object.entries(last.counts).filter(([key, count]) => key !== "used" && count > 0)
    .map(([key, count]) => `${count} ${flagName(key)}`).join(", ");
  const isDegraded = last.degraded.length > 0;
  const tiles = [
    ["Newest cycle", clockText(last.time), ageText(last.time)],
    ["State", isDegraded ? "! Degraded" : "✓ Complete", isDegraded ? last.degraded.join("; ") : "all stages done", isDegraded ? "bad" : "good"],
    ["Cycles", String(chain().n_complete), chain().n_complete > chain().cycles.length ? `newest ${chain().cycles.length} shown` : "complete"],
    ["Members", chain().members || "–", ""],
    ["Observations", used === undefined ? "–" : `${used} used`, others || (used === undefined ? "none at the start" : "none withheld or rejected")],
    ["Scheme", chain().scheme, chain().name === chain().scheme ? "" : `chain ${chain().name}`],
    ["Weights", chain().model ? chain().model.slice(0, 12) : "none", ""],
  ];
  byId("status").replaceChildren(...tiles.map(([name, value, more, look]) => {
    const tile = element("div", `tile ${look || ""}`);
    tile.append(element("span", "name", name), element("span", "value" + (name === "Weights" ? " mono" : ""), value));
    if (more) tile.append(element("span", "more", more));
    return tile;
  }));
}

// ---- maps
function figureOf(one, key) {
  return one && one.figures.find((figure) => figure.file === key);
}

function sourceOf(one, figure) {
  return encodeURI(`${one.folder}/plots/${isSafe() && figure.safe_file ? figure.safe_file : figure.file}`);
}

function showMap() {
  const one = cycle(), figure = figureOf(one, state.figure), image = byId("map"), gap = byId("gap");
  if (figure) {
    const source = sourceOf(one, figure);
    if (image.getAttribute("src") !== source) image.src = source;
    image.alt = figure.alt;
    image.width = figure.width;
    image.height = figure.height;
    byId("map-link").href = source;
    byId("alt").textContent = figure.alt;
  } else {
    gap.textContent = one ? "This cycle has no such figure." : `Chain ${chain().name} has no complete cycle at this time.`;
    byId("alt").textContent = gap.textContent;
    image.alt = gap.textContent;
  }
  image.classList.toggle("absent", !figure);
  gap.hidden = Boolean(figure);
  byId("when").textContent = clockText(allTimes[state.k]);
  byId("slider").value = state.k;
  byId("slider").setAttribute("aria-valuetext", clockText(allTimes[state.k]));
  for (const ahead of [1, 2, 3, -1]) {
    const near = chain().at.get(allTimes[(state.k + ahead + allTimes.length) % allTimes.length]);
    const wanted = figureOf(near, state.figure);
    if (wanted) new Image().src = sourceOf(near, wanted);
  }
}

function figureName(key) {
  const figure = chains.flatMap((one) => one.cycles).flatMap((one) => one.figures).find((one) => one.file === key);
  return figure.kind === "departures" ? "departures" : figure.variable || figure.kind;
}

function fillChoices() {
  byId("chains").replaceChildren(...chains.map((one, i) => {
    const button = element("button", "", "");
    const dot = element("span", "dot");
    dot.style.background = one.colour;
    button.append(dot, one.name);
    button.type = "button";
    button.addEventListener("click", () => { state.chain = i; show(); });
    return button;
  }));
  byId("figures").replaceChildren(...figureKeys.map((key) => {
    const button = element("button", "", figureName(key));
    button.type = "button";
    button.addEventListener("click", () => { state.figure = key; show(); });
    return button;
  }));
  const variables = ["all", ...data.variables.map((one) => one.name)];
  fillSelect("score", data.score_names.map((name) => [name, SCORE_NAMES[name] || name]), (value) => { state.score = value; });
  fillSelect("variable", variables.map((name) => [name, name === "all" ? "all, normalised" : name]), (value) => { state.variable = value; });
  fillSelect("table-variable", variables.map((name) => [name, name === "all" ? "all, normalised" : name]), () => {});
  fillSelect("range", Object.keys(data.tables).map((name) => [name, name]), () => {});
}

function fillSelect(id, entries, choose) {
  const select = byId(id);
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
  select.addEventListener("change", () => { choose(select.value); showCharts(); showTable(); });
}

function markChoices() {
  [...byId("chains").children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === state.chain)));
  [...byId("figures").children].forEach((button, i) => button.setAttribute("aria-pressed", String(figureKeys[i] === state.figure)));
}

// ---- charts
function scoreSeries() {
  const series = [];
  const value = (one, field) => {
    const found = one && one.scores[field] && one.scores[field][state.variable];
    return found && found[state.score] !== undefined ? found[state.score] : null;
  };
  for (const one of chains) {
    for (const field of ["background", "analysis"]) {
      const points = one.cycles.map((each) => [Date.parse(each.time), value(each, field)]);
      if (!points.some((point) => point[1] !== null)) continue;
      const isAnalysis = field === "analysis";
      series.push({ name: `${one.name}, ${field}`, colour: one.colour, dash: isAnalysis ? "" : "3 3", mark: isSafe() && isAnalysis ? one.mark : "",
        width: one === chain() ? (isAnalysis ? 2.6 : 1.6) : isAnalysis ? 1.4 : 1, points, read: (k) => value(one.at.get(allTimes[k]), field) });
    }
  }
  const others = Object.keys(Object.assign({}, ...chain().cycles.map((one) => one.scores))).filter((name) => name !== "background" && name !== "analysis");
  others.forEach((name, i) => {
    const points = chain().cycles.map((one) => [Date.parse(one.time), value(one, name)]);
    if (!points.some((point) => point[1] !== null)) return;
    series.push({ name, colour: ["#6b7681", "#a08a5b", "#7d6b8f"][i % 3], dash: "1 3", mark: "", width: 1.6, points, read: (k) => value(chain().at.get(allTimes[k]), name) });
  });
  return series;
}

function swatch(one) {
  const svg = svgNode("svg", { width: 24, height: 10, "aria-hidden": "true" });
  if (one.dash === undefined) svgNode("rect", { x: 7, y: 0, width: 10, height: 10, fill: one.colour }, svg);
  else svgNode("line", { x1: 0, x2: 24, y1: 5, y2: 5, stroke: one.colour, "stroke-width": Math.max(one.width, 1.6), "stroke-dasharray": one.dash || "none" }, svg);
  if (one.mark) svgNode("path", { d: markPath(one.mark, 12, 5, 3), fill: "white", stroke: one.colour, "stroke-width": 1.4 }, svg);
  return svg;
}

function fillLegend(id, entries) {
  byId(id).replaceChildren(...entries.map((one) => {
    const line = element("span");
    line.append(swatch(one), element("span", "stands", one.text), element("b", "", one.value));
    return line;
  }));
}

function chartOptions(height, label) {
  const pad = moments.length > 1 ? (moments[moments.length - 1] - moments[0]) / (moments.length - 1) / 2 : 3600e3;
  return { height, label, range: [moments[0] - pad, moments[moments.length - 1] + pad], pick: (at) => { stop(); goTo(nearest(at)); }, slots: moments.length };
}

function nearest(at) {
  return moments.reduce((best, moment, k) => (Math.abs(moment - at) < Math.abs(moments[best] - at) ? k : best), 0);
}

// True when the scores of the chains differ so much that a linear axis would hide the good ones.
function spansDecades() {
  const values = scoreSeries().flatMap((one) => one.points.map((point) => point[1])).filter((value) => value > 0);
  return values.length > 0 && Math.max(...values) > 8 * Math.min(...values);
}

let legends = [];
function showCharts() {
  const series = scoreSeries();
  byId("score-card").hidden = !chains.some((one) => one.cycles.some((each) => Object.keys(each.scores).length));
  const counted = partsOf("counts"), costed = partsOf("seconds");
  byId("count-card").hidden = !counted.length;
  byId("cost-card").hidden = !costed.length;
  frames = [];
  legends = [];
  if (!byId("score-card").hidden) {
    const label = `${SCORE_NAMES[state.score] || state.score} of ${state.variable} over the cycles of all chains`;
    frames.push(lineChart(byId("score-chart"), series, { ...chartOptions(210, label), level: state.score === "spread_skill" ? 1 : 0, isLog: byId("log").checked }));
    const unit = state.variable === "all" || state.score === "spread_skill" ? "" : ` ${unitOf(state.variable)}`;
    legends.push(() => fillLegend("score-legend", series.map((one) => ({ ...one, text: one.name, value: numberText(one.read(state.k)) + unit }))));
  }
  for (const [kind, parts, height, unit] of [["count", counted, 120, ""], ["cost", costed, 120, " s"]]) {
    if (!parts.length) continue;
    const field = kind === "count" ? "counts" : "seconds";
    const bars = chain().cycles.map((one) => [Date.parse(one.time), one[field]]);
    const label = kind === "count" ? `Observations of chain ${chain().name} by flag` : `Seconds of each stage of chain ${chain().name}`;
    frames.push(barChart(byId(`${kind}-chart`), bars, parts, chartOptions(height, label)));
    legends.push(() => fillLegend(`${kind}-legend`, parts.map((part) => {
      const value = cycle() && cycle()[field][part.name];
      return { colour: part.colour, text: part.text, value: value === undefined || value === null ? "–" : numberText(value) + unit };
    })));
  }
  moveCursors();
}

function partsOf(field) {
  const names = Object.keys(Object.assign({}, ...chain().cycles.map((one) => one[field])));
  const seen = names.filter((name) => chain().cycles.some((one) => one[field][name] > 0));
  return seen.map((name, i) => ({ name, colour: PART_COLOURS[i % PART_COLOURS.length], text: field === "counts" ? flagName(name) : name.replaceAll("_", " ") }));
}

function moveCursors() {
  frames.forEach((frame) => frame.moveCursor(moments[state.k]));
  legends.forEach((fill) => fill());
}

// ---- tables
function showTable() {
  const rows = data.tables[byId("range").value] || [], variable = byId("table-variable").value;
  const present = rows.filter((row) => row.scores[variable]);
  byId("table-card").hidden = !rows.length;
  const best = {};
  for (const name of data.score_names) {
    const of = (row) => (name === "spread_skill" ? Math.abs(Math.log(row.scores[variable][name] || NaN)) : row.scores[variable][name]);
    const values = present.filter((row) => row.field === "analysis" && isFinite(of(row)) && name !== "spread").map(of);
    best[name] = (row) => row.field === "analysis" && name !== "spread" && of(row) === Math.min(...values);
  }
  const unit = variable === "all" ? "" : unitOf(variable);
  const head = element("thead"), line = element("tr"), body = element("tbody");
  line.append(element("th", "", "Chain"), element("th", "text", "Field"), element("th", "", "Cycles"),
    ...data.score_names.map((name) => element("th", "", (SCORE_NAMES[name] || name) + (unit && name !== "spread_skill" ? ` (${unit})` : ""))));
  head.append(line);
  for (const row of present) {
    const tr = element("tr", row.field), first = element("td");
    const dot = element("span", "dot");
    dot.style.background = (chains.find((one) => one.name === row.chain) || { colour: "#8492a0" }).colour;
    first.append(dot, row.chain || "reference");
    tr.append(first, element("td", "text", row.field.replaceAll("_", " ")), element("td", "", String(row.n_cycles)));
    for (const name of data.score_names) tr.append(element("td", best[name](row) ? "best" : "", numberText(row.scores[variable][name])));
    body.append(tr);
  }
  byId("scores").replaceChildren(head, body);
}

let archiveOf = null;
function showArchive() {
  byId("archive-chain").textContent = chain().name;
  if (archiveOf !== chain()) {
    const head = element("thead"), line = element("tr"), body = element("tbody");
    line.append(element("th", "", "Valid"), element("th", "text", "State"), element("th", "", "Used"), element("th", "", "Analysis RMSE"), element("th", "text", "Files"));
    head.append(line);
    for (const one of [...chain().cycles].reverse()) body.append(archiveRow(one));
    byId("archive").replaceChildren(head, body);
    archiveOf = chain();
  }
  for (const tr of byId("archive").tBodies[0].rows) tr.classList.toggle("chosen", tr.dataset.time === allTimes[state.k]);
}

function archiveRow(one) {
  const tr = element("tr"), when = element("td"), files = element("td", "text files");
  tr.dataset.time = one.time;
  const go = element("button", "link", clockText(one.time));
  go.type = "button";
  go.addEventListener("click", () => { stop(); goTo(allTimes.indexOf(one.time)); });
  when.append(go);
  for (const file of one.files) {
    const link = element("a", "", file);
    link.href = encodeURI(`${one.folder}/${file}`);
    files.append(link, " ");
  }
  const score = one.scores.analysis && one.scores.analysis.all ? one.scores.analysis.all.rmse : null;
  const stateCell = one.degraded.length ? element("td", "text state-bad", `! ${one.degraded.join("; ")}`) : element("td", "text state-good", "✓ complete");
  tr.append(when, stateCell, element("td", "", one.counts.used === undefined ? "–" : String(one.counts.used)), element("td", "", numberText(score)), files);
  return tr;
}

// ---- moving
function goTo(k) {
  state.k = (k + allTimes.length) % allTimes.length;
  showMap();
  moveCursors();
  showArchive();
  rememberPlace();
}

function play() {
  if (state.timer) return stop();
  state.timer = setInterval(() => goTo(state.k + 1), Number(byId("speed").value));
  byId("play").textContent = "Pause";
  byId("play").setAttribute("aria-pressed", "true");
}

function stop() {
  clearInterval(state.timer);
  state.timer = null;
  byId("play").textContent = "Play";
  byId("play").setAttribute("aria-pressed", "false");
}

function show() {
  markChoices();
  showStatus();
  showMap();
  showCharts();
  showTable();
  showArchive();
  rememberPlace();
}

function rememberPlace() {
  const place = new URLSearchParams({ chain: chain().name, time: allTimes[state.k], figure: state.figure || "" });
  history.replaceState(null, "", `#${place}`);
}

function readPlace() {
  const place = new URLSearchParams(location.hash.slice(1));
  const index = chains.findIndex((one) => one.name === place.get("chain"));
  if (index >= 0) state.chain = index;
  if (allTimes.includes(place.get("time"))) state.k = allTimes.indexOf(place.get("time"));
  if (figureKeys.includes(place.get("figure"))) state.figure = place.get("figure");
}

const KEYS = {
  ArrowLeft: () => { stop(); goTo(state.k - 1); },
  ArrowRight: () => { stop(); goTo(state.k + 1); },
  ArrowUp: () => { state.chain = (state.chain + chains.length - 1) % chains.length; show(); },
  ArrowDown: () => { state.chain = (state.chain + 1) % chains.length; show(); },
  Home: () => { stop(); goTo(0); },
  End: () => { stop(); goTo(allTimes.length - 1); },
  " ": play,
};

document.addEventListener("keydown", (event) => {
  const target = event.target, isTyping = target.matches("select, textarea, input:not([type=range])");
  const isPressing = event.key === " " && target.matches("button, summary, a");
  if (isTyping || isPressing || event.ctrlKey || event.altKey || event.metaKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});
// A button clicked with the mouse gives the keyboard back to the loop.
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button && event.detail > 0) button.blur();
});
byId("back").addEventListener("click", KEYS.ArrowLeft);
byId("forward").addEventListener("click", KEYS.ArrowRight);
byId("play").addEventListener("click", play);
byId("slider").max = allTimes.length - 1;
byId("slider").addEventListener("input", (event) => { stop(); goTo(Number(event.target.value)); });
byId("speed").addEventListener("change", () => { if (state.timer) { stop(); play(); } });
byId("log").addEventListener("change", showCharts);
byId("safe-colours").addEventListener("change", () => { showMap(); showCharts(); });
let resizing = 0;
addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(showCharts, 120); });
readPlace();
fillChoices();
byId("log").checked = spansDecades();
show();
