// The outcome at the step that the person points at: its distribution in words, and a histogram of the paths.
import { chartPlace, colour, withAlpha } from "./chart.js";
import { errorInterval, percent, price } from "./numbers.js";
import { band, histogram, mean, median, wilson } from "./paths.js";
import { absoluteTime } from "./times.js";
import { say } from "./words.js";

const LEVELS = [50, 80, 95];

let forecast = null; // { paths, openTimes, lastClose, came, recalibrated }
let step = null; // from 1; null: the last one

const element = (id) => document.getElementById(id);

function show() {
  if (!forecast || !element("outcome")) return;
  const at = Math.min(step ?? forecast.paths.horizon, forecast.paths.horizon);
  const closes = forecast.paths.closesAfter(at);
  const slider = element("outcome-step");
  slider.max = forecast.paths.horizon;
  slider.value = at;
  const opens = new Date(forecast.openTimes[at - 1]);
  slider.setAttribute("aria-valuetext", say("outcome.step_of", { step: at, all: forecast.paths.horizon }));
  element("outcome-title").textContent = say("outcome.step_of", { step: at, all: forecast.paths.horizon });
  const time = element("outcome-time");
  time.dateTime = opens.toISOString();
  time.title = `${opens.toISOString().slice(0, 19).replace("T", " ")} UTC`;
  time.textContent = absoluteTime(opens);
  const came = forecast.came[at] ?? null;
  const told = [...(closes.length ? numbers(closes) : []), ...recalibrated(at), ...(came === null ? [] : [[say("steps.came"), price(came)]])];
  element("outcome-numbers").replaceChildren(...told.map(([name, value]) => {
    const [row, dt, dd] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
    [dt.textContent, dd.textContent] = [name, value];
    row.append(dt, dd);
    return row;
  }));
  drawHistogram(closes, came);
  markStep();
}

function numbers(closes) {
  const above = wilson(closes.filter((close) => close > forecast.lastClose).length, closes.length);
  return [
    [say("chart.mean"), price(mean(closes))],
    [say("chart.median"), price(median(closes))],
    ...LEVELS.map((level) => {
      const { lower, upper, isRange } = band(closes, level);
      const name = isRange ? say("chart.range") : say("chart.band", { level });
      return [forecast.recalibrated.length ? `${name}, ${say("chart.raw")}` : name, `${price(lower)} – ${price(upper)}`];
    }).filter(([name], place, all) => all.findIndex(([other]) => other === name) === place),
    [say("outcome.above_last"), `${percent(above.value)} ${errorInterval(above)}`],
  ];
}

/** The recalibrated bands at the step, lest those of the paths are taken for them. */
const recalibrated = (at) => forecast.recalibrated.map(({ level, lower, upper }) =>
  [say("chart.band_recalibrated", { level }), `${price(lower[at])} – ${price(upper[at])}`]);

/** The paths' closes, and where there is one, the close that came. */
function drawHistogram(closes, came) {
  const bins = closes.length ? histogram(closes) : [];
  const text = colour("text-soft");
  const line = (at, name, dash) => ({ type: "line", yref: "paper", x0: at, x1: at, y0: 0, y1: 1, line: { width: 1.5, dash, color: colour(name) } });
  const axis = { gridcolor: colour("line"), zeroline: false, tickfont: { color: text }, fixedrange: true, automargin: true };
  const bars = {
    type: "bar",
    x: bins.map(({ from, to }) => (from + to) / 2),
    y: bins.map(({ count }) => count),
    width: bins.map(({ from, to }) => (to - from) * 0.94 || undefined),
    customdata: bins.map(({ from, to }) => [price(from), price(to)]),
    hovertemplate: `%{customdata[0]} – %{customdata[1]}: %{y}<extra></extra>`,
    marker: { color: withAlpha(colour("mean"), 0.6) },
  };
  const layout = {
    height: 190,
    margin: { l: 8, r: 8, t: 8, b: 30 },
    bargap: 0.04,
    showlegend: false,
    xaxis: { ...axis, showgrid: false, tickformat: ",~r", nticks: 6 },
    yaxis: { ...axis, nticks: 4, title: { text: say("outcome.paths"), font: { size: 11, color: text } } },
    shapes: [
      ...(closes.length ? [line(forecast.lastClose, "history", "dot"), line(mean(closes), "mean", "solid")] : []),
      ...(came === null ? [] : [line(came, "then", "solid")]),
    ],
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: text },
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("text") } },
  };
  const place = element("outcome-histogram");
  Plotly.react(place, [bars], layout, { responsive: true, displayModeBar: false });
  place.dataset.counts = JSON.stringify(bars.y);
  place.setAttribute("aria-label", say("outcome.histogram", { paths: closes.length, from: price(closes[0]), to: price(closes.at(-1)) }));
}

/** A thin line on the chart at the step: placed over it, since drawing it anew at each move would be slow. */
function markStep() {
  const { xaxis, yaxis } = chartPlace()?._fullLayout ?? {};
  const mark = element("step-mark");
  if (!xaxis || !mark || step === null) return;
  const trace = chartPlace().data.find(({ meta }) => meta.role === "mean");
  const left = xaxis.d2p(trace.x[Math.min(step, forecast.paths.horizon)]);
  mark.hidden = left < 0 || left > xaxis._length;
  mark.style.left = `${xaxis._offset + left}px`;
  mark.style.top = `${yaxis._offset}px`;
  mark.style.height = `${yaxis._length}px`;
}

let wanted = 0;
/** At most once for each picture that the browser shows. */
function choose(chosen) {
  step = chosen;
  cancelAnimationFrame(wanted);
  wanted = requestAnimationFrame(show);
}

document.addEventListener("steppointed", ({ detail }) => { if (detail !== step) choose(detail); });
document.addEventListener("input", ({ target }) => { if (target.id === "outcome-step") choose(Number(target.value)); });
document.addEventListener("forecastdrawn", ({ detail }) => { forecast = detail; show(); });
document.addEventListener("themechange", show);
document.addEventListener("chartmoved", () => { if (forecast) markStep(); });
