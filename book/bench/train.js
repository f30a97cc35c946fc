// Plain stochastic gradient descent on one network, watched: what bncourse.train is, for one seed and one learning rate.

import { Network } from "./network.js";
import { Random } from "./random.js";

const PROBE_EXAMPLES = 512; // the fixed training batch that looks are taken on
const [WEIGHTS, ORDER, NOISE] = [0, 1, 2]; // purposes of random numbers

// Indices of one batch after another, shuffled anew in every pass; the short remainder of a pass is left out.
function* batches(count, size, random) {
  for (;;) {
    const order = random.permutation(count);
    for (let at = 0; at + size <= count; at += size) yield order.subarray(at, at + size);
  }
}

// One training. `run.train()` yields what each look sees, and null after a step without one.
//
// data: { x, y, features, classes }, as data.js gives them.
// design: { norm, init, layers, width, lr, batch, noise, steps, record, units, landscape }
//   record: the steps to look at; step t means after t updates.
//   units: whether a row should list the mean input of every unit, a Float32Array a layer.
//   landscape: step sizes in units of the learning rate, to look along the gradient at every look; [] for none.
// given: { parameters, order, noise } in place of random ones, for who wants to train exactly what somebody else did.
export class Run {
  constructor(data, design, seed, given = {}) {
    Object.assign(this, { data, design, seed, given, step: 0, lr: design.lr, alive: true, first: null, last: null });
    const sizes = [data.features, ...Array(design.layers).fill(design.width), data.classes];
    this.network = new Network(sizes, design.norm, design.init, new Random(seed, WEIGHTS), design.noise);
    this.network.parameters.forEach((parameter, i) => given.parameters && parameter.value.set(given.parameters[i]));
    this.order = given.order ?? batches(data.y.length, design.batch, new Random(seed, ORDER));
    this.record = new Set(design.record);
    this.draw();
  }

  // The batch of the coming update.
  draw() {
    const { data, design } = this;
    const chosen = this.order.next().value;
    this.x ??= new Float64Array(design.batch * data.features);
    chosen.forEach((example, b) => this.x.set(data.x.subarray(example * data.features, (example + 1) * data.features), b * data.features));
    this.y = Uint8Array.from(chosen, (example) => data.y[example]);
  }

  // Forward. The noise of a step depends on seed and step alone, so who looks twice sees the same.
  pass(x, y) {
    const random = new Random(this.seed, NOISE, this.step);
    this.network.noises.forEach((layer, i) => {
      layer.source = (own, rows) => this.given.noise?.(this.step, rows, i) ?? own.draw(random, rows);
    });
    return this.network.forward(x, y, y.length);
  }

  // A look must not leave statistics behind in layers that keep those of the first batch.
  untouched(look) {
    const kept = this.network.frozen.map((layer) => layer.kept);
    try {
      return look();
    } finally {
      this.network.frozen.forEach((layer, i) => (layer.kept = kept[i]));
    }
  }

  look() {
    const { data, design, network, step } = this;
    const rows = Math.min(PROBE_EXAMPLES, data.y.length);
    const { loss, accuracy } = this.untouched(() => this.pass(data.x.subarray(0, rows * data.features), data.y.subarray(0, rows)));
    this.alive &&= Number.isFinite(loss);
    // A run that blew up is counted, not dropped: its accuracy is chance, and what else is measured of it is NaN.
    if (!this.alive) return { step, lr: this.lr, train_loss: Infinity, train_accuracy: 1 / data.classes, diverged: true };
    const row = { step, lr: this.lr, train_loss: loss, train_accuracy: accuracy, diverged: false };
    Object.assign(row, this.moments(rows));
    if (design.units) row.unit_means = this.last.map(({ mean }) => Float32Array.from(mean));
    if (design.landscape?.length) Object.assign(row, this.untouched(() => alongGradient(this, design.landscape)));
    return row;
  }

