// "Shake it": four networks train at once. The reader shakes their layer inputs, and sees what becomes of the slogans of 2015
// and 2018.

import { LOOKS } from "./looks.js";
import { pool } from "./pool.js";
import { interval, number, verdict } from "./statistics.js";
import { Chart, button, card, choice, controls, h, percent, plainly, s, slider, ticks } from "./ui.js";

const NETWORKS = { none: "plain", batch: "batch norm", noisy_batch: "noisy", noise: "plain + noise" };
const STEPS = 300;
const RECORD = Array.from({ length: STEPS / 10 + 1 }, (_, i) => 10 * i);
const LATE = STEPS - 20; // accuracy at the end: the mean of the looks from here on
const MORE = 8;

// What the two papers are remembered for, as chapter 4 asks it.
const CLAIMS = [
  { says: "Shaken, batch norm ends about as well as unshaken: within five points.", of: ["noisy_batch", "batch"], above: -0.05, source: "Santurkar et al. 2018, Fig. 2" },
  { says: "Shaken, batch norm still ends ahead of the plain network that nobody shakes.", of: ["noisy_batch", "none"], above: 0, source: "Santurkar et al. 2018, Fig. 2" },
];

export function mount(place) {
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const setting = { noise: 1, lr: 0.1, init: "he", layers: 8 };
  let runs = []; // { norm, seed, rows, ended }
  let going = [];
  let seed = 1; // the one whose units are shown
  let shownStep = null; // null: the latest
  let judgedOf; // how many seeds the cards speak of
  let giveUp;

  const accuracy = new Chart({
    title: "Training accuracy of four networks",
    x: { label: "training step", domain: [0, STEPS] },
    y: { label: "training accuracy", domain: [0, 1], ticks: [0, 0.25, 0.5, 0.75, 1], text: percent },
  });
  const dots = new Dots();
  const progress = h("span", { class: "bench-said" }, "Starting …");
  const announced = h("p", { class: "bench-said", role: "status" });
  const cards = h("div", { class: "bench-cards" });

  // ---- Controls ----
  const set = (name) => (value) => {
    setting[name] = value;
    if (name === "layers") layer.values = upTo(value);
    begin([seed]);
  };
  const noise = slider({ label: "noise, times the paper's", values: [0, 0.5, 1, 1.5, 2, 3, 4], value: 1, text: (v) => `${v}×`, settled: set("noise") });
  const lr = slider({ label: "learning rate", values: [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3], value: 0.1, settled: set("lr") });
  const layers = slider({ label: "hidden layers", values: [2, 4, 6, 8, 10, 12, 14, 16], value: 8, settled: set("layers") });
  const init = choice({ label: "first weights", options: { he: "He", glorot: "Glorot", default: "torch's default" }, value: "he", change: set("init") });
  const step = slider({
    label: "training step", values: RECORD, value: 0, change: (value) => {
      shownStep = value === STEPS ? null : value;
      draw();
    },
  });
  const upTo = (depth) => Array.from({ length: depth }, (_, i) => i + 1);
  const layer = slider({ label: "layer shown", values: upTo(8), value: 4, text: (v) => `${v} of ${setting.layers}`, change: draw });

  const fresh = button("New seed", () => begin([(seed = 1 + Math.floor(Math.random() * 9999))]));
  const more = button("Eight more seeds", () => add(Array.from({ length: MORE }, (_, i) => 1 + Math.max(...runs.map((run) => run.seed)) + i)), { class: "bench-button main" });
  const stop = button("Stop", () => {
    halt();
    tell();
  });

  place.replaceChildren(
    h("div", { class: "bench-plots" }, dots.element, accuracy.element),
    h("div", { class: "bench-buttons" }, more, fresh, stop, progress),
    controls(init.element, noise.element, lr.element, layers.element, layer.element, step.element),
    cards,
    announced,
    h("details", {},
      h("summary", {}, "What you see"),
      h("p", {}, "Left: each dot is one unit of the layer that you choose, and how far its mean input has moved from the start, in the first of the seeds. Right: accuracy in training mode on the same 512 images; over several seeds the mean, with its 95 % interval."),
      h("p", {}, "Four networks of 32 units a layer start from the same weights and see the same batches of 64 digits: without normalization, with batch norm, with noise behind batch norm whose mean and scale jump at every step, and with that noise alone. They train here, in your browser; nothing was computed before. The two sentences below are judged by accuracy over the last twenty steps, from five seeds on; what they ask was fixed beforehand."),
    ),
  );

  // ---- Training ----
  function begin(seeds) {
    halt();
    runs = [];
    judgedOf = undefined;
    shownStep = null;
    step.value = 0;
    announced.textContent = "";
    add(seeds);
  }

  function add(seeds) {
    const design = { ...setting, width: 32, batch: 64, steps: STEPS, record: RECORD, units: true };
    const added = seeds.flatMap((own) => Object.keys(NETWORKS).map((norm) => ({ norm, seed: own, rows: [], ended: false })));
    runs.push(...added);
    for (const run of added) {
      const job = pool().train({ ...design, norm: run.norm }, run.seed, (rows) => {
        run.rows.push(...rows.map((row) => (run.seed === seed ? row : { ...row, unit_means: null })));
        if (!still.matches) step.value = latest();
        draw();
      });
      going.push(job);
      job.done.then((rows) => {
        if (!rows) return; // stopped
        run.ended = true;
        going = going.filter((other) => other !== job);
        if (!going.length) tell();
        draw();
      }, failed);
    }
    draw();
  }

  function halt() {
    for (const job of going.splice(0)) job.stop();
    runs = runs.filter((run) => run.ended || run.seed === seed);
  }

  function failed(error) {
    if (!runs.some((run) => run.rows.length)) return giveUp(error);
    halt();
    progress.textContent = `The training broke off (${error.message}). Move a control to try again.`;
  }

  const atEnd = (norm, own) => {
    const late = runs.find((run) => run.norm === norm && run.seed === own).rows.filter((row) => row.step >= LATE);
    return late.reduce((sum, row) => sum + row.train_accuracy / late.length, 0);
  };
  const complete = () => [...new Set(runs.map((run) => run.seed))].filter((own) => runs.filter((run) => run.seed === own).every((run) => run.ended));
  const judged = () => CLAIMS.map((claim) => ({ claim, found: verdict(complete().map((own) => atEnd(claim.of[0], own) - atEnd(claim.of[1], own)), claim) }));
  const latest = () => Math.max(0, ...runs.filter((run) => run.seed === seed).map((run) => run.rows.at(-1)?.step ?? 0));

  function tell() {
    step.value = latest();
    const seeds = complete().length;
    announced.textContent = !seeds
      ? "Stopped."
      : seeds === 1
        ? `Trained, one seed. ${Object.entries(NETWORKS).map(([norm, name]) => `${name} ${percent(atEnd(norm, complete()[0]))}`).join(", ")}.`
        : `${seeds} seeds. ${judged().map(({ claim, found }) => `${claim.says.slice(0, -1)}: ${found.word}.`).join(" ")}`;
    draw();
  }

  // ---- Drawing ----
  function draw() {
    const lines = Object.entries(NETWORKS).map(([norm, name]) => {
      const own = runs.filter((run) => run.norm === norm && run.rows.length);
      const points = RECORD.map((at) => {
        const found = interval(own.flatMap(({ rows }) => rows.find((row) => row.step === at)?.train_accuracy ?? []));
        return { x: at, y: found.mean, low: found.low, high: found.high };
      });
      const blown = own.filter(({ rows }) => rows.at(-1).diverged).length;
      return { key: norm, name, points, note: blown ? (own.length === 1 ? "diverged" : `${blown} diverged`) : null };
    });
    const inWords = lines.flatMap(({ name, points, note }) => {
      const last = points.filter(({ y }) => Number.isFinite(y)).at(-1);
      return last ? `${name} ${percent(last.y)}${note ? `, ${note}` : ""} at step ${last.x}` : [];
    });
    accuracy.draw(lines, `Training accuracy. ${inWords.join("; ")}.`);

    const at = shownStep ?? latest();
    if (!still.matches || !going.length || shownStep !== null) {
      dots.draw(Object.fromEntries(Object.keys(NETWORKS).map((norm) => {
        const rows = runs.find((run) => run.norm === norm && run.seed === seed)?.rows ?? [];
        const means = (row) => row?.unit_means?.[layer.value - 1];
        const [now, start] = [means(rows.findLast((row) => row.step <= at)), means(rows[0])];
        return [norm, now && start ? Array.from(now, (mean, unit) => mean - start[unit]) : null];
      })), at, layer.value);
    }

    const seeds = complete().length;
    const all = new Set(runs.map((run) => run.seed)).size;
    stop.disabled = !going.length;
    more.disabled = Boolean(going.length) || !seeds;
    progress.textContent = !going.length ? `${seeds} seed${seeds === 1 ? "" : "s"}, from ${seed}` : all === 1 ? `step ${latest()} of ${STEPS}` : `${seeds} of ${all} seeds`;
    if (seeds === judgedOf) return; // nothing new to say
    judgedOf = seeds;
    cards.replaceChildren(...judged().map(({ claim, found }) =>
      found.effect.seeds
        ? card({ says: claim.says, effect: "Difference in accuracy", found, unit: "points", source: claim.source })
        : h("div", { class: "claim bench-card" }, h("p", { class: "claim-says" }, claim.says), h("p", { class: "claim-source" }, "Training …"))));
  }

  // mount.js, which waits for this, says so to the reader when nothing trains here at all. (Not imported: the page loads it under
  // another address, and there would be two of it.)
  return new Promise((_, reject) => {
    giveUp = reject;
    begin([seed]);
  });
}

