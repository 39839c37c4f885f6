// Monitoring over time: the state of every cycle of the chain, and one watched number with the level that is right.

const STATES = [
  ["complete", "#009e73", (one) => one.exit_code === 0],
  ["no observations", "#6b7681", (one) => one.exit_code === 4],
  ["lower rung", "#d55e00", (one) => one.fallback !== "full"],
  ["degraded", "#e69f00", () => true],
];
const WATCHED = { chi_square: ["Chi-square of innovations, trailing", 1], coverage_90: ["Coverage of the 90 % interval, trailing", 0.9] };
const FORECAST_KINDS = ["forecast", "stamps", "objects", "meteogram", "loop"];

function stateOf(one) {
  return STATES.find(([, , holds]) => holds(one));
}

// What may be watched: calibration by kind of ensemble, then the diagnostics of the scheme.
function watchedNames() {
  const kinds = ["background", "analysis"].flatMap((kind) => Object.keys(WATCHED).map((name) => [`${kind}|${name}`, `${WATCHED[name][0]}: ${kind}`]));
  const scheme = [...new Set(chain().cycles.flatMap((one) => Object.keys(one.diagnostics)))].sort();
  return [...kinds, ...scheme.map((name) => [`scheme|${name}`, `Scheme: ${name.replaceAll("_", " ")}`])]
    .filter(([key]) => watchedSeries(key).length);
}

function watchedSeries(key) {
  const [kind, name] = key.split("|");
  const read = (one, group) => (!one ? null : kind === "scheme" ? one.diagnostics[name] : ((one.calibration[kind] || {})[group] || {})[name]);
  const groups = kind === "scheme" ? [name] : [...new Set(chain().cycles.flatMap((one) => Object.keys(one.calibration[kind] || {})))].sort();
  return groups.map((group, i) => ({
    name: group.replaceAll("_", " "), colour: data.colours[i % data.colours.length], dash: "", mark: isSafe() ? MARKS[i % MARKS.length] : "", width: 1.8,
    points: chain().cycles.map((one) => [Date.parse(one.time), read(one, group) ?? null]), read: (k) => read(chain().at.get(allTimes[k]), group),
  })).filter((one) => one.points.some((point) => point[1] !== null));
}

// Draws the card and adds its cursor and legend to those of the other charts.
function showMonitoring() {
  const names = watchedNames(), picker = byId("watched"), before = picker.value;
  drawStates();
  byId("watched-part").hidden = !names.length;
  if (!names.length) return;
  picker.replaceChildren(...names.map(([value, text]) => new Option(text, value)));
  if (names.some(([value]) => value === before)) picker.value = before;
  const series = watchedSeries(picker.value), [, name] = picker.value.split("|");
  const label = `${names.find(([value]) => value === picker.value)[1]} over the cycles of chain ${chain().name}`;
  const level = name in WATCHED ? WATCHED[name][1] : 0;
  frames.push(lineChart(byId("watched-chart"), series, { ...chartOptions(140, label), level, least: level }));
  legends.push(() => fillLegend("watched-legend", series.map((one) => ({ ...one, text: one.name, value: numberText(one.read(state.k)) }))));
}

function drawStates() {
  const holder = byId("state-chart"), options = chartOptions(0, ""), width = Math.max(holder.clientWidth, 240), left = 50, right = 8, height = 26;
  const counts = STATES.map(([name]) => [name, chain().cycles.filter((one) => stateOf(one)[0] === name).length]).filter(([, count]) => count);
  const label = `State of the ${chain().cycles.length} cycles of chain ${chain().name}: ${counts.map(([name, count]) => `${count} ${name}`).join(", ")}`;
  holder.replaceChildren();
  const svg = svgNode("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label }, holder);
  const x = (at) => left + ((at - options.range[0]) / Math.max(options.range[1] - options.range[0], 1)) * (width - left - right);
  const room = Math.max((width - left - right) / Math.max(options.slots, 1), 1);
  for (const one of chain().cycles) {
    const [name, colour] = stateOf(one), size = Math.max(room * 0.86, 1);
    const box = svgNode("rect", { x: (x(Date.parse(one.time)) - size / 2).toFixed(1), y: 2, width: size.toFixed(1), height: height - 4, fill: colour }, svg);
    svgNode("title", {}, box).textContent = `${clockText(one.time)}: ${name}${one.degraded.length ? `: ${one.degraded.join("; ")}` : ""}`;
    box.addEventListener("click", () => { stop(); goTo(allTimes.indexOf(one.time)); });
  }
  const cursor = svgNode("line", { class: "cursor", y1: 0, y2: height }, svg);
  frames.push({ moveCursor: (at) => { cursor.setAttribute("x1", x(at)); cursor.setAttribute("x2", x(at)); } });
  legends.push(() => fillLegend("state-legend", counts.map(([name, count]) => ({ colour: STATES.find((one) => one[0] === name)[1], text: name, value: String(count) }))));
}

// ---- forecasts that are over
function isExpired(one) {
  return data.stale_after !== null && Date.now() > Date.parse(one.forecast_until);
}

// What a figure of a forecast must say about itself; nothing for other figures and for the forecast that holds.
function forecastNotice(one, figure) {
  if (!figure || !FORECAST_KINDS.includes(figure.kind) || !one.forecast_until) return "";
  const later = chain().cycles.filter((each) => each.forecast_until && each.time > one.time);
  if (later.length) return `SUPERSEDED by the forecast from ${clockText(later[later.length - 1].time)}`;
  return isExpired(one) ? `EXPIRED: this forecast ended at ${clockText(one.forecast_until)}` : "";
}

function forecastTile() {
  const last = [...chain().cycles].reverse().find((one) => one.forecast_until);
  if (!last) return [];
  const over = isExpired(last);
  return [["Forecast", over ? "! EXPIRED" : `until ${clockText(last.forecast_until)}`, over ? `ended at ${clockText(last.forecast_until)}` : `from ${clockText(last.time)}`, over ? "bad" : ""]];
}
