// Prices and shares as people read them; the server writes them alike (shared/prices.py, services/web/formats.py).

/** With as many decimals as its size asks for: 97,123.45, 0.2345. */
export function price(value) {
  if (!Number.isFinite(value)) return "–";
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals(value), maximumFractionDigits: decimals(value) });
}

/** The same for a field of a form. */
export const plainPrice = (value) => value.toFixed(decimals(value));

function decimals(value) {
  const size = Math.abs(value);
  return size >= 10 || size === 0 ? 2 : Math.min(12, 3 - Math.floor(Math.log10(size)));
}

export const percent = (share) => `${(share * 100).toFixed(1)}\u00a0%`;

export const signedPercent = (share) => `${share < 0 ? "−" : "+"}${Math.abs(share * 100).toFixed(2)}\u00a0%`;

/** 30–64 %, with a decimal where it is close to 0 or 1. */
export function errorInterval({ lower, upper }) {
  const digits = lower * 100 >= 1 && upper * 100 <= 99 ? 0 : 1;
  return `(${(lower * 100).toFixed(digits)}–${(upper * 100).toFixed(digits)}\u00a0%)`;
}
