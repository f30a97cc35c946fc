// What the benches of the book have in common: controls that look like its sliders, charts that look like its figures, and cards.

import { LOOKS } from "./looks.js";
import { SIGNS, honest, number } from "./statistics.js";

// An element: h("p", { class: "x", onclick: f }, "text", child). What is null or false is left out.
export function h(tag, attributes = {}, ...children) {
  return furnished(document.createElement(tag), attributes, children);
}

// The same of SVG.
export function s(tag, attributes = {}, ...children) {
  return furnished(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function furnished(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const percent = (share) => `${Math.round(100 * share)} %`;

let names = 0;
const unique = (word) => `bench-${word}-${names++}`;

const PATIENCE = 200; // milliseconds after which a slider has stopped: a thumb passes many positions on its way

// A slider over a list of values. `text` says each in words; `change(value)` is called while it moves, `settled(value)` where it
// stops. Its `value` can be read and set (which calls neither), and other values given, which keeps the place it has.
export function slider({ label, values, value, text = String, change = () => {}, settled = () => {}, title }) {
  const input = h("input", { type: "range", min: 0, max: values.length - 1, step: 1, title });
  const output = h("output");
  const element = h("label", { class: "explore-control" }, h("span", { class: "explore-name" }, label), input, output);
  let moving;
  const show = () => {
    const said = text(values[input.value]);
    output.value = said;
    input.setAttribute("aria-valuetext", said);
  };
  input.addEventListener("input", () => {
    show();
    change(values[input.value]);
    clearTimeout(moving);
    moving = setTimeout(() => settled(values[input.value]), PATIENCE);
  });
  const control = {
    element,
    get value() {
      return values[input.value];
    },
    set value(wanted) {
      // The nearest there is: an address may ask for another.
      input.value = values.reduce((best, one, i) => (Math.abs(one - wanted) < Math.abs(values[best] - wanted) ? i : best), 0);
      show();
    },
    set values(others) {
      const held = control.value;
      values = others;
      input.max = values.length - 1;
      control.value = held;
    },
  };
  control.value = value;
  return control;
}

// Buttons for a choice between names: options {value: what the reader sees}.
export function choice({ label, options, value, change = () => {} }) {
  const name = unique("choice");
  const inputs = Object.entries(options).map(([own, text]) =>
    h("label", {}, h("input", { type: "radio", name, value: own, checked: own === String(value), onchange: () => change(own) }), ` ${text}`),
  );
  const element = h("fieldset", { class: "explore-choice" }, h("legend", {}, label), inputs);
  return {
    element,
    get value() {
      return element.querySelector("input:checked").value;
    },
    set value(wanted) {
      for (const input of element.querySelectorAll("input")) input.checked = input.value === String(wanted);
    },
  };
}

export const button = (text, onclick, attributes = {}) => h("button", { type: "button", class: "bench-button", onclick, ...attributes }, text);

// The controls of a figure, each in its place; choices first, as on the book's other figures.
export function controls(...elements) {
  return h("div", { class: "explore-controls" }, elements.map((element) => h("div", {}, element)));
}

// ---- Charts ---------------------------------------------------------------------------------------------------------------

const MARGIN = { top: 26, bottom: 40, left: 46 };

// Round numbers between two ends; decades on a logarithmic axis.
export function ticks(low, high, log = false, wanted = 5) {
  if (log) {
    const found = [];
    for (let power = Math.ceil(Math.log10(low) - 1e-9); 10 ** power <= high * 1.0001; power++) found.push(10 ** power);
    return found;
  }
  const rough = (high - low) / wanted;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((times) => times * size >= rough) * size;
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step + 0); // never a minus zero
  return found;
}

// A number that somebody chose, with all its digits and no more.
export const plainly = (value) => String(Number(value.toPrecision(6))).replace("-", "−");

// Lines over an axis, each with its name at its end, values under the pointer, as wide as there is room.
//
// x, y: { label, domain: [low, high], log, text: value => string, ticks: [...] }.
// draw(lines): line { key (of LOOKS), name, points: [{ x, y, low, high }], note }; low and high make a band; a point whose y is
// not finite is left out. marks: [{ axis: "x" | "y", at, label }], lines to compare with. `said` becomes its description.
export class Chart {
  constructor({ title, x, y, height = 250, marks = [] }) {
    Object.assign(this, { title, x, y, height, marks, lines: [], said: title });
    this.svg = s("svg", { class: "bench-chart", role: "img", height, "aria-label": title });
    this.readout = h("div", { class: "bench-readout", "aria-hidden": "true", hidden: true });
    this.element = h("div", { class: "bench-plot" }, this.svg, this.readout);
    new ResizeObserver(() => this.render()).observe(this.element);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.point(null));
  }

  draw(lines, said = this.said) {
    Object.assign(this, { lines, said });
    this.pending ??= requestAnimationFrame(() => {
      this.pending = undefined;
      this.render();
    });
  }

  at(axis, value) {
    const { domain, log } = this[axis];
    const place = log ? Math.log(value / domain[0]) / Math.log(domain[1] / domain[0]) : (value - domain[0]) / (domain[1] - domain[0]);
    const held = Math.min(1.02, Math.max(-0.02, place));
    return axis === "x" ? MARGIN.left + held * this.inner.width : MARGIN.top + (1 - held) * this.inner.height;
  }

  render() {
    const width = this.element.clientWidth;
    if (!width) return;
    const named = this.lines.some((line) => line.name);
    const longest = Math.max(...this.lines.map(({ name, note }) => `${name}${note ? ` (${note})` : ""}`.length), 0);
    const right = named ? 14 + 7.3 * Math.min(longest, width < 420 ? 14 : 24) : 12;
    this.inner = { width: width - MARGIN.left - right, height: this.height - MARGIN.top - MARGIN.bottom };
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    this.svg.setAttribute("height", this.height);
    this.svg.setAttribute("aria-label", this.said);
    this.svg.replaceChildren(...this.axes(), ...this.marks.map((mark) => this.mark(mark)), ...this.lines.map((line) => this.line(line)), ...this.labels(), (this.cursor = s("path", { class: "bench-cursor" })));
  }

  axes() {
    const { x, y, inner } = this;
    const floor = MARGIN.top + inner.height;
    const text = (axis, value) => (axis.text ?? plainly)(value);
    return [
      s("text", { class: "bench-axis", x: 4, y: 14 }, y.label),
      s("text", { class: "bench-axis", x: MARGIN.left + inner.width / 2, y: this.height - 4, "text-anchor": "middle" }, x.label),
      ...(y.ticks ?? ticks(...y.domain, y.log)).flatMap((value) => [
        s("path", { class: "bench-grid", d: `M${MARGIN.left} ${this.at("y", value)}h${inner.width}` }),
        s("text", { class: "bench-tick", x: MARGIN.left - 6, y: this.at("y", value) + 4, "text-anchor": "end" }, text(y, value)),
      ]),
      ...(x.ticks ?? ticks(...x.domain, x.log, inner.width < 300 ? 3 : 5)).flatMap((value) => [
        s("path", { class: "bench-grid", d: `M${this.at("x", value)} ${MARGIN.top}v${inner.height}` }),
        s("text", { class: "bench-tick", x: this.at("x", value), y: floor + 17, "text-anchor": "middle" }, text(x, value)),
      ]),
      s("path", { class: "bench-frame", d: `M${MARGIN.left} ${MARGIN.top}v${inner.height}h${inner.width}` }),
    ];
  }

  mark({ axis, at, label }) {
    const place = this.at(axis, at);
    const { inner } = this;
    return s("g", { class: "bench-mark" },
      s("path", { d: axis === "x" ? `M${place} ${MARGIN.top}v${inner.height}` : `M${MARGIN.left} ${place}h${inner.width}` }),
      axis === "x"
        ? s("text", { x: place + 4, y: MARGIN.top + 12 }, label)
        : s("text", { x: MARGIN.left + inner.width - 4, y: place - 5, "text-anchor": "end" }, label));
  }

  finite(line) {
    return line.points.filter(({ y }) => Number.isFinite(y) && (!this.y.log || y > 0));
  }

  line(line) {
    const points = this.finite(line);
    const look = LOOKS[line.key] ?? LOOKS.grey;
    const way = (list, name) => list.map((point) => `${this.at("x", point.x).toFixed(1)} ${this.at("y", point[name]).toFixed(1)}`).join("L");
    const banded = points.filter(({ low, high }) => Number.isFinite(low) && Number.isFinite(high));
    const last = points.at(-1);
    return s("g", { style: `--line: var(--bn-${look.variable}, ${look.colour})` },
      banded.length > 1 && s("path", { class: "bench-band", d: `M${way(banded, "low")}L${way([...banded].reverse(), "high")}Z` }),
      points.length > 1 && s("path", { class: "bench-line", d: `M${way(points, "y")}`, "stroke-dasharray": look.dash }),
      last && s("circle", { class: "bench-end", cx: this.at("x", last.x), cy: this.at("y", last.y), r: 3.5 }));
  }

  // Names at the ends of lines, moved apart where they would meet.
  labels() {
    const gap = 15;
    const ends = this.lines
      .map((line) => ({ line, last: this.finite(line).at(-1) }))
      .filter(({ line, last }) => line.name && last)
      .map(({ line, last }) => ({ line, x: this.at("x", last.x), y: this.at("y", last.y) }))
      .sort((a, b) => a.y - b.y);
    ends.forEach((end, i) => i && (end.y = Math.max(end.y, ends[i - 1].y + gap)));
    const below = ends.length ? ends.at(-1).y - (MARGIN.top + this.inner.height + 4) : 0;
    if (below > 0) {
      ends.at(-1).y -= below;
      for (let i = ends.length - 2; i >= 0; i--) ends[i].y = Math.min(ends[i].y, ends[i + 1].y - gap);
    }
    return ends.map(({ line, x, y }) => {
      const look = LOOKS[line.key] ?? LOOKS.grey;
      return s("text", { class: "bench-name", x: x + 7, y: y + 4, style: `--line: var(--bn-${look.variable}, ${look.colour})` }, line.name, line.note && ` (${line.note})`);
    });
  }

  // The values under the pointer.
  point(event) {
    const xs = [...new Set(this.lines.flatMap((line) => this.finite(line).map(({ x }) => x)))];
    this.readout.hidden = !event || !xs.length;
    if (this.readout.hidden) return this.cursor?.setAttribute("d", "");
    const box = this.svg.getBoundingClientRect();
    const here = event.clientX - box.left;
    const nearest = xs.reduce((best, x) => (Math.abs(this.at("x", x) - here) < Math.abs(this.at("x", best) - here) ? x : best));
    const place = this.at("x", nearest);
    this.cursor.setAttribute("d", `M${place} ${MARGIN.top}v${this.inner.height}`);
    const text = this.y.text ?? number;
    this.readout.replaceChildren(
      h("strong", {}, `${this.x.label} ${(this.x.text ?? number)(nearest)}`),
      ...this.lines.flatMap((line) => {
        const found = line.name && this.finite(line).find(({ x }) => x === nearest);
        return found ? [h("div", {}, `${line.name}: ${text(found.y)}`)] : [];
      }));
    this.readout.style.left = `${Math.min(place + 8, box.width - this.readout.offsetWidth)}px`;
  }
}

// ---- Cards ----------------------------------------------------------------------------------------------------------------

// A verdict as the book's cards show it. says: the sentence; effect: what is measured, in words; found: statistics.verdict();
// unit: "points" or "%" print hundredths.
export function card({ says, effect, found, unit = "", ratio = false, source }) {
  const scale = unit === "points" || unit === "%" ? 100 : 1;
  const { word, effect: measured, threshold, above } = found;
  const behind = ratio && !unit ? "×" : unit && ` ${unit}`;
  const figures = !measured.seeds
    ? "no seed gave a finite number"
    : measured.seeds < 2
      ? `${number(measured.mean * scale)}${behind}, from one seed: no interval yet`
      : (([mean, low, high]) => `${mean} [${low}, ${high}]${behind}`)(honest(measured.mean * scale, measured.low * scale, measured.high * scale));
  const left = measured.leftOut ? `, ${measured.leftOut} more left out: no finite number` : "";
  return h("div", { class: "claim bench-card", "data-verdict": word },
    h("p", { class: "claim-verdict" }, h("span", { "aria-hidden": "true" }, SIGNS[word]), ` ${word[0].toUpperCase()}${word.slice(1)}`),
    h("p", { class: "claim-says" }, says),
    picture(found, ratio),
    h("p", { class: "claim-figures" }, h("strong", {}, figures), `; predicted: ${above ? "more" : "less"} than ${plainly(threshold * scale)}${behind}`),
    h("p", { class: "claim-source" }, `${effect}, ${measured.seeds} seed${measured.seeds === 1 ? "" : "s"}${left}.`, source && ` Claim: ${source}.`));
}

// The interval against its threshold, the predicted side shaded.
function picture({ word, effect, threshold, above }, ratio) {
  if (![effect.mean, effect.low, effect.high].every(Number.isFinite)) return null;
  const [width, height] = [240, 18];
  const scale = ratio && threshold > 0 ? Math.log : (value) => value;
  const ends = [threshold, effect.low, effect.mean, effect.high].map(scale);
  const [least, most] = [Math.min(...ends), Math.max(...ends)];
  const spare = 0.15 * (most - least) || Math.abs(least) || 1;
  const [at, low, mean, high] = ends.map((end) => (4 + ((width - 8) * (end - least + spare)) / (most - least + 2 * spare)).toFixed(1));
  const lies = { supported: "on the predicted side of", contradicted: "on the other side of", inconclusive: "across, or from too few seeds for," }[word];
  return s("svg", { class: "claim-picture", role: "img", viewBox: `0 0 ${width} ${height}`, width, height, "aria-label": `The interval lies ${lies} the threshold.` },
    s("rect", { class: "claim-side", x: above ? at : 0, y: 0, width: above ? width - at : at, height }),
    s("path", { class: "claim-threshold", d: `M${at} 0v${height}` }),
    s("g", { "data-verdict": word },
      s("path", { class: "claim-interval", d: `M${low} 9H${high}M${low} 5v8M${high} 5v8` }),
      s("circle", { class: "claim-mean", cx: mean, cy: 9, r: 4 })));
}
