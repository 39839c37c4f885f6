// ---- moving
function goTo(k) {
  state.k = (k + allTimes.length) % allTimes.length;
  showMap();
  moveCursors();
  showArchive();
  showPrevious();
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
  showCalibration();
  showPrevious();
  rememberPlace();
}

function rememberPlace() {
  const place = new URLSearchParams({ chain: chain().name, figure: state.figure || "" });
  if (state.k < allTimes.length - 1) place.set("time", allTimes[state.k]);  // the newest stays the newest after a reload
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
byId("calibration-group").addEventListener("change", showCalibration);
byId("log").addEventListener("change", showCharts);
byId("watched").addEventListener("change", showCharts);
byId("safe-colours").addEventListener("change", () => { showMap(); showCharts(); });
let resizing = 0;
addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(showCharts, 120); });
readPlace();
fillChoices();
byId("log").checked = spansDecades();
show();
