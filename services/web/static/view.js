// How the person wants the chart: kept in this browser, so that it is so the next time too.

// The first is what a person sees who has chosen nothing: raw bands, since all else on the page counts in the same paths.
const CHOICES = { history: ["line", "candles"], scale: ["linear", "log"], bands: ["raw", "recalibrated"], paths: ["hidden", "shown"] };

function remembered() {
  try {
    const kept = JSON.parse(localStorage.getItem("chart") ?? "{}");
    return Object.fromEntries(Object.entries(CHOICES).map(([name, all]) => [name, all.includes(kept[name]) ? kept[name] : all[0]]));
  } catch {
    return Object.fromEntries(Object.entries(CHOICES).map(([name, all]) => [name, all[0]]));
  }
}

export const view = remembered();

/** Let the buttons say what is chosen, and show what goes with it; their data-view, its data-shown-with is "name:choice". */
export function showChoices() {
  for (const button of document.querySelectorAll("[data-view]")) {
    const [name, choice] = button.dataset.view.split(":");
    button.setAttribute("aria-pressed", String(view[name] === choice));
  }
  for (const one of document.querySelectorAll("[data-shown-with]")) {
    const [name, choice] = one.dataset.shownWith.split(":");
    one.hidden = view[name] !== choice;
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-view]");
  if (!button) return;
  const [name, choice] = button.dataset.view.split(":");
  const other = CHOICES[name].find((one) => one !== choice);
  // A button that stands alone switches to and fro; one of a pair can only be chosen.
  view[name] = view[name] === choice && !button.parentElement.matches("[data-pair]") ? other : choice;
  try { localStorage.setItem("chart", JSON.stringify(view)); } catch { /* a browser that keeps nothing still switches */ }
  showChoices();
  document.dispatchEvent(new Event("viewchange"));
});
