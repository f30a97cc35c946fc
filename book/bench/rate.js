// Chapter 6: drag the learning rate; effective smoothness slides along 2/η, and the comparison of loss ranges changes sign.
//
// Networks, batches, looks and means are those of the chapter's first experiment (raw pixels).

import { Chart, controls, h, percent, s, slider } from "./ui.js";
import { Positions, below } from "./positions.js";
import { interval } from "./statistics.js";

const NORMS = { none: "plain", batch: "batch norm" };
const RATES = [0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1];
const EDGES = [0.0025, 1.2]; // of the axes
const design = (lr, norm) => ({
  norm, init: "he", layers: 8, width: 32, lr, batch: 64, noise: 1, steps: 200,
  record: [20, 40, 80, 120, 160, 200], landscape: [0.5, 1, 2, 4],
});

const LEARNED = 0.2; // training accuracy below which a network is called stuck
const brief = (value) => String(Number(value.toPrecision(2)));

// Of one seed: the geometric mean of its looks; not a number if it blew up on the way.
const settled = (rows, measure) => Math.exp(rows.reduce((sum, row) => sum + Math.log(row[measure]), 0) / rows.length);
const blewUp = (rows) => rows.some((row) => row.diverged || !Number.isFinite(row.loss_range) || !Number.isFinite(row.beta));

export function mount(place) {
  const x = { label: "learning rate η", domain: EDGES, log: true, text: brief, ticks: [0.003, 0.01, 0.03, 0.1, 0.3, 1] };
  const beta = new Smoothness({ title: "effective smoothness", x, y: { label: "effective smoothness β", domain: [0.2, 1000], log: true, text: brief }, height: 250 });
  const ratio = new Quotient({
    title: "loss range, plain divided by batch norm",
    x,
    y: { label: "loss range: plain ÷ batch norm", domain: [0.005, 200], log: true, text: brief },
    marks: [{ axis: "y", at: 1, label: "" }],
    height: 250,
  });
  const positions = new Positions({ norms: Object.keys(NORMS), design, changed: () => draw(), found: (lr, all) => bottom.say(`${all ? "All rates are done. " : ""}${inWords(lr)}`) });
  let drawn; // what the pictures show
  const rate = slider({
    label: "learning rate",
    values: RATES,
    value: 0.3,
    settled: (value) => positions.go(value),
  });
  const bottom = below(positions, { label: "All rates", positions: RATES });
  place.replaceChildren(h("div", { class: "bench-plots" }, beta.element, ratio.element), controls(rate.element), bottom.element);
  positions.go(rate.value);
  draw();
  return positions.broken;

  // What all seeds at a rate say: the smoothness of each network, the quotient of loss ranges seed by seed.
  function at(lr) {
    const runs = Object.fromEntries(Object.keys(NORMS).map((norm) => [norm, positions.whole(lr, norm)]));
    const found = {};
    for (const [norm, all] of Object.entries(runs)) {
      const sound = all.filter((rows) => !blewUp(rows));
      found[norm] = {
        seeds: all.length,
        lost: all.length - sound.length,
        stuck: sound.filter((rows) => rows.at(-1).train_accuracy < LEARNED).length,
        beta: interval(sound.map((rows) => settled(rows, "beta")), true),
        accuracy: interval(sound.map((rows) => rows.at(-1).train_accuracy)),
      };
    }
    const pairs = positions.norms.map((norm) => (positions.rows.get(lr)?.[norm] ?? []).map((run) => (run?.done && !blewUp(run.rows) ? settled(run.rows, "loss_range") : NaN)));
    found.quotient = interval(pairs[0].map((plain, seed) => plain / (pairs[1][seed] ?? NaN)), true);
    return found;
  }

  function draw() {
    bottom.update((lr) => `rate ${lr}`);
    const state = `${positions.finished} ${positions.at}`;
    if (state === drawn) return;
    drawn = state;
    const all = positions.tried.map((lr) => ({ lr, ...at(lr) }));
    const points = (of) => all.map((found) => ({ x: found.lr, here: found.lr === positions.at, y: of(found).mean, low: of(found).low, high: of(found).high }));
    const told = positions.tried.map(inWords).join(" ");
    beta.draw(Object.entries(NORMS).map(([key, name]) => ({ key, name, points: points((found) => found[key].beta) })), `Effective smoothness against learning rate, with the line 2/η. ${told}`);
    ratio.draw([{ key: "grey", name: "", points: points((found) => found.quotient) }], `Loss range of the plain network divided by batch norm's, against learning rate. ${told}`);
  }

  function inWords(lr) {
    const { quotient, ...each } = at(lr);
    const parts = Object.entries(NORMS).flatMap(([norm, name]) => {
      const { seeds, lost, stuck, beta: smooth, accuracy } = each[norm];
      if (!seeds) return [];
      const said = [
        Number.isFinite(smooth.mean) && `β ${brief(smooth.mean)} = ${brief(smooth.mean * lr)}/η`,
        Number.isFinite(accuracy.mean) && `${percent(accuracy.mean)} right`,
        lost && `${lost} of ${seeds} seeds blew up and are left out`,
        stuck && `${stuck} of ${seeds} stayed near chance: a plateau, which counts as smooth`,
      ];
      return [`${name}: ${said.filter(Boolean).join(", ")}`];
    });
    if (!parts.length) return "";
    const sign = quotient.low > 1 ? "more without batch norm" : quotient.high < 1 ? "more with batch norm" : "undecided";
    const range = Number.isFinite(quotient.mean) ? ` Loss range, plain ÷ batch norm: ${brief(quotient.mean)}${quotient.seeds > 1 ? ` [${brief(quotient.low)}, ${brief(quotient.high)}], ${sign}` : ""}.` : "";
    return `Rate ${lr}: ${parts.join("; ")}.${range}`;
  }
}

// A chart whose points carry their intervals as bars: a reader tries rates in any order.
class Points extends Chart {
  line(line) {
    const drawn = super.line({ ...line, points: line.points.map(({ x, y }) => ({ x, y })) });
    for (const { x, y, low, high, here } of this.finite(line)) {
      const cx = this.at("x", x);
      if (Number.isFinite(low)) drawn.append(s("path", { class: "bench-bar", d: `M${cx} ${this.at("y", low)}V${this.at("y", high)}` }));
      drawn.append(s("circle", { class: "bench-dot", cx, cy: this.at("y", y), r: here ? 6 : 3.5 }));
    }
    return drawn;
  }
}

class Smoothness extends Points {
  axes() {
    const [from, to] = EDGES;
    const middle = 0.02;
    return [
      ...super.axes(),
      s("g", { class: "bench-mark" },
        s("path", { d: `M${this.at("x", from)} ${this.at("y", 2 / from)}L${this.at("x", to)} ${this.at("y", 2 / to)}` }),
        s("text", { x: this.at("x", middle) + 6, y: this.at("y", 2 / middle) - 6 }, "2/η")),
    ];
  }
}

class Quotient extends Points {
  axes() {
    const { width } = this.inner;
    const [left, top, bottom] = [this.at("x", EDGES[0]), this.at("y", this.y.domain[1]), this.at("y", this.y.domain[0])];
    return [
      ...super.axes(),
      s("text", { x: left + 6, y: top + 14 }, "↑ more without batch norm"),
      s("text", { x: left + width - 6, y: bottom - 8, "text-anchor": "end" }, "↓ more with batch norm"),
    ];
  }
}
