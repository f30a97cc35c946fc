// Chapter 1: drag the scale of the first weights; accuracy and drift answer.
//
// The chapter's network with what the bench has: three hidden layers, batches of sixty, a rate of one half, two hundred steps; but
// 64 ReLUs a layer in place of a hundred sigmoids. He's initialization has a standard deviation of √(2/64) in
// all layers, which is a little below 0.2.

import { Chart, choice, controls, h, percent, s, slider } from "./ui.js";
import { Positions, below } from "./positions.js";
import { interval } from "./statistics.js";
import { LOOKS } from "./looks.js";

const NORMS = { none: "plain", batch: "batch norm" };
const SCALES = [0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56, 0.8];
const STEPS = 200;
const LAYER = 3;
const design = (init, norm) => ({
  norm, init, layers: LAYER, width: 64, lr: 0.5, batch: 60, noise: 1, steps: STEPS,
  record: [0, 5, 10, 15, 20, 30, 40, 50, 60, 80, 100, 120, 140, 160, 180, STEPS],
});

// The two units of drift, as the chapter has them.
const UNITS = {
  mean_drift: { name: "its own standard deviations", short: "own sd", domain: [0.01, 300] },
  moved: { name: "z", short: "z", domain: [0.001, 30] },
};

const brief = (value) => String(Number(value.toPrecision(2)));
const accuracy = (row) => row.train_accuracy;
const drift = (unit) => (row) => row[unit]?.[LAYER - 1] ?? NaN;

// Mean and interval over seeds at every step that some have reached.
function course(runs, measure, ratio) {
  const steps = [...new Set(runs.flatMap((run) => run.rows.map((row) => row.step)))].sort((a, b) => a - b);
  return steps.map((x) => {
    const { mean, low, high } = interval(runs.flatMap((run) => run.rows.filter((row) => row.step === x).map(measure)), ratio);
    return { x, y: mean, low, high };
  });
}

export function mount(place) {
  const steps = { label: "training step", domain: [0, STEPS], text: String };
  const share = { label: "training accuracy", domain: [0, 1], text: percent };
  const left = new Chart({ title: "training accuracy", x: steps, y: share, height: 190 });
  const right = new Chart({ title: "drift of layer 3", x: steps, y: { log: true, text: brief }, height: 190 });
  // The upper quarter is for names of points.
  const strip = new Strip({ title: "all scales tried", x: { log: true, text: brief }, y: { ...share, domain: [0, 1.3], ticks: [0, 0.5, 1], label: `accuracy after ${STEPS} steps, every scale you try` }, height: 200 });
  strip.element.classList.add("bench-wide");

  const positions = new Positions({ norms: Object.keys(NORMS), design, changed: () => draw(), found: (scale, all) => bottom.say(`${all ? "All scales are done. " : ""}${inWords(scale)}`) });
  let drawn; // what the lower picture shows
  const scale = slider({
    label: "first weights, sd",
    values: SCALES,
    value: 0.1,
    settled: (value) => positions.go(value),
  });
  const unit = choice({ label: "drift in units of", options: Object.fromEntries(Object.entries(UNITS).map(([key, { name }]) => [key, name])), value: "mean_drift", change: () => turned() });
  const bottom = below(positions, { label: "All scales", positions: SCALES });
  place.replaceChildren(h("div", { class: "bench-plots" }, left.element, right.element, strip.element), controls(unit.element, scale.element), bottom.element);
  positions.go(scale.value);
  draw();
  return positions.broken;

  function turned() {
    draw();
    bottom.say(inWords(positions.at));
  }

  function draw() {
    const { short, domain } = UNITS[unit.value];
    const here = positions.at;
    right.y = { ...right.y, domain, label: `drift of layer 3's mean input (${short})` };
    strip.x = { ...strip.x, domain, label: `drift of layer 3's mean input (${short})` };
    const lines = (measure, ratio) =>
      Object.entries(NORMS).map(([key, name]) => {
        const runs = positions.seeds(here, key);
        const lost = runs.filter((run) => run.rows.at(-1).diverged).length;
        return { key, name: lost ? `${name} ✗` : name, points: course(runs, measure, ratio) }; // how many is said below
      });
    left.draw(lines(accuracy), `Training accuracy over ${STEPS} steps, first weights of standard deviation ${here}. ${inWords(here)}`);
    right.draw(lines(drift(unit.value), true), `Drift of layer 3 in units of ${UNITS[unit.value].name}. ${inWords(here)}`);
    bottom.update((position) => `sd ${position}`);
    const state = `${positions.finished} ${here} ${unit.value}`;
    if (state === drawn) return;
    drawn = state;
    const points = positions.tried.flatMap((position) => Object.keys(NORMS).map((key) => ({ key, position, here: position === here, ...at(position, key) })));
    strip.draw(points.filter(({ seeds }) => seeds), `Accuracy against drift, all scales tried. ${positions.tried.map(inWords).join(" ")}`);
  }

  // Where a network ended at one scale.
  function at(position, key) {
    const ends = positions.whole(position, key).map((rows) => rows.at(-1));
    return { seeds: ends.length, lost: ends.filter((row) => row.diverged).length, x: interval(ends.map(drift(unit.value)), true), y: interval(ends.map(accuracy)) };
  }

  function inWords(position) {
    const each = Object.entries(NORMS).flatMap(([key, name]) => {
      const { seeds, lost, x, y } = at(position, key);
      if (!seeds) return [];
      const moved = Number.isFinite(x.mean) ? `drift ${brief(x.mean)} ${UNITS[unit.value].short}` : "";
      return [`${name}: ${[`${percent(y.mean)} right`, moved, lost && `${lost} of ${seeds} diverged`].filter(Boolean).join(", ")}`];
    });
    return each.length ? `sd ${position}, ${each.join("; ")}.` : "";
  }
}

