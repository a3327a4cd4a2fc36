// Dark or light: what the person chose here before, else what their system prefers. Loaded first, so nothing flashes.
(() => {
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const current = () => document.documentElement.dataset.theme || (prefersDark.matches ? "dark" : "light");

  function show(theme) {
    if (theme) document.documentElement.dataset.theme = theme;
    document.getElementById("theme")?.setAttribute("aria-pressed", String(current() === "dark"));
    document.dispatchEvent(new Event("themechange"));
  }

  show(stored());
  prefersDark.addEventListener("change", () => show(stored()));
  document.addEventListener("DOMContentLoaded", () => {
    show(stored());
    document.getElementById("theme").addEventListener("click", () => {
      const next = current() === "dark" ? "light" : "dark";
      try { localStorage.setItem("theme", next); } catch { /* a browser that keeps nothing still switches */ }
      show(next);
    });
  });
})();
