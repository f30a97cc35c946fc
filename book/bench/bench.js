// The page "The bench": every setting, and claims that are written down before the run that judges them.
//
// Two kinds of runs. A look trains each network with seed 0, at once, whenever something is set anew: it is for looking and never
// counts. Training over seeds is what the reader asks for, and what gives a verdict on the claim that stood there when it began.

import { SETTINGS, read, write } from "./address.js";
import { EXAMPLE, MEASURES, check, effect, isRatio, judged, measured, parse, unitOf, valuesOf, written } from "./expression.js";
import { LOOKS } from "./looks.js";
import { pool } from "./pool.js";
import { ALONG, closest, inNotebook, looks } from "./python.js";
import { MIN_SEEDS, honest, interval, number } from "./statistics.js";
import { Chart, button, card, choice, controls, h, percent, plainly, s, slider } from "./ui.js";

const LOOKING = 0; // the seed of looks; those that count begin at 1
const PATIENCE = 250; // milliseconds between the last move of a control and what it starts
const HOME = "https://github.com/bncourse/bncourse";

const decade = (value) => (Number.isInteger(Math.log10(value)) && value >= 1e-3 && value < 1e6 ? String(value) : number(value));
const SHOWN = {
  accuracy: { name: "accuracy", text: percent, domain: [0, 1], ticks: [0, 0.25, 0.5, 0.75, 1] },
  loss: { name: "loss", text: decade, log: true },
  shift: { name: "shift of the mean", text: decade, log: true },
  range: { name: "loss range", text: decade, log: true },
  edge: { name: "β × rate", text: decade, log: true, mark: { axis: "y", at: 2, label: "2: the edge of stability" } },
};
// As they are called on the chart. All of these are understood in a claim.
const LABELS = { none: "plain", batch: "batch norm", noisy_batch: "noisy batch norm", noise: "plain + noise", layer: "layer norm", frozen: "frozen statistics", frozen_noise: "frozen + noise" };
const INITS = { he: "He", glorot: "Glorot", default: "torch’s default" };

const grid = (low, high, step) => Array.from({ length: Math.round((high - low) / step) + 1 }, (_, i) => low + i * step);
const decades = (...powers) => powers.flatMap((power) => [1, 1.5, 2, 3, 5, 7].map((digit) => Number(`${digit}e${power}`)));
// Name, values, how a value reads. What they do is told below the bench, on the page itself.
const SLIDERS = {
  layers: ["hidden layers", grid(2, 16, 1), String],
  width: ["units a layer", [16, 24, 32, 48, 64], String],
  batch: ["batch size", [4, 8, 16, 32, 64, 128, 256], String],
  lr: ["learning rate", [...decades(-3, -2, -1), 1, 1.5, 2, 3], String],
  noise: ["noise", grid(0, 4, 0.25), (value) => `${value} ×`],
  steps: ["steps", [20, 50, 100, 200, 300, 500, 1000, 2000, 3000], (value) => value.toLocaleString("en-US")],
  seeds: ["seeds", [2, 3, 5, 8, 12, 20, 32], String],
};
const DESIGN = ["init", "layers", "width", "batch", "lr", "noise", "steps"]; // what makes a training what it is, beside network and seed

const later = (wait, act) => {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, wait);
  };
};
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const said = (seeds) => (seeds.length > 1 ? `seeds ${seeds[0]} to ${seeds.at(-1)}` : `seed ${seeds[0]}`);

export async function mount(place) {
  const bench = new Bench(place);
  // Another state in the address: a link on this page, or the way back. The name of a place on the page is none.
  addEventListener("hashchange", () => {
    if (!location.hash.includes("=")) return;
    bench.open(location.hash);
    place.scrollIntoView();
    bench.look();
  });
  // Links of this page that set the bench have the state as a query: the page's own scripts take what is behind # for a place.
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="?"]');
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    location.hash = link.search.slice(1);
  });
  await bench.look();
  const { problem, rows } = bench.run;
  if (problem && !rows.size) throw problem; // nothing trains here at all: the page says so, and shows what stands for it
}