// The units of one layer in each of the networks, a dot each, at how far its mean input has moved.
class Dots {
  constructor() {
    this.svg = s("svg", { class: "bench-chart bench-dots", role: "img", height: 250, "aria-label": "How far the mean input of each unit has moved: drawn when networks have trained." });
    this.element = h("div", { class: "bench-plot" }, this.svg);
    this.reach = 1;
    new ResizeObserver(() => this.last && this.draw(...this.last)).observe(this.element);
  }

  draw(moves, step, layer) {
    this.last = [moves, step, layer];
    this.pending ??= requestAnimationFrame(() => {
      this.pending = undefined;
      this.render(...this.last);
    });
  }

  render(moves, step, layer) {
    const [width, height, top, left, bottom] = [this.element.clientWidth, 250, 26, 46, 40];
    if (!width) return;
    const far = Math.max(...Object.values(moves).flatMap((all) => all?.map(Math.abs).filter(Number.isFinite) ?? []), 0.5);
    // A scale that holds still unless it must not: powers of two, and back only where there is far too much room.
    if (far > this.reach || far < this.reach / 4) this.reach = 2 ** Math.ceil(Math.log2(far));
    const y = (value) => top + (height - top - bottom) * (0.5 - value / 2 / this.reach);
    const place = (width - left - 8) / 4;
    const parts = [
      s("text", { class: "bench-axis", x: 4, y: 14 }, `move of the mean input, layer ${layer}`),
      ...ticks(-this.reach, this.reach, false, 4).flatMap((value) => [
        s("path", { class: "bench-grid", d: `M${left} ${y(value)}H${width - 8}` }),
        s("text", { class: "bench-tick", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, plainly(value)),
      ]),
      s("text", { class: "bench-axis", x: left + 2 * place, y: height - 4, "text-anchor": "middle" }, `32 units each, after ${step} steps`),
    ];
    const said = [];
    Object.entries(NETWORKS).forEach(([norm, name], column) => {
      const look = LOOKS[norm];
      const middle = left + place * (column + 0.5);
      const all = moves[norm];
      parts.push(s("g", { style: `--line: var(--bn-${look.variable}, ${look.colour})` },
        s("text", { class: "bench-name", x: middle, y: height - 22, "text-anchor": "middle" }, place < 75 ? { noise: "+ noise" }[norm] ?? name.replace("batch norm", "batch") : name),
        all && all.map((move, unit) => s("circle", { class: "bench-dot", r: 2.6, cx: middle + place * 0.8 * ((unit + 0.5) / all.length - 0.5), cy: y(Number.isFinite(move) ? move : 0) }))));
      said.push(all ? `${name} ${number(all.reduce((sum, move) => sum + Math.abs(move) / all.length, 0))}` : `${name}: no network left, its training diverged`);
    });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("height", height);
    this.svg.setAttribute("aria-label", `Mean distance of the units of layer ${layer} from where their inputs began, after ${step} steps: ${said.join("; ")}.`);
    this.svg.replaceChildren(...parts);
  }
}
