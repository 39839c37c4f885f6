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
  showMonitoring();
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

// Files that forecasters open; the others are unfolded.
const MAIN_FILES = ["analysis.nc", "forecast_products.nc"];

function fileLink(one, file) {
  const link = element("a", "", file);
  link.href = encodeURI(`${one.folder}/${file}`);
  return link;
}

function archiveRow(one) {
  const tr = element("tr"), when = element("td"), files = element("td", "text files");
  tr.dataset.time = one.time;
  const go = element("button", "link", clockText(one.time));
  go.type = "button";
  go.addEventListener("click", () => { stop(); goTo(allTimes.indexOf(one.time)); });
  when.append(go);
  const isMain = (file) => MAIN_FILES.includes(file), others = one.files.filter((file) => !isMain(file));
  for (const file of one.files.filter(isMain)) files.append(fileLink(one, file), " ");
  if (others.length) {
    const more = element("details");
    more.append(element("summary", "", `${others.length} more`), ...others.flatMap((file) => [fileLink(one, file), " "]));
    files.append(more);
  }
  const score = one.scores.analysis && one.scores.analysis.all ? one.scores.analysis.all.rmse : null;
  const stateCell = one.degraded.length ? element("td", "text state-bad", `! ${one.degraded.join("; ")}`) : element("td", "text state-good", "✓ complete");
  tr.append(when, stateCell, element("td", "", one.counts.used === undefined ? "–" : String(one.counts.used)), element("td", "", numberText(score)), files);
  return tr;
}
