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
  domain: "outside", blacklist: "blacklisted", h_failed: "H failed", thinned: "thinned", first_guess: "far from background", buddy: "clutter" };
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
  const isDegraded = last.degraded.length > 0, isFallback = last.fallback !== "full";
  const isStale = data.stale_after !== null && (Date.now() - Date.parse(last.time)) / 1000 > data.stale_after;
  const age = [isStale ? "! STALE" : "", ageText(last.time), last.delivery === "early" ? "early: late observations may still come" : ""];
  const tiles = [
    ["Newest cycle", clockText(last.time), age.filter(Boolean).join(", "), isStale ? "bad" : ""],
    ["State", isFallback ? `! Degraded: fallback ${last.fallback.replaceAll("_", " ")}` : isDegraded ? "! Degraded" : "✓ Complete", isDegraded ? last.degraded.join("; ") : "all stages done", isDegraded ? "bad" : "good"],
    ...forecastTile(),
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
  const notice = forecastNotice(one, figure);
  byId("figure-notice").textContent = notice ? `! ${notice}` : "";
  byId("figure-notice").hidden = !notice;
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
  if (figure.kind === "map" || !figure.variable || figure.kind === "departures") return figure.kind === "map" ? figure.variable : figure.kind;
  return data.variables.length > 1 ? `${figure.kind} ${figure.variable}` : figure.kind;
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
