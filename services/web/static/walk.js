// From one forecast's page to the next: by its links or the arrow keys, without a reload. The links lead there by themselves.

// Where the arrow keys have a meaning of their own: fields, sliders, the chart, whatever scrolls by itself.
const TAKEN = "input, select, textarea, [contenteditable], [role=slider], [tabindex], #chart";
const ONE_FORECAST = /^\/forecasts\//;

const changed = () => document.dispatchEvent(new Event("refreshwanted"));

function follow(link) {
  if (link.href === location.href) return; // the page of this step is on its way
  history.pushState(null, "", link.href);
  changed();
}

const isPlain = ({ altKey, ctrlKey, metaKey, shiftKey }) => !(altKey || ctrlKey || metaKey || shiftKey);

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-walk]");
  // The latest forecast's page has more on it than that of one forecast, so the way from it is a real one.
  if (!link || event.button !== 0 || !isPlain(event) || !ONE_FORECAST.test(location.pathname)) return;
  event.preventDefault();
  follow(link);
});

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || !isPlain(event) || event.target.closest?.(TAKEN)) return;
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth > clientWidth) return; // the page is wider than the window, as when it is magnified: the keys scroll it
  const link = document.querySelector(`a[data-walk="${CSS.escape(event.key)}"]`);
  if (!link) return;
  event.preventDefault();
  link.click();
});

addEventListener("popstate", changed);
