// Keeps the page true: asks the server for it again and puts in the regions that have changed, without a reload.
import { showChart } from "./chart.js";
import "./ask.js";
import "./outcome.js";
import "./threshold.js";
import "./walk.js";
import { isStreaming, listenTo } from "./stream.js";
import { clockTime, keepCounting, showTimes } from "./times.js";

const regionsOf = (root) => new Map([...root.querySelectorAll("[data-region]")].map((one) => [one.dataset.region, one]));

const main = document.querySelector("main");
const served = new Map([...regionsOf(document)].map(([name, region]) => [name, region.innerHTML])); // before times are localised
let pageTag = null;
let lastAnswer = new Date();
let timer = null; // the only one that asks
let asking = false; // one question at a time; what comes in between is asked once more afterwards
let askAgain = false;

const STREAMED_POLL_S = 60; // beside a stream, so that a page never goes quiet

/** What a person is working with, or what is dear to make, stays; only what the server says of it is new. */
function keep(old) {
  const fresh = document.getElementById(old.id);
  if (!fresh) {
    const plots = [old, ...old.querySelectorAll(".js-plotly-plot")].filter((one) => one.matches(".js-plotly-plot"));
    plots.forEach((plot) => Plotly.purge(plot));
    return;
  }
  for (const { name, value } of fresh.attributes) if (name !== "class" && name !== "style") old.setAttribute(name, value);
  fresh.replaceWith(old);
}

function putIn(page) {
  const fresh = regionsOf(page);
  for (const [name, region] of regionsOf(document)) {
    const html = fresh.get(name)?.innerHTML ?? "";
    if (served.get(name) === html) continue;
    const wasOpen = region.querySelector("details")?.open;
    const focused = region.contains(document.activeElement) ? document.activeElement.id : "";
    const kept = [...region.querySelectorAll("[data-keep]")];
    served.set(name, html);
    region.replaceChildren(...(fresh.get(name)?.childNodes ?? []));
    for (const one of kept) keep(one);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    if (wasOpen && region.querySelector("details")) region.querySelector("details").open = true;
  }
  document.title = page.title;
  Object.assign(main.dataset, { ...page.querySelector("main").dataset });
  showTimes();
}

function showAway(away) {
  document.getElementById("away").hidden = !away;
  document.getElementById("away-since").textContent = clockTime(lastAnswer);
}

async function refresh() {
  clearTimeout(timer);
  askAgain = asking;
  if (asking) return;
  asking = true;
  const address = location.href;
  try {
    const answer = await fetch(address, { cache: "no-cache", headers: { Accept: "text/html" } });
    if (answer.status === 404) { location.reload(); return; } // retention has dropped it: the server's page says so
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    const tag = answer.headers.get("ETag");
    const page = tag === pageTag ? null : new DOMParser().parseFromString(await answer.text(), "text/html");
    if (address === location.href) { // else the person has stepped on to another forecast meanwhile
      if (page) putIn(page);
      pageTag = tag;
    }
    lastAnswer = new Date();
    await showChart();
    showAway(false);
  } catch {
    showAway(true);
  }
  asking = false;
  listenTo(main.dataset.events, refresh);
  const wait = isStreaming() ? STREAMED_POLL_S : Number(main.dataset.pollS);
  timer = setTimeout(refresh, askAgain ? 0 : wait * 1000);
}

keepCounting();
showChart().catch(() => {}).finally(refresh); // the page has just been served: only its chart is missing, or is asked for again
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
document.addEventListener("refreshwanted", refresh);
