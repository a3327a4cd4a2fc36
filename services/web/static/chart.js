// Draws the server's figure: it gives each trace's role its colour, light or dark, shows times in the person's zone, and
// draws it the way the person has chosen. Says which step they point at and which paths are there; counts nothing.
import { fetchPaths } from "./paths.js";
import { zoneName } from "./times.js";
import { showChoices, view } from "./view.js";
import { language, say } from "./words.js";

const MOST_PATHS_DRAWN = 100;

let figure = null; // as the server sent it
let paths = null; // of the same forecast
let source = null; // where the figure came from
let shown = null; // the same, with how much of what then happened is in it

/** The element that holds the chart, where there is a forecast. */
export const chartPlace = () => document.getElementById("chart");

const probe = document.createElement("span");
probe.hidden = true;

/** A colour of page.css as the browser resolves it now. */
export function colour(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

export const withAlpha = (rgb, alpha) => rgb.replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);

const bandStyle = (alpha, name = "mean") => ({ fillcolor: withAlpha(colour(name), alpha) });

const BAND = /^(recalibrated )?band (\d+)$/;
const bandsThereAre = () => figure.data.filter(({ name, meta }) => name && BAND.test(meta.role));
const isRecalibrated = ({ meta }) => meta.role.startsWith("recalibrated ");

/** What a trace is called in the hover, where its role alone does not say it. */
function nameOf({ name, meta: { role, kind } }) {
  const [, recalibrated, level] = role.match(BAND) ?? [];
  if (!level || !name) return {};
  if (recalibrated) return { name: say("chart.band_recalibrated", { level }) };
  const raw = kind === "range" ? say("chart.range") : say("chart.band", { level });
  return { name: bandsThereAre().some(isRecalibrated) ? `${raw}, ${say("chart.raw")}` : raw };
}

/** Either the raw bands or the recalibrated ones, as the person wants it; where there are none of these, raw. */
function withChosenBands(all) {
  const wanted = view.bands === "recalibrated" && bandsThereAre().some(isRecalibrated);
  return all.filter((trace) => !BAND.test(trace.meta.role) || isRecalibrated(trace) === wanted);
}

const WATERMARKS = { "SIMULATED DATA": "notice.simulated", "RECORDED DATA": "notice.recorded", "UPLOADED DATA": "notice.uploaded", "BUNDLED MODEL": "notice.bundled" };

// Plotly knows the names of months in English only; elsewhere dates are numbers.
const NUMBERED_DATES = {
  hoverformat: "%Y-%m-%d %H:%M",
  tickformatstops: [
    { dtickrange: [null, 86_399_999], value: "%H:%M\n%m-%d" },
    { dtickrange: [86_400_000, null], value: "%m-%d\n%Y" },
  ],
};

const styles = {
  history: () => ({ line: { color: colour("history"), width: 2 }, name: say("chart.close"), visible: view.history === "line" }),
  "history candles": () => ({
    increasing: { line: { color: colour("good"), width: 1 } },
    decreasing: { line: { color: colour("alarm"), width: 1 } },
    name: say("chart.candles"),
    visible: view.history === "candles",
  }),
  outcome: () => ({ line: { color: colour("then"), width: 2.5 }, marker: { color: colour("then"), size: 5, line: { color: colour("card"), width: 1 } }, name: say("chart.outcome"), visible: view.history === "line" }),
  "outcome candles": () => ({
    increasing: { line: { color: colour("then"), width: 1.5 }, fillcolor: colour("card") },
    decreasing: { line: { color: colour("then"), width: 1.5 }, fillcolor: colour("then") },
    name: say("chart.outcome"),
    visible: view.history === "candles",
  }),
  "outcome volume": () => ({ marker: { color: withAlpha(colour("then"), 0.85) }, name: say("chart.outcome_volume") }),
  mean: () => ({ line: { color: colour("mean"), width: 2.5 }, name: say("chart.mean") }),
  median: () => ({ line: { color: colour("median"), width: 1.75, dash: "dot" }, name: say("chart.median") }),
  paths: () => ({ line: { color: withAlpha(colour("mean"), 0.35), width: 0.8 } }),
  "band 50": () => bandStyle(0.26),
  "band 80": () => bandStyle(0.16),
  "band 95": () => bandStyle(0.1),
  "recalibrated band 50": () => bandStyle(0.3, "recalibrated"),
  "recalibrated band 80": () => bandStyle(0.18, "recalibrated"),
  "recalibrated band 95": () => bandStyle(0.12, "recalibrated"),
  "volume band 50": () => bandStyle(0.26),
  "volume band 80": () => bandStyle(0.16),
  "volume band 95": () => bandStyle(0.1),
  "history volume": () => ({ marker: { color: withAlpha(colour("history"), 0.45) }, name: say("chart.volume") }),
  "forecast volume": () => ({ marker: { color: withAlpha(colour("mean"), 0.55) }, name: say("chart.mean_volume") }),
};

