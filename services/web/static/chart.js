// Draws the server's figure: it gives each trace's role its colour, light or dark, and shows times in the person's zone.
import { zoneName } from "./times.js";

let figure = null; // as the server sent it
let source = null; // where it came from

const probe = document.createElement("span");
probe.hidden = true;

/** A colour of page.css as the browser resolves it now. */
function colour(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

const withAlpha = (rgb, alpha) => rgb.replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);

const styles = {
  history: () => ({ line: { color: colour("history"), width: 2 } }),
  mean: () => ({ line: { color: colour("mean"), width: 2.5 } }),
  median: () => ({ line: { color: colour("median"), width: 1.75, dash: "dot" } }),
  "band 50": () => ({ line: { width: 0 }, fillcolor: withAlpha(colour("mean"), 0.26) }),
  "band 80": () => ({ line: { width: 0 }, fillcolor: withAlpha(colour("mean"), 0.16) }),
  "band 95": () => ({ line: { width: 0 }, fillcolor: withAlpha(colour("mean"), 0.1) }),
  "history volume": () => ({ marker: { color: withAlpha(colour("history"), 0.45) } }),
  "forecast volume": () => ({ marker: { color: withAlpha(colour("mean"), 0.55) } }),
};

const two = (number) => String(number).padStart(2, "0");

/** Plotly draws what it is told, so UTC ms become the person's wall clock. */
function wallClock(ms) {
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** On a phone a history of two horizons is enough before the forecast. */
function recent(data) {
  const forecast = data.find((trace) => trace.meta.role === "mean").x;
  const [start, end] = [forecast[0], forecast.at(-1)];
  return { range: [wallClock(start - 2 * (end - start)), wallClock(end)] };
}

function dressed({ data, layout }, narrow) {
  const touched = matchMedia("(pointer: coarse)").matches; // a finger on the chart scrolls the page
  const text = colour("text-soft");
  const axis = { gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, tickfont: { color: text }, fixedrange: touched };
  return {
    data: data.map((trace) => ({ ...trace, x: trace.x.map(wallClock), ...styles[trace.meta.role]() })),
    layout: {
      ...layout,
      dragmode: touched ? false : layout.dragmode,
      xaxis: { ...layout.xaxis, ...axis, ...(narrow && recent(data)), title: { text: `candle opens, ${zoneName()}`, standoff: 10, font: { size: 12, color: text } } },
      yaxis: { ...layout.yaxis, ...axis },
      yaxis2: { ...layout.yaxis2, ...axis, fixedrange: true },
      shapes: layout.shapes.map((shape) => ({ ...shape, x0: wallClock(shape.x0), x1: wallClock(shape.x1), line: { ...shape.line, color: text } })),
      annotations: layout.annotations.map((note) => ({ ...note, font: { size: narrow ? 22 : 44, color: colour("alarm") } })),
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("text"), size: 12 } },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: text },
      margin: narrow ? { l: 8, r: 8, t: 8, b: 40 } : { l: 12, r: 16, t: 8, b: 44 },
    },
  };
}

function draw() {
  const place = document.getElementById("chart");
  if (!place || !figure) return;
  const { data, layout } = dressed(figure, place.clientWidth < 560);
  const options = { responsive: true, displayModeBar: false, scrollZoom: false, doubleClick: "reset" };
  Plotly.react(place, data, layout, options);
  place.dataset.drawn = source;
  document.getElementById("chart-note").textContent = figure.history_missing
    ? "The klines that this forecast was made on are no longer kept, so only the forecast is drawn."
    : "";
}

/** Fetch and draw the figure that the page names, if it is not drawn already. */
export async function showChart() {
  const place = document.getElementById("chart");
  if (!place || place.dataset.drawn === place.dataset.chart) return;
  const wanted = place.dataset.chart;
  const answer = await fetch(wanted);
  if (!answer.ok) throw new Error(`the chart cannot be fetched: ${answer.status}`);
  [figure, source] = [await answer.json(), wanted];
  draw();
}

document.addEventListener("themechange", draw);