class Bench {
  constructor(place) {
    this.place = place;
    this.still = matchMedia("(prefers-reduced-motion: reduce)"); // then lines grow twice a second, not all the time
    this.seen = new Map(); // design and seed -> the claim that stood there when they were first trained
    this.toAddress = later(PATIENCE, () => this.toHash());
    this.lookSoon = later(PATIENCE, () => this.look());
    this.rateSoon = later(PATIENCE, () => this.changeRate());
    this.open(location.hash.includes("=") ? location.hash : location.search);
  }

  // Everything on the page, for the state that is in this address.
  open(hash) {
    this.stop();
    const { state, wrong } = read(hash);
    Object.assign(this, { state, run: null });
    this.place.replaceChildren(
      ...[wrong && h("p", { class: "bench-sentence", role: "alert" }, wrong), this.figure(), this.settings(), this.claimed(), this.shared()].filter(Boolean));
    this.readClaim();
    this.redraw();
  }

  // ---- What is on the page ------------------------------------------------------------------------------------------------

  figure() {
    const show = choice({
      label: "Shown",
      options: Object.fromEntries(Object.entries(SHOWN).map(([key, { name }]) => [key, name])),
      value: this.state.show,
      change: (key) => {
        this.set("show", key);
        // What was not watched has to be trained again; what was can be drawn at once.
        if (this.run && this.lines().some(({ points }) => points.length)) this.draw();
        else this.lookSoon();
      },
    });
    this.chart = new Chart({ title: "Training", x: { label: "training step", domain: [0, 1] }, y: { label: "", domain: [0, 1] }, height: 300 });
    this.doing = h("p", { class: "bench-said" });
    this.progress = h("progress", { class: "bench-progress", max: 1, value: 0, "aria-label": "Trained so far" });
    this.stopButton = button("Stop", () => this.stop(true));
    this.numbers = h("tbody");
    this.numbersHead = h("th", { scope: "col" });
    return h("div", {}, show.element, this.chart.element,
      h("div", { class: "bench-buttons" }, this.stopButton, button("Look again", () => this.look()), this.progress), this.doing,
      h("details", { class: "bench-more" }, h("summary", {}, "The last values as numbers"),
        h("table", { class: "bench-numbers" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "network"), this.numbersHead, h("th", { scope: "col" }, "seeds"))), this.numbers)));
  }

  settings() {
    const boxes = Object.entries(LABELS).map(([norm, name]) => {
      const box = h("input", { type: "checkbox", value: norm, checked: this.state.norms.includes(norm) });
      box.addEventListener("change", () => {
        const norms = Object.keys(LABELS).filter((one) => (one === norm ? box.checked : this.state.norms.includes(one)));
        if (!norms.length) return void (box.checked = true); // somebody has to train
        this.change("norms", norms);
      });
      const { variable, colour, dash } = LOOKS[norm];
      const swatch = s("svg", { class: "bench-swatch", width: 24, height: 10, "aria-hidden": "true", style: `--line: var(--bn-${variable}, ${colour})` },
        s("path", { class: "bench-line", d: "M0 5h24", "stroke-dasharray": dash }));
      return h("label", {}, box, swatch, name);
    });
    const init = choice({ label: "Initialization", options: INITS, value: this.state.init, change: (value) => this.change("init", value) });
    const sliders = Object.entries(SLIDERS).map(([name, [label, values, text]]) =>
      slider({
        label, text, value: this.state[name],
        values: [...new Set([...values, this.state[name]])].sort((a, b) => a - b), // an address may have set one between
        change: (value) => this.change(name, value),
      }).element);
    this.firstSeed = h("input", { class: "bench-number", type: "number", min: SETTINGS.seed.from, max: SETTINGS.seed.to, step: 1, value: this.state.seed, inputmode: "numeric" });
    this.firstSeed.addEventListener("change", () => {
      const { from, to } = SETTINGS.seed;
      this.firstSeed.value = Math.min(to, Math.max(from, Math.round(Number(this.firstSeed.value)) || from));
      this.change("seed", Number(this.firstSeed.value));
    });
    return controls(
      h("fieldset", { class: "explore-choice bench-networks" }, h("legend", {}, "Networks"), boxes), init.element, ...sliders,
      h("label", { class: "explore-control" }, h("span", { class: "explore-name" }, "first seed"), this.firstSeed));
  }

  claimed() {
    this.reading = h("p", { class: "bench-said", id: "bench-reading" });
    this.input = h("input", {
      class: "bench-claim", type: "text", id: "bench-claim", value: this.state.claim, maxlength: 200, spellcheck: "false", autocomplete: "off", autocapitalize: "off",
      "aria-describedby": "bench-reading", placeholder: EXAMPLE,
    });
    this.input.addEventListener("input", () => {
      this.set("claim", this.input.value);
      this.readClaim();
      this.sayLate();
    });
    this.main = h("button", { type: "submit", class: "bench-button main" });
    this.verdict = h("div", { class: "bench-verdict" });
    this.late = h("div", {});
    this.announced = h("p", { class: "bench-announced", role: "status" });
    const form = h("form", {},
      h("label", { class: "bench-label", for: "bench-claim" }, "Your claim, written before its run"), this.input, this.reading,
      h("div", { class: "bench-buttons" }, this.main, button("New seeds", () => this.newSeeds())));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.problem) this.announce(`${this.problem} The networks train without a claim.`);
      this.train();
    });
    return h("div", {}, form, this.late, this.verdict, this.announced);
  }

  shared() {
    const code = h("code");
    const said = h("span", { role: "status" });
    const colab = h("a", {});
    const details = h("details", { class: "bench-more" }, h("summary", {}, "As Python"),
      h("p", {}, "The same run, as a cell of a notebook. The package draws other weights, batches and noise from the same seeds, so its numbers differ as those of other seeds would."),
      h("pre", { class: "bench-code", tabindex: 0, "aria-label": "Python" }, code),
      h("div", { class: "bench-buttons" }, button("Copy the cell", () => copy(code.textContent, said, "The cell")), colab));
    const repository = document.querySelector("a.btn-source-repository-button")?.href ?? HOME; // a fork's page leads to the fork
    this.inPython = () => {
      if (!details.open) return;
      code.textContent = inNotebook(this.state, this.claim, repository);
      const { file, title } = closest(this.state, this.claim);
      colab.href = `https://colab.research.google.com/github/${new URL(repository).pathname.slice(1)}/blob/main/book/${file}.ipynb`;
      colab.textContent = `Open the closest chapter on Colab: ${title}`;
    };
    details.addEventListener("toggle", this.inPython);
    return h("div", {},
      h("div", { class: "bench-buttons" },
        button("Copy link", () => {
          this.toHash();
          copy(location.href, said, "The link");
        }),
        button("Back to the start", () => {
          history.replaceState(history.state, "", location.pathname);
          this.open("");
          this.look();
          this.place.querySelector("input").focus();
        }),
        said),
      details);
  }

  // ---- What is set --------------------------------------------------------------------------------------------------------

  toHash = () => history.replaceState(history.state, "", location.pathname + write(this.state));

  set(name, value) {
    this.state[name] = value;
    this.toAddress();
    this.inPython();
  }

  // A control was moved. Seeds wait until they are asked for; everything else is looked at.
  change(name, value) {
    this.set(name, value);
    this.readClaim();
    if (name === "lr" && this.running()) this.rateSoon();
    else if (name !== "seed" && name !== "seeds") this.lookSoon();
    this.sayLate();
  }

  readClaim() {
    this.claim = null;
    this.problem = "";
    let read = "Nothing is claimed, so nothing is judged.";
    try {
      if (this.state.claim.trim()) {
        const claim = parse(this.state.claim);
        check(claim, this.state);
        this.claim = claim;
        read = `Read as: ${effect(claim, this.state.steps)}, ${claim.side} ${plainly(claim.threshold)}.`;
      }
    } catch (error) {
      read = this.problem = error.message;
    }
    this.reading.textContent = read;
    this.reading.classList.toggle("wrong", Boolean(this.problem));
    this.input.setAttribute("aria-invalid", Boolean(this.problem));
    this.main.textContent = `Train ${plural(this.state.seeds, "seed")}${this.claim ? " and judge" : ""}`;
    this.inPython();
  }

  // The claim, with its step, as text: two that say the same are the same.
  wording = () => (this.claim ? written(this.claim, this.state.steps) : "");

  design = () => Object.fromEntries(DESIGN.map((name) => [name, this.state[name]]));

  // ---- Runs ---------------------------------------------------------------------------------------------------------------

  look() {
    return this.start([LOOKING]);
  }

  train() {
    const { seed, seeds } = this.state;
    return this.start(Array.from({ length: seeds }, (_, i) => seed + i));
  }

  // Seeds that come after all that this page has used.
  newSeeds() {
    const used = [...this.seen.keys()].map((key) => Number(key.split(" ").at(-1)));
    const next = Math.max(this.state.seed + this.state.seeds, ...used.map((seed) => seed + 1));
    this.set("seed", next <= SETTINGS.seed.to ? next : SETTINGS.seed.from);
    this.firstSeed.value = this.state.seed;
    this.train();
  }

  running = () => Boolean(this.run && !this.run.over);

  async start(seeds) {
    this.stop();
    const design = this.design();
    const looking = seeds[0] === LOOKING;
    const { record, along } = looks(this.state, this.claim);
    const run = (this.run = {
      seeds, looking, design, along, claim: this.claim, wording: this.wording(), norms: this.state.norms, shown: new Set(), rows: new Map(), trainings: [], over: false, stopped: false, rates: [], problem: null,
    });
    const key = JSON.stringify(design);
    if (!looking) for (const seed of seeds) if (!this.seen.has(`${key} ${seed}`)) this.seen.set(`${key} ${seed}`, run.wording);
    run.late = !looking && seeds.some((seed) => this.seen.get(`${key} ${seed}`) !== run.wording);
    const went = seeds.flatMap((seed) => run.norms.map((norm) => this.oneTraining(run, { ...design, norm, record, landscape: along ? ALONG : [] }, seed)));
    if (!looking) this.verdict.replaceChildren();
    this.sayLate();
    this.draw();
    await Promise.all(went);
    run.over = true;
    if (this.run !== run) return;
    if (run.problem) this.announce(`A training broke: ${run.problem.message}.`);
    else if (!looking) this.conclude(run);
    this.draw();
    // The rate was moved when all had reached their end: then it is one more setting to look at.
    if (looking && !run.stopped && this.state.lr !== design.lr && !this.changes(run).length) this.lookSoon();
  }

  async oneTraining(run, design, seed) {
    const one = { norm: design.norm, seed, done: false, rows: [] };
    one.handle = pool().train(design, seed, (rows) => {
      one.rows.push(...rows);
      run.rows.set(`${one.norm} ${seed}`, one.rows);
      if (this.run === run) this.draw();
    });
    run.trainings.push(one);
    try {
      one.done = (await one.handle.done) !== null;
    } catch (error) {
      run.problem ??= error;
    }
    if (this.run === run) this.draw();
  }

  // What is complete stays.
  stop(asked = false) {
    if (!this.running()) return;
    const { run } = this;
    run.stopped = asked;
    for (const one of run.trainings) if (!one.done) one.handle.stop();
    if (asked) this.announce("Stopped.");
  }

  // Another learning rate for networks that are under way. Of several seeds only the first that is not done goes on: the others
  // would have had the old rate for another number of steps each.
  changeRate() {
    const { run } = this;
    if (!this.running()) return this.look();
    const open = run.trainings.filter(({ done }) => !done);
    if (!run.looking) {
      run.only ??= Math.min(...open.map(({ seed }) => seed));
      for (const one of open) if (one.seed !== run.only) one.handle.stop();
    }
    for (const one of open) one.handle.rate(this.state.lr);
    run.rates.push(this.state.lr);
  }

  // Where the rate changed, network by network: the rows carry theirs.
  changes(run) {
    return run.norms.flatMap((norm) => {
      const rows = this.own(run, norm, run.only ?? run.seeds[0]);
      return rows.flatMap((row, i) => {
        const before = i ? rows[i - 1].lr : run.design.lr;
        return row.lr === before ? [] : [{ norm, row, lr: row.lr }];
      });
    });
  }

  // ---- Verdicts -----------------------------------------------------------------------------------------------------------

  conclude(run) {
    const { claim, seeds } = run;
    if (run.stopped || !claim) return;
    if (run.rates.length) return this.announce("The learning rate was changed on the way, so there is no verdict. Train the seeds anew for one.");
    if (run.late) {
      this.sayLate();
      return this.announce("The claim was written after its run, so there is no verdict.");
    }
    const { steps } = run.design;
    const found = judged(claim, valuesOf(claim, seeds, (norm, seed) => run.rows.get(`${norm} ${seed}`), steps));
    const { layers, lr, noise } = run.design;
    this.verdict.replaceChildren(
      card({ says: run.wording, effect: capital(effect(claim, steps)), found, unit: unitOf(claim), ratio: isRatio(claim), source: "yours, written before its run" }),
      h("p", { class: "bench-said" }, `${capital(said(seeds))}; ${layers} layers, learning rate ${lr}, noise ${noise} ×, ${INITS[run.design.init]} initialization.`, seeds.length < MIN_SEEDS && ` A verdict takes ${MIN_SEEDS} seeds or more.`));
    this.announce(`${capital(found.word)}: ${run.wording}.`);
  }

  // A claim that has seen the data cannot be tested on them.
  sayLate() {
    const { run } = this;
    const wording = this.wording();
    const trained = run && !run.looking && (run.late || run.wording !== wording) && JSON.stringify(this.design()) === JSON.stringify(run.design);
    this.late.replaceChildren(
      ...(trained && wording
        ? [h("p", { class: "bench-sentence" }, `“${wording}” was written after its run: these seeds had been trained by then. Other seeds can judge it. `), h("div", { class: "bench-buttons" }, button("New seeds, then judge", () => this.newSeeds()))]
        : []));
  }

  announce(text) {
    this.announced.textContent = text;
  }

  // ---- What is drawn ------------------------------------------------------------------------------------------------------

  own = (run, norm, seed) => run.rows.get(`${norm} ${seed}`) ?? [];

  // A line a network: the mean over the seeds that are done, with its interval; until one is, the seed under way.
  lines() {
    const { run, state } = this;
    const { geometric } = MEASURES[state.show];
    return run.norms.map((norm) => {
      const done = run.only === undefined ? run.trainings.filter((one) => one.norm === norm && one.done).map(({ rows }) => rows) : [];
      const of = done.length ? done : [this.own(run, norm, run.only ?? run.seeds[0])];
      const blown = of.filter((rows) => rows.at(-1)?.diverged).length;
      const points = of[0]
        .map(({ step }, i) => ({ x: step, ...interval(of.map((rows) => measured(state.show, rows[i])), geometric) }))
        .map(({ x, mean, low, high }) => ({ x, y: mean, low, high }))
        .filter(({ y }) => Number.isFinite(y));
      return { key: norm, name: LABELS[norm], points, count: of.length, blown, note: blown ? "diverged" : "" };
    });
  }

  // Some times a second, not with every row that comes: the page has to answer its reader.
  draw() {
    this.pending ??= setTimeout(() => {
      this.pending = undefined;
      this.redraw();
    }, this.running() ? (this.still.matches ? 500 : this.run.looking ? 80 : 300) : 0);
  }

  redraw() {
    const { run, chart, state } = this;
    const { name, mark, ...axis } = SHOWN[state.show];
    const measure = MEASURES[state.show];
    const lines = run ? this.lines() : [];
    const changes = run ? this.changes(run) : [];
    chart.x.domain = [0, run?.design.steps ?? state.steps];
    chart.x.text = (step) => step.toLocaleString("en-US");
    chart.y = { label: capital(measure.words), ...axis };
    chart.y.domain ??= around(lines.flatMap(({ points }) => points.flatMap(({ y, low, high }) => [y, low, high])));
    chart.marks = [mark].filter((one) => one && one.at > chart.y.domain[0] && one.at < chart.y.domain[1]);
    // The change of a rate: a line where it came first, and a dot on the line of each network.
    for (const lr of new Set(changes.map((change) => change.lr))) {
      chart.marks.push({ axis: "x", at: Math.min(...changes.filter((change) => change.lr === lr).map(({ row }) => row.step)), label: `rate ${lr}` });
    }
    const dots = changes.map(({ norm, row }) => ({ key: norm, name: "", points: [{ x: row.step, y: measured(state.show, row) }] }));
    const last = run?.design.steps;
    const ends = lines.map((line) => `${line.name}: ${this.ending(line)}`).join("; ");
    chart.draw([...lines, ...dots], `${capital(measure.words)} by training step. ${run?.over ? `At the end, ${ends}.` : ""}`);

    this.numbersHead.textContent = `${measure.words}, step ${last ?? ""}`;
    this.numbers.replaceChildren(...lines.map((line) => h("tr", {}, h("th", { scope: "row" }, line.name), h("td", {}, this.ending(line)), h("td", {}, String(line.count)))));
    this.sayDoing(lines, changes);
  }

  // The value at the end of a line, in words.
  ending({ points, blown, count }) {
    const { unit } = MEASURES[this.state.show];
    const end = points.at(-1);
    const behind = unit ? " %" : "";
    const note = blown && blown < count ? ` (${blown} of ${count} diverged)` : "";
    if (blown && blown === count) return "diverged";
    if (end?.x !== this.run.design.steps) return this.running() ? "not there yet" : `no number${note}`;
    const scaled = [end.y, end.low, end.high].map((value) => value * (unit ? 100 : 1));
    const [mean, low, high] = Number.isFinite(end.low) ? honest(...scaled) : [number(scaled[0])];
    return `${mean}${low === undefined ? "" : ` [${low}, ${high}]`}${behind}${note}`;
  }

  sayDoing(lines, changes) {
    const { run } = this;
    const busy = this.running();
    const share = (one) => (one.done ? 1 : (one.rows.at(-1)?.step ?? 0) / run.design.steps);
    const counted = run ? run.trainings.filter(({ seed }) => run.only === undefined || seed === run.only) : [];
    this.progress.value = counted.length ? counted.reduce((sum, one) => sum + share(one), 0) / counted.length : 0;
    this.progress.classList.toggle("idle", !busy);
    this.stopButton.disabled = !busy;
    if (!run) return;
    const done = run.seeds.filter((seed) => run.trainings.filter((one) => one.seed === seed).every((one) => one.done)).length;
    const sentences = [
      run.problem ? `A training broke: ${run.problem.message}.`
      : run.looking ? `Seed ${LOOKING}, a look: it never counts.`
      : run.only !== undefined ? `Seed ${run.only} alone.`
      : busy ? `${done} of ${run.seeds.length} seeds are trained (${said(run.seeds)}).`
      : `${done === run.seeds.length ? "Mean" : `Stopped after ${done} of ${run.seeds.length}: mean`} and 95 % interval over ${said(run.seeds)}.`,
    ];
    if (run.looking && run.stopped && !busy) sentences.push("Stopped.");
    const blown = lines.filter((line) => line.blown).map((line) => `${line.name}${line.count > 1 ? ` in ${line.blown} of ${line.count} seeds` : ""}`);
    if (blown.length) sentences.push(`Diverged: ${blown.join(", ")}.`);
    for (const lr of new Set(changes.map((change) => change.lr))) {
      const where = changes.filter((change) => change.lr === lr).map(({ norm, row }) => `${LABELS[norm]} from step ${row.step}`);
      sentences.push(`Learning rate ${lr}: ${where.join(", ")}.`);
    }
    if (changes.length) sentences.push("A run whose rate was changed gives no verdict; train seeds for one.");
    this.doing.textContent = sentences.join(" ");
  }
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

// Whole decades around all that is drawn.
function around(values) {
  const found = values.filter((value) => Number.isFinite(value) && value > 0);
  if (!found.length) return [0.01, 1];
  const high = 10 ** Math.ceil(Math.log10(Math.max(...found)) + 1e-9);
  const low = 10 ** Math.floor(Math.log10(Math.min(...found)));
  return [Math.max(low, high / 1e8), high > low ? high : low * 10];
}

async function copy(text, said, what) {
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = `${what} is copied.`;
  } catch {
    said.textContent = "This browser does not let a page copy. Select it and copy it yourself.";
  }
}