const two = (number) => String(number).padStart(2, "0");

/** Plotly draws what it is told, so UTC ms become the person's wall clock. */
function wallClock(ms) {
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** The path in the middle of all, from the last known candle on: open times and closes. */
const forecastLine = () => figure.data.find((trace) => trace.meta.role === "mean");

/** On a phone a history of two horizons is enough before the forecast. */
function recent() {
  const times = forecastLine().x;
  const [start, end] = [times[0], times.at(-1)];
  return { range: [wallClock(start - 2 * (end - start)), wallClock(end)] };
}

/** Single paths as one line with gaps: evenly chosen, where there are too many to tell apart. */
function pathsTrace() {
  const { x: times, y: closes } = forecastLine();
  const every = Math.ceil(paths.usable.length / MOST_PATHS_DRAWN);
  const drawn = paths.usable.filter((_, place) => place % every === 0);
  return {
    type: "scatter",
    mode: "lines",
    x: drawn.flatMap(() => [...times, times.at(-1)]),
    y: drawn.flatMap((path) => [closes[0], ...paths.path(path, "close"), null]),
    hoverinfo: "skip",
    meta: { role: "paths", drawn: drawn.length },
  };
}

function traces() {
  const all = withChosenBands(figure.data);
  if (view.paths !== "shown" || !paths) return all;
  const place = all.findIndex(({ meta }) => meta.role === "median");
  return [...all.slice(0, place), pathsTrace(), ...all.slice(place)];
}

function dressed(layout, narrow) {
  const touched = isTouched(); // a finger that moves up or down the chart scrolls the page, so it neither pans nor zooms
  const text = colour("text-soft");
  const axis = { gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, tickfont: { color: text }, fixedrange: touched };
  return {
    data: traces().map((trace) => {
      const { line, ...style } = styles[trace.meta.role]();
      return { ...trace, x: trace.x.map(wallClock), ...nameOf(trace), ...style, ...(line && { line: { ...trace.line, ...line } }) };
    }),
    layout: {
      ...layout,
      dragmode: touched ? false : layout.dragmode,
      uirevision: source, // what the person has zoomed to stays until there is another forecast
      xaxis: {
        ...layout.xaxis,
        ...axis,
        ...(narrow ? recent() : {}),
        ...(language === "en" ? {} : NUMBERED_DATES),
        rangeslider: { visible: false },
        title: { text: zoneName(), font: { size: 11, color: text }, standoff: 4 },
      },
      yaxis: { ...layout.yaxis, ...axis, type: view.scale, uirevision: `${source} ${view.scale}` },
      yaxis2: { ...layout.yaxis2, ...axis, showgrid: false },
      shapes: layout.shapes.map((shape) => ({ ...shape, x0: wallClock(shape.x0), x1: wallClock(shape.x1), line: { ...shape.line, color: text } })),
      annotations: layout.annotations.map((note) => ({ ...note, text: WATERMARKS[note.text] ? say(WATERMARKS[note.text]) : note.text, font: { size: narrow ? 22 : 44, color: colour("alarm") } })),
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("text"), size: 12 } },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: text },
      margin: narrow ? { l: 8, r: 8, t: 8, b: 40 } : { l: 12, r: 16, t: 8, b: 44 },
    },
  };
}

