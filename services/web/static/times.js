// Times in the person's own zone, and spans that count along. The server's UTC stays in each title.

const zone = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" });
const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export const zoneName = () => zone.formatToParts(new Date()).find((part) => part.type === "timeZoneName").value;
export const absoluteTime = (moment) => absolute.format(moment);
export const clockTime = (moment) => moment.toLocaleTimeString();

function span(ms) {
  const s = Math.floor(Math.abs(ms) / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

const texts = {
  absolute: (at) => absolute.format(at),
  ago: (at) => { const ms = Date.now() - at; return ms < 60_000 ? "just now" : `${span(ms - (ms % 60_000)).replace(/ 0 s$/, "")} ago`; },
  countdown: (at) => { const ms = at - Date.now(); return ms > 0 ? `in ${span(ms)}` : "due now"; },
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
