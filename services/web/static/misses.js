// Draws the worst misses, each when a person comes to it: the bands that were forecast, and what then happened, by step. Of a
// forecast that is no longer kept only the latter. Counts nothing.
import { colour, withAlpha } from "./chart.js";
import { price } from "./numbers.js";
import { whenSeen } from "./seen.js";
import { say } from "./words.js";

const ALPHA = { 50: 0.26, 80: 0.16, 95: 0.1 };

const stepsOf = (values) => values.map((_, place) => place);

/** A band of a forecast, from the last known close on: lower edge unseen, upper edge filled down to it. */
function bandTraces({ level, kind, lower, upper }, last) {
  const edge = (values) => ({ type: "scatter", mode: "lines", x: stepsOf([last, ...values]), y: [last, ...values], line: { width: 0 }, hoverinfo: "skip" });
  const name = kind === "range" ? say("chart.range") : say("chart.band", { level });
  const customdata = [last, ...lower].map(price);
  return [
    edge(lower),
    { ...edge(upper), name, fill: "tonexty", fillcolor: withAlpha(colour("mean"), ALPHA[level]), customdata, hoverinfo: "all", hovertemplate: "%{customdata} – %{y:,.7~g}" },
  ];
}

function forecastTraces({ close }, last) {
  const median = { type: "scatter", mode: "lines", name: say("chart.median"), x: stepsOf([last, ...close.median]), y: [last, ...close.median], hovertemplate: "%{y:,.7~g}", line: { color: colour("median"), width: 1.5, dash: "dot" } };
  const widestFirst = [...close.bands].sort((one, other) => other.level - one.level);
  return [...widestFirst.flatMap((band) => bandTraces(band, last)), median];
}

/** What then happened: filled points lay within the 80 % band. */
function outcomeTrace({ last, closes, held }) {
  const then = colour("then");
  const fill = [then, ...held.map((inside) => (inside ? then : colour("card")))];
  return {
    type: "scatter", mode: "lines+markers", name: say("chart.outcome"), x: stepsOf([last, ...closes]), y: [last, ...closes], hovertemplate: "%{y:,.7~g}",
    line: { color: then, width: 2 }, marker: { size: 5, color: fill, line: { color: then, width: 1.2 } },
  };
}

function layout() {
  const text = colour("text-soft");
  const axis = { gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, fixedrange: true, automargin: true };
  return {
    hovermode: "x unified",
    dragmode: false,
    showlegend: false,
    xaxis: { ...axis, showgrid: false, title: { text: say("record_chart.step"), standoff: 4 } },
    yaxis: { ...axis, tickformat: ",~r", nticks: 5 },
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("text"), size: 12 } },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 11, color: text },
    margin: { l: 8, r: 8, t: 8, b: 28 },
  };
}

const forecasts = new Map(); // by element: what was fetched, so that another colour asks nobody anew

/** The forecast of a miss; none where it is not kept, or cannot be had now. */
async function forecastOf(place) {
  if (!place.dataset.forecast) return null;
  const answer = await fetch(place.dataset.forecast).catch(() => null);
  return answer?.ok ? (await answer.json()).forecast : null;
}

function draw(place) {
  const miss = JSON.parse(place.dataset.miss);
  const forecast = forecasts.get(place);
  const traces = [...(forecast ? forecastTraces(forecast, miss.last) : []), outcomeTrace(miss)];
  Plotly.react(place, traces, layout(), { responsive: true, displayModeBar: false, scrollZoom: false });
  place.dataset.drawn = forecast ? "whole" : "outcome";
}

/** What then happened at once, so that it is there on paper too; the bands when they have come. */
async function comeTo(place) {
  forecasts.set(place, null);
  draw(place);
  forecasts.set(place, await forecastOf(place));
  if (forecasts.get(place)) draw(place);
}

whenSeen(document.querySelectorAll("[data-miss]"), comeTo);
document.addEventListener("themechange", () => forecasts.forEach((_, place) => draw(place)));
