// ---- calibration: what the intervals of the ensemble were worth, and the previous forecast, valid now
function percentText(share) {
  return share === null || share === undefined ? "–" : `${Number((100 * share).toFixed(1))} %`;
}

function chosenGroup() {
  const groups = (chain().calibration || {}).groups || [];
  return groups.find((one) => `${one.kind} ${one.name}` === byId("calibration-group").value) || groups[0];
}

function fillGroups() {
  const groups = (chain().calibration || {}).groups || [], select = byId("calibration-group"), before = select.value;
  select.replaceChildren(...groups.map((one) => new Option(`${one.kind === "background" ? "forecast" : "analysis"}, ${one.name}`, `${one.kind} ${one.name}`)));
  if (groups.some((one) => `${one.kind} ${one.name}` === before)) select.value = before;
}

function showCalibration() {
  const content = chain().calibration || {};
  byId("calibration-card").hidden = !(content.groups || []).length;
  if (byId("calibration-card").hidden) return;
  fillGroups();
  const one = chosenGroup();
  drawCoverage(one);
  drawRanks(one);
  drawReliability(one);
  const chi = one.chi_square, crps = one.fair_crps;
  byId("calibration-note").textContent = `${one.sample}. Cycles ${content.window}: ${one.n_obs} observations. ` +
    `Squared innovations over what spread and error expect: ${numberText(chi[0])}${intervalText(chi)}; 1 is right. ` +
    `Fair CRPS ${numberText(crps[0])}${one.units === "1" ? "" : ` ${one.units}`}.`;
  byId("calibration-alerts").replaceChildren(...content.alerts.map((text) => element("li", "", `! ${text}`)));
}

function intervalText(triple) {
  return triple[1] === null ? "" : ` (${numberText(triple[1])} to ${numberText(triple[2])})`;
}