  // bncourse.probes.Moments: how far the mean of each unit's input has moved, in its standard deviations of then; averaged over
  // the units of a layer. One number a layer.
  moments(rows) {
    const now = this.network.activations.map(({ x, units }) => {
      const mean = new Float64Array(units);
      const sd = new Float64Array(units);
      for (let i = 0, b = 0; b < rows; b++) for (let u = 0; u < units; u++, i++) mean[u] += x[i] / rows;
      for (let i = 0, b = 0; b < rows; b++) for (let u = 0; u < units; u++, i++) sd[u] += (x[i] - mean[u]) ** 2 / (rows - 1);
      return { mean, sd: sd.map(Math.sqrt) };
    });
    this.first ??= now;
    const before = this.lookedAt === this.step - 1 ? this.last : null;
    this.last = now;
    this.lookedAt = this.step;
    return {
      mean_step: now.map((layer, i) => moved(layer, before?.[i])),
      mean_drift: now.map((layer, i) => moved(layer, this.first[i])),
      moved: now.map(({ mean }, i) => mean.reduce((sum, own, u) => sum + Math.abs(own - this.first[i].mean[u]), 0) / mean.length), // in units of z
    };
  }

  // θ ← θ − η ∇L
  update() {
    const { loss } = this.pass(this.x, this.y);
    this.network.backward(this.y.length);
    for (const { value, gradient } of this.network.parameters) for (let i = 0; i < value.length; i++) value[i] -= this.lr * gradient[i];
    this.alive &&= Number.isFinite(loss);
  }

  *train() {
    let rate = this.lr;
    for (;;) {
      // The step from which another learning rate holds is looked at, too.
      yield this.record.has(this.step) || this.lr !== rate ? this.look() : null;
      rate = this.lr;
      if (this.step >= this.design.steps) return;
      if (this.alive) this.update();
      this.step++;
      this.draw();
    }
  }
}

function moved(now, before) {
  if (!before) return NaN;
  let sum = 0;
  let count = 0;
  now.mean.forEach((mean, u) => {
    if (before.sd[u] <= 1e-12) return; // a unit that did not vary has no scale of its own
    sum += Math.abs(mean - before.mean[u]) / before.sd[u];
    count++;
  });
  return count ? sum / count : NaN;
}

// bncourse.probes.Landscape: loss and gradient at θ − s ∇L(θ), on the batch of the coming update, for s = multiples of the
// learning rate. `beta` is the effective smoothness, the largest ‖∇L(there) − ∇L(here)‖ / distance; beta_lr is 2 at the edge of
// stability. Parameters are as before afterwards.
function alongGradient(run, multiples) {
  const { parameters } = run.network;
  const look = () => {
    const { loss } = run.pass(run.x, run.y);
    run.network.backward(run.y.length);
    return loss;
  };
  const start = parameters.map(({ value }) => value.slice());
  const startLoss = look();
  const gradient = parameters.map((parameter) => parameter.gradient.slice());
  const norm = Math.sqrt(gradient.reduce((sum, own) => own.reduce((part, g) => part + g * g, sum), 0));
  const losses = [];
  let beta = norm > 0 ? 0 : NaN;
  for (const multiple of multiples) {
    const size = multiple * run.lr;
    parameters.forEach(({ value }, p) => value.forEach((_, i) => (value[i] = start[p][i] - size * gradient[p][i])));
    const loss = look();
    let change = 0;
    parameters.forEach((parameter, p) => parameter.gradient.forEach((g, i) => (change += (g - gradient[p][i]) ** 2)));
    change = Math.sqrt(change);
    const finite = Number.isFinite(loss) && Number.isFinite(change);
    losses.push(finite ? loss : Infinity);
    beta = Math.max(beta, finite ? change / (size * norm) : Infinity);
  }
  parameters.forEach(({ value }, p) => value.set(start[p]));
  const [low, high] = [Math.min(...losses), Math.max(...losses)];
  return { start_loss: startLoss, gradient_norm: norm, losses, loss_range: high === Infinity ? high : high - low, beta, beta_lr: beta * run.lr };
}
