// The stored paths of a forecast, and what can be counted in them. Knows neither page nor chart.

const Z_95 = 1.959963984540054; // standard normal quantile of 0.975
const COLUMNS = { open: 0, high: 1, low: 2, close: 3, volume: 4, amount: 5 };
const PRICES = ["open", "high", "low", "close"];

/** Paths as paths.bin has them: little-endian float32, [paths, horizon, columns]. */
export class Paths {
  constructor(bytes, [count, horizon, columns]) {
    if (bytes.byteLength !== count * horizon * columns * 4) {
      throw new Error(`${bytes.byteLength} bytes are not ${count} paths of ${horizon} steps and ${columns} columns`);
    }
    const view = new DataView(bytes);
    this.values = Float64Array.from({ length: count * horizon * columns }, (_, place) => view.getFloat32(4 * place, true));
    [this.horizon, this.columns] = [horizon, columns];
    const size = horizon * columns;
    const isFinite = (path) => this.values.subarray(path * size, (path + 1) * size).every(Number.isFinite);
    // As in the record's own statistics: a path with a number that is not finite cannot be counted.
    this.usable = Array.from({ length: count }, (_, path) => path).filter(isFinite);
  }

  /** A column of one path, a number for each step. */
  path(path, column) {
    return Array.from({ length: this.horizon }, (_, step) => this.at(path, step, column));
  }

  at(path, step, column) {
    return this.values[(path * this.horizon + step) * this.columns + COLUMNS[column]];
  }

  /** The closes of all countable paths after `step` (from 1), lowest first. */
  closesAfter(step) {
    return this.usable.map((path) => this.at(path, step - 1, "close")).sort((a, b) => a - b);
  }

  /**
   * How many paths reach a price at any step: at or above it where it is above the last close, else at or below it.
   * All four prices of a candle count, since a path's high may be drawn below its close.
   */
  touching(price, lastClose) {
    const side = price >= lastClose ? 1 : -1;
    const steps = Array.from({ length: this.horizon }, (_, step) => step);
    const reaches = (path, step) => PRICES.some((column) => side * (this.at(path, step, column) - price) >= 0);
    return wilson(this.usable.filter((path) => steps.some((step) => reaches(path, step))).length, this.usable.length);
  }
}

export async function fetchPaths(address, shape) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`the paths cannot be fetched: ${answer.status}`);
  return new Paths(await answer.arrayBuffer(), shape);
}

/** A share of paths with the 95 % score interval of its Monte-Carlo error (Wilson 1927); null where none can be counted. */
export function wilson(paths, of) {
  if (!of) return null;
  const share = paths / of;
  const half = (Z_95 * Math.sqrt((share * (1 - share)) / of + Z_95 ** 2 / (4 * of ** 2))) / (1 + Z_95 ** 2 / of);
  const centre = (share + Z_95 ** 2 / (2 * of)) / (1 + Z_95 ** 2 / of);
  return { value: share, lower: paths === 0 ? 0 : centre - half, upper: paths === of ? 1 : centre + half, paths, of };
}

export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** A quantile of sorted values by the Weibull rule, the k-th of N at k / (N + 1), as the record's bands have it. */
export function quantile(sorted, share) {
  const place = Math.min(Math.max(share * (sorted.length + 1) - 1, 0), sorted.length - 1);
  const below = Math.floor(place);
  return sorted[below] + (place - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]);
}

export const median = (sorted) => (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;

/** The central band of `level` percent of sorted values; of too few it is only their range. */
export function band(sorted, level) {
  if ((100 - level) * (sorted.length + 1) < 200) return { lower: sorted[0], upper: sorted.at(-1), isRange: true };
  const tail = (100 - level) / 200;
  return { lower: quantile(sorted, tail), upper: quantile(sorted, 1 - tail), isRange: false };
}

/** Sorted values counted in bins of one width (Freedman and Diaconis 1981), 5 to 40 of them. */
export function histogram(sorted) {
  const [low, high] = [sorted[0], sorted.at(-1)];
  if (low === high) return [{ from: low, to: high, count: sorted.length }];
  const spread = quantile(sorted, 0.75) - quantile(sorted, 0.25);
  const wanted = spread > 0 ? (high - low) / ((2 * spread) / Math.cbrt(sorted.length)) : 10;
  const bins = Math.min(40, Math.max(5, Math.ceil(wanted)));
  const width = (high - low) / bins;
  const counted = Array.from({ length: bins }, (_, bin) => ({ from: low + bin * width, to: low + (bin + 1) * width, count: 0 }));
  for (const value of sorted) counted[Math.min(bins - 1, Math.floor((value - low) / width))].count += 1;
  return counted;
}