function plotArea(id, label, width, height) {
  const svg = svgNode("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  svgNode("title", {}, svg).textContent = label;
  byId(id).replaceChildren(svg);
  return svg;
}

function drawCoverage(one) {
  const shown = one.coverage.filter((each) => each.value !== null), width = 240, height = 150, left = 42, bottom = 22;
  const words = shown.map((each) => `${each.level} % interval holds ${percentText(each.value)}`).join(", ");
  const svg = plotArea("coverage-chart", `Coverage of ${one.name}: ${words || "the ensemble is too small"}`, width, height);
  const y = (share) => 8 + (1 - share) * (height - bottom - 8);
  for (const share of [0, 0.5, 1]) {
    svgNode("line", { x1: left, x2: width, y1: y(share), y2: y(share), stroke: "#d5dce2" }, svg);
    svgNode("text", { x: left - 6, y: y(share) + 4, "text-anchor": "end", class: "tick" }, svg).textContent = `${100 * share}%`;
  }
  shown.forEach((each, i) => {
    const x = left + (width - left) * (i + 0.5) / shown.length;
    svgNode("rect", { x: x - 15, y: y(each.value), width: 30, height: y(0) - y(each.value), fill: "#0072b2" }, svg);
    svgNode("line", { x1: x - 24, x2: x + 24, y1: y(each.level / 100), y2: y(each.level / 100), stroke: "#1d2733", "stroke-width": 2.4 }, svg);
    if (each.low !== null) svgNode("line", { x1: x, x2: x, y1: y(Math.max(each.low, 0)), y2: y(Math.min(each.high, 1)), stroke: "#e69f00", "stroke-width": 2.4 }, svg);
    svgNode("text", { x, y: height - 6, "text-anchor": "middle", class: "tick" }, svg).textContent = `${each.level} %: ${percentText(each.value)}`;
  });
}

function drawRanks(one) {
  const width = 240, height = 150, left = 8, bottom = 22, flat = 1 / one.ranks.length, top = Math.max(...one.ranks, 2 * flat);
  const outer = one.ranks[0] + one.ranks[one.ranks.length - 1];
  const label = `Rank histogram of ${one.name}: ${percentText(outer)} of the observations lie outside all members, ${percentText(2 * flat)} should`;
  const svg = plotArea("rank-chart", label, width, height), step = (width - left) / one.ranks.length;
  const y = (share) => 8 + (1 - share / top) * (height - bottom - 8);
  one.ranks.forEach((share, i) => svgNode("rect", { x: left + i * step, y: y(share), width: Math.max(step - 1, 1), height: y(0) - y(share), fill: "#7c93a8" }, svg));
  svgNode("line", { x1: left, x2: width, y1: y(flat), y2: y(flat), stroke: "#1d2733", "stroke-width": 1.6, "stroke-dasharray": "5 3" }, svg);
  svgNode("text", { x: left, y: height - 6, class: "tick" }, svg).textContent = "below all members";
  svgNode("text", { x: width, y: height - 6, "text-anchor": "end", class: "tick" }, svg).textContent = "above all";
}

function drawReliability(one) {
  byId("reliability-part").hidden = !one.reliability.length;
  if (!one.reliability.length) return;
  const size = 150, left = 30, bottom = 22, x = (p) => left + p * (size + 60 - left), y = (f) => 8 + (1 - f) * (size - bottom - 8);
  const words = one.reliability.map((each) => `at or above ${numberText(each.threshold)}: ${each.points.length} probabilities`).join(", ");
  const svg = plotArea("reliability-chart", `Reliability of ${one.name}, observed frequency against forecast probability; ${words}`, size + 64, size);
  svgNode("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), stroke: "#1d2733", "stroke-dasharray": "5 3" }, svg);
  one.reliability.forEach((each, i) => {
    const colour = data.colours[i % data.colours.length], most = Math.max(...each.points.map((point) => point[2]));
    each.points.forEach(([p, f, n]) => svgNode("circle", { cx: x(p), cy: y(f), r: 1.2 + 3 * Math.sqrt(n / most), fill: colour, "fill-opacity": 0.75 }, svg));
    svgNode("text", { x: x(0) + 4, y: 18 + 13 * i, class: "tick own", style: `color: ${colour}` }, svg).textContent = `≥ ${numberText(each.threshold)}`;
  });
  svgNode("text", { x: x(0.5), y: size - 6, "text-anchor": "middle", class: "tick" }, svg).textContent = "forecast probability";
  for (const share of [0, 1]) svgNode("text", { x: left - 5, y: y(share) + 4, "text-anchor": "end", class: "tick" }, svg).textContent = String(share);
}

function showPrevious() {
  const one = cycle(), scores = one && one.scores.background, card = byId("previous-card");
  card.hidden = !scores;
  if (!scores) return;
  const before = chain().cycles[chain().cycles.indexOf(one) - 1];
  byId("previous-when").textContent = `${before ? `from ${clockText(before.time)}, ` : ""}valid ${clockText(one.time)}`;
  const head = element("thead"), line = element("tr"), body = element("tbody"), persistence = one.scores.persistence || {};
  line.append(element("th", "text", "Variable"), ...["RMSE", "Persistence", "Bias", "Fair CRPS", "Spread / skill"].map((name) => element("th", "", name)));
  head.append(line);
  for (const [variable, found] of Object.entries(scores)) {
    const tr = element("tr"), unit = variable === "all" ? "" : unitOf(variable), still = persistence[variable] || {};
    tr.append(element("td", "text", variable === "all" ? "all, normalised" : `${variable}${unit ? ` (${unit})` : ""}`),
      ...[found.rmse, still.rmse, found.bias, found.fair_crps, found.spread_skill].map((value) => element("td", "", numberText(value))));
    body.append(tr);
  }
  byId("previous").replaceChildren(head, body);
  const fits = Object.entries((one.calibration || {}).background || {}).map(([name, each]) => `${name} ${numberText(each.chi_square)}`);
  byId("previous-note").textContent = fits.length ? `Trailing chi-square of the forecast, by observations: ${fits.join(", ")} (1 is right).` : "";
}
