// Asking for a forecast and cancelling one. The server says what may be asked for; its answer's own page shows the rest.
import { say } from "./words.js";

const NUMBERS = ["horizon", "history", "num_samples", "temperature", "top_p"];
const TOKEN = "write-token"; // kept for as long as the tab is open, where the person has typed one

function remembered() {
  try { return sessionStorage.getItem(TOKEN) ?? ""; } catch { return ""; }
}

function remember(token) {
  try { sessionStorage.setItem(TOKEN, token); } catch { /* then it is asked for again */ }
}

const authorised = () => (remembered() ? { Authorization: `Bearer ${remembered()}` } : {});

/** What the server says is wrong, in its own words; they name the field, its value and what is allowed. */
async function problemIn(answer) {
  const problem = await answer.json().catch(() => ({}));
  return { detail: problem.detail ?? say("ask.refused", { status: answer.status }), field: problem.errors?.[0]?.field };
}

/** The body as JSON. A seed may be larger than JavaScript counts exactly, so its digits go as they were typed. */
function bodyOf(fields) {
  const wishes = { symbol: fields.get("symbol").trim().toUpperCase(), interval: fields.get("interval") };
  for (const name of NUMBERS) if (fields.get(name) !== "") wishes[name] = Number(fields.get(name));
  if (fields.get("model")) wishes.model = fields.get("model");
  const seed = fields.get("seed").trim();
  const body = JSON.stringify(wishes);
  return seed ? `${body.slice(0, -1)},"seed":${/^\d+$/.test(seed) ? seed.replace(/^0+(?=\d)/, "") : JSON.stringify(seed)}}` : body;
}

function showProblem(form, { detail, field }) {
  document.getElementById("ask-problem").textContent = detail;
  for (const input of form.elements) input.removeAttribute("aria-invalid");
  const wrong = form.elements[field === "Authorization" ? "token" : field];
  wrong?.setAttribute?.("aria-invalid", "true");
  wrong?.focus?.();
}

async function ask(form) {
  const fields = new FormData(form);
  if (fields.has("token")) remember(fields.get("token"));
  const button = form.querySelector("[type=submit]");
  button.disabled = true;
  try {
    const headers = { "Content-Type": "application/json", ...authorised() };
    const answer = await fetch("/api/v1/forecasts", { method: "POST", headers, body: bodyOf(fields) });
    if (!answer.ok) { showProblem(form, await problemIn(answer)); return; }
    location.assign(`/forecasts/${(await answer.json()).id}`);
  } catch {
    showProblem(form, { detail: say("ask.unreachable") });
  } finally {
    button.disabled = false;
  }
}

async function cancel(button) {
  button.disabled = true;
  const said = button.parentElement.querySelector("[role=alert]");
  try {
    const answer = await fetch(`/api/v1/forecasts/${button.dataset.cancel}`, { method: "DELETE", headers: authorised() });
    if (answer.status === 405) button.hidden = true; // this server cannot cancel
    if (!answer.ok) said.textContent = (await problemIn(answer)).detail;
    document.dispatchEvent(new Event("refreshwanted"));
  } catch {
    said.textContent = say("ask.unreachable");
  } finally {
    button.disabled = false;
  }
}

document.addEventListener("submit", (event) => {
  if (event.target.id !== "ask-form") return;
  event.preventDefault();
  ask(event.target);
});

document.addEventListener("click", ({ target }) => {
  const button = target.closest?.("[data-cancel]");
  if (button) cancel(button);
});

const token = document.querySelector("#ask-form [name=token]");
if (token) token.value = remembered();