const isTouched = () => matchMedia("(pointer: coarse)").matches;

const point = (step) => document.dispatchEvent(new CustomEvent("steppointed", { detail: step }));

/** The step that a finger is at, from 1; none where it is not at the forecast. */
function stepAt(place, clientX) {
  const { xaxis } = place._fullLayout;
  const times = place.data.find(({ meta }) => meta.role === "mean").x;
  const at = clientX - place.getBoundingClientRect().left - xaxis._offset;
  const width = xaxis.d2p(times[1]) - xaxis.d2p(times[0]); // candles are all as wide
  const step = Math.round((at - xaxis.d2p(times[0])) / width);
  return step >= 1 && step <= times.length - 1 && at <= xaxis._length ? step : null;
}

const listened = new WeakSet();

/** Once for each element: say at which step of the forecast the person points. */
function listen(place) {
  if (listened.has(place)) return;
  listened.add(place);
  let byFinger = false;
  const tell = ({ points }) => {
    if (byFinger) return;
    const step = points.find(({ data }) => data.meta.role === "mean")?.pointIndex;
    if (step) point(step);
  };
  // Plotly hears of a finger only when it is lifted, and then says where it was put down.
  const follow = ({ pointerType, clientX }) => {
    byFinger = pointerType === "touch";
    const step = byFinger && place._fullLayout ? stepAt(place, clientX) : null;
    if (step) point(step);
  };
  place.addEventListener("pointerdown", follow);
  place.addEventListener("pointermove", follow);
  place.on("plotly_hover", tell);
  place.on("plotly_click", tell);
  for (const moved of ["plotly_afterplot", "plotly_relayout", "plotly_relayouting"]) {
    place.on(moved, () => document.dispatchEvent(new Event("chartmoved")));
  }
}

function draw() {
  const place = chartPlace();
  if (!place || !figure) return;
  const { data, layout } = dressed(figure.layout, place.clientWidth < 560);
  const options = { responsive: true, displayModeBar: false, scrollZoom: false, doubleClick: "reset" };
  Plotly.react(place, data, layout, options);
  listen(place);
  place.dataset.drawn = shown;
  const notes = [];
  if (figure.history_missing) notes.push(say("chart.history_missing"));
  const drawn = data.find(({ meta }) => meta.role === "paths")?.meta.drawn;
  if (drawn && drawn < paths.usable.length) notes.push(say("chart.some_paths", { drawn, all: paths.usable.length }));
  document.getElementById("chart-note").textContent = notes.join(" ");
}

/** Fetch and draw the figure that the page names, if it is not drawn already, or if another candle has followed since. */
export async function showChart() {
  const place = chartPlace();
  showChoices();
  if (!place) return;
  const { chart: wanted, followed } = place.dataset;
  const asked = `${wanted} ${followed}`;
  if (place.dataset.drawn === asked) return;
  const [answer, drawn] = await Promise.all([fetch(wanted), fetchPaths(place.dataset.paths, JSON.parse(place.dataset.shape))]);
  if (!answer.ok) throw new Error(`the chart cannot be fetched: ${answer.status}`);
  [figure, paths, source, shown] = [await answer.json(), drawn, wanted, asked];
  draw();
  const { x, y } = forecastLine();
  const came = figure.data.find(({ meta }) => meta.role === "outcome")?.y ?? []; // by step, as far as it is kept
  const recalibrated = bandsThereAre().filter(isRecalibrated).map(({ meta, customdata, y: upper }) => ({ level: Number(meta.role.match(BAND)[2]), lower: customdata, upper })).reverse();
  document.dispatchEvent(new CustomEvent("forecastdrawn", { detail: { paths, openTimes: x.slice(1), lastClose: y[0], came, recalibrated } }));
}

document.addEventListener("themechange", draw);
document.addEventListener("viewchange", draw);
