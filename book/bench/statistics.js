// What several seeds say together: bncourse.claims, for the page.

// 97.5 % quantiles of Student's t with 1, 2, … 30 degrees of freedom; beyond, a line in 1 / degrees to the normal's.
const STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11, 2.101,
  2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042];
const student = (degrees) => STUDENT[degrees - 1] ?? 1.96 + ((STUDENT[29] - 1.96) * 30) / degrees;

export const MIN_SEEDS = 5;
export const SIGNS = { supported: "✓", contradicted: "✗", inconclusive: "?" };

// The mean over seeds and its 95 % interval; of quotients, both on logarithms. Seeds without a finite number are left out and
// counted. With fewer than two there is no interval.
export function interval(values, ratio = false) {
  const usable = values.filter((value) => Number.isFinite(value) && (value > 0 || !ratio));
  const found = { mean: NaN, low: NaN, high: NaN, seeds: usable.length, leftOut: values.length - usable.length };
  if (!usable.length) return found;
  const own = ratio ? usable.map(Math.log) : usable;
  const mean = own.reduce((sum, value) => sum + value, 0) / own.length;
  const back = ratio ? Math.exp : (value) => value;
  found.mean = back(mean);
  if (own.length < 2) return found;
  const variance = own.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (own.length - 1);
  const half = student(own.length - 1) * Math.sqrt(variance / own.length);
  return { ...found, low: back(mean - half), high: back(mean + half) };
}

// supported: the whole interval lies on the predicted side of the threshold; contradicted: on the other; else inconclusive, as
// with fewer than five seeds.
export function verdict(values, { above, below, ratio = false }) {
  const effect = interval(values, ratio);
  const threshold = above ?? below;
  let word = "inconclusive";
  if (effect.seeds >= MIN_SEEDS && effect.low > threshold) word = above === undefined ? "contradicted" : "supported";
  if (effect.seeds >= MIN_SEEDS && effect.high < threshold) word = above === undefined ? "supported" : "contradicted";
  return { word, effect, threshold, above: above !== undefined };
}

// Three significant digits, thousands separated, a real minus sign; very large and very small ones as powers of ten.
export function number(value) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "no number" : value > 0 ? "infinite" : "−infinite";
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-3)) {
    const [digits, power] = value.toExponential(2).split("e");
    return `${digits}·10${[...String(Number(power))].map((sign) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(sign)]).join("")}`.replace("-", "−");
  }
  const decimals = value === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(Number(value.toPrecision(3))))));
  return grouped(value, decimals);
}

const grouped = (value, decimals) =>
  (Number(value.toFixed(decimals)) === 0 ? 0 : value)
    .toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals })
    .replace("-", "−");

// A mean and the ends of its interval with as many decimals as the width of the interval leaves meaning to.
export function honest(mean, low, high) {
  const half = (high - low) / 2;
  const size = Math.max(Math.abs(low), Math.abs(high));
  if (!(half > 1e-9 * size) || !Number.isFinite(half) || size >= 1e6 || size < 1e-2 || (low > 0 && high > 4 * low)) return [mean, low, high].map(number);
  const decimals = Math.max(0, 1 - Math.floor(Math.log10(half)));
  return [mean, low, high].map((value) => grouped(value, decimals));
}
