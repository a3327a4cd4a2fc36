// Draws the charts of the track record: it gives each trace's role its colour, light or dark. Counts nothing; a table on
// the page has the numbers of each chart.
import { colour } from "./chart.js";
import "./misses.js";
import { whenSeen } from "./seen.js";
import { showTimes } from "./times.js";

const COLOURS = { raw: "history", recalibrated: "recalibrated", "level 50": "history", "level 80": "mean", "level 95": "then" };

const [SMALLEST, LARGEST] = [4, 14]; // points, across

/** Points by how many forecasts are in them, by area: one that is of few is not to look like one that is of many. */
function sizes({ text }) {
  if (!text) return 5;
  const most = Math.max(...text.map(Number));
  return text.map((count) => Math.max(SMALLEST, LARGEST * Math.sqrt(count / most)));
}

function dressed({ data, layout }) {
  const text = colour("text-soft");
  const axis = (own) => ({ ...own, gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, fixedrange: true, automargin: true });
  return {
    data: data.map((trace) => {
      const own = colour(COLOURS[trace.meta.role]);
      return { ...trace, line: { color: own, width: 2 }, marker: { color: own, size: sizes(trace) } };
    }),
    layout: {
      hovermode: "x",
      ...layout,
      xaxis: axis(layout.xaxis),
      yaxis: axis(layout.yaxis),
      shapes: layout.shapes.map((shape) => ({ ...shape, line: { ...shape.line, color: text } })),
      dragmode: false,
      showlegend: data.length > 1,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("text"), size: 12 } },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: text },
      margin: { l: 12, r: 12, t: 28, b: 36 },
    },
  };
}

function draw(place) {
  const { data, layout } = dressed(JSON.parse(place.dataset.figure));
  Plotly.react(place, data, layout, { responsive: true, displayModeBar: false, scrollZoom: false });
  place.dataset.drawn = "yes";
}

const charts = document.querySelectorAll("[data-figure]");
whenSeen(charts, draw);
document.addEventListener("themechange", () => { for (const one of charts) if (one.dataset.drawn) draw(one); });

/** The numbers of a chart are folded away until somebody wants them: by its link, by the address, or on paper. */
function unfold(target) {
  const folded = target?.closest("details");
  if (folded) folded.open = true;
}

const named = (address) => document.getElementById(decodeURIComponent(address.slice(1)));

document.addEventListener("click", ({ target }) => {
  const link = target.closest('a[href^="#"]');
  if (link) unfold(named(link.hash));
});
if (location.hash) unfold(named(location.hash));

let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll("details:not([open])")];
  for (const one of unfolded) one.open = true;
});
addEventListener("afterprint", () => { for (const one of unfolded) one.open = false; });
showTimes();
