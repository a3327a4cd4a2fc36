// Times in the person's own zone, and spans that count along. The server's UTC stays in each title.
import { language, say } from "./words.js";

// The browser's own way of writing times, where it is of the page's language.
const locale = navigator.language.split("-")[0] === language.split("-")[0] ? undefined : language;
const zone = new Intl.DateTimeFormat(locale, { timeZoneName: "short" });
const absolute = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });

export const zoneName = () => zone.formatToParts(new Date()).find((part) => part.type === "timeZoneName").value;
export const absoluteTime = (moment) => absolute.format(moment);
export const clockTime = (moment) => moment.toLocaleTimeString(locale);

const units = (...parts) => parts.map(([n, unit]) => say(`unit.${unit}`, { n })).join(" ");

function span(ms) {
  const s = Math.floor(Math.abs(ms) / 1000);
  if (s < 60) return units([s, "s"]);
  if (s < 3600) return units([Math.floor(s / 60), "min"], [s % 60, "s"]);
  if (s < 86400) return units([Math.floor(s / 3600), "h"], [Math.floor((s % 3600) / 60), "min"]);
  return units([Math.floor(s / 86400), "d"], [Math.floor((s % 86400) / 3600), "h"]);
}

function wholeMinutes(ms) {
  const min = Math.floor(ms / 60_000);
  return min < 60 ? units([min, "min"]) : span(min * 60_000);
}

const texts = {
  absolute: absoluteTime,
  ago: (at) => { const ms = Date.now() - at; return ms < 60_000 ? say("time.just_now") : say("time.ago", { span: wholeMinutes(ms) }); },
  countdown: (at) => { const ms = at - Date.now(); return ms > 0 ? say("time.in", { span: span(ms) }) : say("time.due"); },
};

export function showTimes(root = document) {
  for (const element of root.querySelectorAll("time[data-time]")) {
    const text = texts[element.dataset.time](new Date(element.dateTime));
    if (element.textContent !== text) element.textContent = text;
  }
}

export function keepCounting() {
  showTimes();
  setInterval(showTimes, 1000);
}
