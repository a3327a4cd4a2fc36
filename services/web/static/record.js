// Draws the charts of the track record: it gives each trace's role its colour, light or dark. Counts nothing; a table on
// the page has the numbers of each chart.
import { colour } from "./chart.js";

const COLOURS = { raw: "history", recalibrated: "mean", "level 50": "history", "level 80": "mean", "level 95": "then" };

function dressed({ data, layout }) {
  const text = colour("text-soft");
  const axis = (own) => ({ ...own, gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, fixedrange: true, automargin: true });
  return {
    data: data.map((trace) => {
      const own = colour(COLOURS[trace.meta.role]);
      return { ...trace, line: { color: own, width: 2 }, marker: { color: own, size: 5 } };
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

function draw() {
  for (const place of document.querySelectorAll("[data-figure]")) {
    const { data, layout } = dressed(JSON.parse(place.dataset.figure));
    Plotly.react(place, data, layout, { responsive: true, displayModeBar: false, scrollZoom: false });
    place.dataset.drawn = "yes";
  }
}

document.addEventListener("themechange", draw);
draw();
