// The probability of touching a price that the person drags on the chart or types, counted in the stored paths.
import { chartPlace } from "./chart.js";
import { errorInterval, percent, plainPrice, price } from "./numbers.js";
import { say } from "./words.js";

const KEY_STEP = 0.001; // of the last price; ten times that with Page Up and Page Down

let forecast = null; // { paths, lastClose }
let threshold = null; // a price; null until there is a forecast

const element = (id) => document.getElementById(id);

/** Where it starts: at the mean of the paths' highest highs, rounded as a person would. */
function firstThreshold() {
  const { paths, lastClose } = forecast;
  const highest = paths.usable.map((path) => Math.max(...paths.path(path, "high")));
  const usual = highest.length ? highest.reduce((sum, one) => sum + one, 0) / highest.length : lastClose;
  return Number(usual.toPrecision(3));
}

function show() {
  const result = element("touch-result");
  if (!forecast || !result) return;
  threshold ??= firstThreshold();
  const input = element("touch-price");
  if (document.activeElement !== input) input.value = plainPrice(threshold);
  const share = forecast.paths.touching(threshold, forecast.lastClose);
  const direction = threshold >= forecast.lastClose ? "touch.rises" : "touch.falls";
  element("touch-share").textContent = share ? percent(share.value) : "–";
  element("touch-share").value = share?.value ?? "";
  element("touch-error").textContent = share ? errorInterval(share) : "";
  element("touch-note").textContent = share
    ? say(direction, { paths: share.paths, of: share.of, price: price(threshold), steps: forecast.paths.horizon })
    : say("touch.none");
  const meter = element("touch-meter");
  for (const name of ["value", "lower", "upper"]) meter.style.setProperty(`--${name}`, share?.[name] ?? 0);
  meter.hidden = !share;
  placeLine();
}

function placeLine() {
  const line = element("touch-line");
  const { xaxis, yaxis } = chartPlace()?._fullLayout ?? {};
  if (!line || !yaxis || threshold === null) return;
  const y = yaxis.d2p(threshold);
  const inside = y >= 0 && y <= yaxis._length;
  line.hidden = false;
  line.classList.toggle("outside", !inside);
  line.style.left = `${xaxis._offset}px`;
  line.style.width = `${xaxis._length}px`;
  line.style.top = `${yaxis._offset + Math.min(Math.max(y, 0), yaxis._length)}px`;
  element("touch-label").textContent = price(threshold);
  line.setAttribute("aria-valuenow", threshold);
  line.setAttribute("aria-valuetext", `${price(threshold)}, ${element("touch-share").textContent}`);
}

function choose(chosen) {
  if (!Number.isFinite(chosen) || chosen <= 0) return;
  threshold = chosen;
  show();
}

/** Let go or not: the line follows the pointer, within what the chart shows. */
function drag(event) {
  const { yaxis } = chartPlace()._fullLayout;
  const y = event.clientY - chartPlace().getBoundingClientRect().top - yaxis._offset;
  choose(Number(plainPrice(yaxis.p2d(Math.min(Math.max(y, 0), yaxis._length)))));
}

document.addEventListener("pointerdown", (event) => {
  const line = event.target.closest?.("#touch-line");
  if (!line || event.button !== 0) return;
  event.preventDefault();
  line.focus({ preventScroll: true });
  line.setPointerCapture(event.pointerId);
  line.addEventListener("pointermove", drag);
  const end = () => line.removeEventListener("pointermove", drag);
  for (const ended of ["pointerup", "pointercancel"]) line.addEventListener(ended, end, { once: true });
});

document.addEventListener("keydown", (event) => {
  const moves = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 };
  if (event.target.id !== "touch-line" || !(event.key in moves)) return;
  event.preventDefault();
  choose(Number(plainPrice(threshold + moves[event.key] * KEY_STEP * forecast.lastClose)));
});

document.addEventListener("input", ({ target }) => { if (target.id === "touch-price") choose(target.valueAsNumber); });
document.addEventListener("focusout", ({ target }) => { if (target.id === "touch-price") show(); });
document.addEventListener("forecastdrawn", ({ detail }) => {
  // Another symbol's price is no threshold for this one.
  if (forecast && Math.abs(Math.log(detail.lastClose / forecast.lastClose)) > 1) threshold = null;
  forecast = detail;
  show();
});
document.addEventListener("chartmoved", placeLine);
