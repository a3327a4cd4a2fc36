// Draws what is dear to draw when a person comes to it, one thing at a time, so that a page answers at once; on paper all of it.

const AHEAD = "300px"; // of the window's edge: so it is there when the person is

/** Call `draw` with each of the elements once, when it comes near the window; with all that are left before printing. */
export function whenSeen(elements, draw) {
  const left = new Set(elements);
  const take = (one) => {
    watcher.unobserve(one);
    if (left.delete(one)) draw(one);
  };
  const watcher = new IntersectionObserver((changes) => {
    // A task for each: drawing several in one would hold up whatever the person does meanwhile.
    for (const { isIntersecting, target } of changes) if (isIntersecting) setTimeout(take, 0, target);
  }, { rootMargin: AHEAD });
  for (const one of left) watcher.observe(one);
  addEventListener("beforeprint", () => left.forEach(take));
}