// Points with their intervals, each with its scale beside it. Circles are plain, squares have batch norm.
class Strip extends Chart {
  line({ key, x, y, here }) {
    if (!Number.isFinite(x.mean)) return ""; // all diverged: named below
    const look = LOOKS[key];
    const [cx, cy] = [this.at("x", x.mean), this.at("y", y.mean)];
    const whole = Number.isFinite(x.low) && Number.isFinite(y.low);
    const size = here ? 6.5 : 4.5;
    return s("g", { style: `--line: var(--bn-${look.variable}, ${look.colour})` },
      whole && s("path", { class: "bench-bar", d: `M${this.at("x", x.low)} ${cy}H${this.at("x", x.high)}M${cx} ${this.at("y", y.low)}V${this.at("y", y.high)}` }),
      key === "batch"
        ? s("rect", { class: "bench-dot", x: cx - size, y: cy - size, width: 2 * size, height: 2 * size })
        : s("circle", { class: "bench-dot", cx, cy, r: size }));
  }

  // A scale's number above its point, or below, where there is room; else only the pointer tells. The present one comes first.
  labels() {
    const taken = [];
    const places = this.lines.filter(({ x }) => Number.isFinite(x.mean)).sort((a, b) => b.here - a.here);
    const written = places.flatMap(({ x, y, position, here }) => {
      const [cx, cy] = [this.at("x", x.mean), this.at("y", y.mean)];
      const free = [cy - 10, cy + 20, cy + 34].find((top) => taken.every(([left, other]) => Math.abs(left - cx) > 34 || Math.abs(other - top) > 13));
      if (free === undefined) return [];
      taken.push([cx, free]);
      return [s("text", { x: cx, y: free, "text-anchor": "middle", "font-weight": here ? 700 : 400 }, String(position))];
    });
    const [left, top] = [this.at("x", this.x.domain[0]), this.at("y", 0.55)]; // of the key: no network ends there
    // Who has no drift to be placed by: named below the key.
    const lost = Object.entries(NORMS).flatMap(([norm, name]) => {
      const scales = this.lines.filter((line) => line.key === norm && !Number.isFinite(line.x.mean)).map(({ position }) => position);
      return scales.length ? [`${name} diverged: ${scales.join(", ")}`] : [];
    });
    return [...written, s("text", { x: left + 8, y: top + 24 }, lost.join("; ")), s("g", {},
      s("circle", { class: "bench-dot", style: key("none"), cx: left + 12, cy: top, r: 4.5 }), s("text", { x: left + 22, y: top + 4 }, NORMS.none),
      s("rect", { class: "bench-dot", style: key("batch"), x: left + 63, y: top - 4.5, width: 9, height: 9 }), s("text", { x: left + 78, y: top + 4 }, NORMS.batch))];
  }

  point(event) {
    const dots = this.lines.filter(({ x }) => Number.isFinite(x.mean));
    this.readout.hidden = !event || !dots.length;
    if (this.readout.hidden) return;
    const box = this.svg.getBoundingClientRect();
    const away = ({ x, y }) => Math.hypot(this.at("x", x.mean) - event.clientX + box.left, this.at("y", y.mean) - event.clientY + box.top);
    const { key, position, seeds, lost, x, y } = dots.reduce((best, dot) => (away(dot) < away(best) ? dot : best));
    this.readout.replaceChildren(
      h("strong", {}, `${NORMS[key]}, sd ${position}`),
      h("div", {}, `accuracy ${percent(y.mean)}`),
      h("div", {}, `drift ${brief(x.mean)}`),
      h("div", {}, lost ? `${lost} of ${seeds} seeds diverged` : `${seeds} seeds`));
    this.readout.style.left = `${Math.max(0, Math.min(this.at("x", x.mean) + 10, box.width - this.readout.offsetWidth))}px`;
  }
}

const key = (name) => `--line: var(--bn-${LOOKS[name].variable}, ${LOOKS[name].colour})`;
