// A multilayer perceptron, forward and backward, written out: what bncourse.nets.mlp is to torch.
//
// A batch is one Float64Array, example after example: value u of example b stands at b * units + u. Every layer has
//   forward(x, rows) -> y        and keeps what the way back needs,
//   backward(dy, rows) -> dx     where dy is the gradient of the loss by y; it leaves the gradients of its own parameters in them.
// Arrays are made once and used again, so what a layer returns is valid until it is called the next time.

const EPS = 1e-5;

class Parameter {
  constructor(name, length, value = 0) {
    this.name = name;
    this.value = new Float64Array(length).fill(value);
    this.gradient = new Float64Array(length);
  }
}

// An array of at least this length, the same as before if that one is long enough.
const room = (array, length) => (array && array.length >= length ? array : new Float64Array(length));

// y = x Wᵀ + b, with W as torch has it: (outputs, inputs).
export class Linear {
  constructor(name, inputs, outputs, first) {
    Object.assign(this, { inputs, outputs, first });
    this.weight = new Parameter(`${name}.weight`, outputs * inputs);
    this.bias = new Parameter(`${name}.bias`, outputs);
    this.parameters = [this.weight, this.bias];
  }

  // Two examples and four outputs at a time: what is read from an array is used more than once.
  forward(x, rows) {
    const { inputs, outputs } = this;
    const W = this.weight.value;
    const bias = this.bias.value;
    const y = (this.y = room(this.y, rows * outputs));
    for (let b = 0; b < rows; b += 2) {
      const other = b + 1 < rows ? 1 : 0; // the last of an odd number is computed twice
      const [x0, y0] = [b * inputs, b * outputs];
      const [x1, y1] = [x0 + other * inputs, y0 + other * outputs];
      let o = 0;
      for (; o + 3 < outputs; o += 4) {
        let s0 = bias[o], s1 = bias[o + 1], s2 = bias[o + 2], s3 = bias[o + 3];
        let t0 = s0, t1 = s1, t2 = s2, t3 = s3;
        const w0 = o * inputs, w1 = w0 + inputs, w2 = w1 + inputs, w3 = w2 + inputs;
        for (let i = 0; i < inputs; i++) {
          const u = x[x0 + i], v = x[x1 + i];
          const p = W[w0 + i], q = W[w1 + i], r = W[w2 + i], z = W[w3 + i];
          s0 += u * p;
          s1 += u * q;
          s2 += u * r;
          s3 += u * z;
          t0 += v * p;
          t1 += v * q;
          t2 += v * r;
          t3 += v * z;
        }
        y.set([s0, s1, s2, s3], y0 + o);
        y.set([t0, t1, t2, t3], y1 + o);
      }
      for (; o < outputs; o++) {
        let s = bias[o], t = s;
        for (let i = 0; i < inputs; i++) {
          s += x[x0 + i] * W[o * inputs + i];
          t += x[x1 + i] * W[o * inputs + i];
        }
        y[y0 + o] = s;
        y[y1 + o] = t;
      }
    }
    this.x = x;
    return y;
  }

  // dW = dyᵀ x, db = the sum of dy, dx = dy W.
  backward(dy, rows) {
    const { inputs, outputs, x } = this;
    const db = this.bias.gradient.fill(0);
    for (let i = 0, b = 0; b < rows; b++) for (let o = 0; o < outputs; o++, i++) db[o] += dy[i];
    multiply(this.weight.gradient.fill(0), dy, x, outputs, rows, inputs, 1, outputs);
    if (this.first) return null; // nobody asks for the gradient of the images
    const dx = (this.dx = room(this.dx, rows * inputs));
    multiply(dx.fill(0, 0, rows * inputs), dy, this.weight.value, rows, outputs, inputs, outputs, 1);
    return dx;
  }
}

// sum += left right, matrices of (rows, inner) and (inner, columns), four of the inner at a time. left[r, k] stands at
// r * across + k * down, so that it can be a matrix or its transpose.
function multiply(sum, left, right, rows, inner, columns, across, down) {
  for (let r = 0; r < rows; r++) {
    const to = r * columns;
    let k = 0;
    for (; k + 3 < inner; k += 4) {
      const at = r * across + k * down;
      const g0 = left[at], g1 = left[at + down], g2 = left[at + 2 * down], g3 = left[at + 3 * down];
      if (g0 === 0 && g1 === 0 && g2 === 0 && g3 === 0) continue; // behind a ReLU that is off
      const p0 = k * columns, p1 = p0 + columns, p2 = p1 + columns, p3 = p2 + columns;
      for (let i = 0; i < columns; i++) sum[to + i] += g0 * right[p0 + i] + g1 * right[p1 + i] + g2 * right[p2 + i] + g3 * right[p3 + i];
    }
    for (; k < inner; k++) {
      const g = left[r * across + k * down];
      for (let i = 0; i < columns; i++) sum[to + i] += g * right[k * columns + i];
    }
  }
}

// What batch norm, its frozen twin and layer norm have in common: x̂ = (x − mean) / sd, then y = γ x̂ + β, unit by unit.
class Normalizer {
  constructor(name, units) {
    this.units = units;
    this.weight = new Parameter(`${name}.weight`, units, 1);
    this.bias = new Parameter(`${name}.bias`, units);
    this.parameters = [this.weight, this.bias];
  }

  prepare(rows) {
    for (const name of ["hat", "y", "dx"]) this[name] = room(this[name], rows * this.units);
  }

  // The gradients of γ and β: sums over the batch of dy x̂ and dy.
  ownGradients(dy, rows) {
    const { units, hat } = this;
    const dweight = this.weight.gradient.fill(0);
    const dbias = this.bias.gradient.fill(0);
    for (let i = 0, b = 0; b < rows; b++) {
      for (let u = 0; u < units; u++, i++) {
        dweight[u] += dy[i] * hat[i];
        dbias[u] += dy[i];
      }
    }
  }

  scaled(rows) {
    const { units, hat, y } = this;
    const weight = this.weight.value;
    const bias = this.bias.value;
    for (let i = 0, b = 0; b < rows; b++) for (let u = 0; u < units; u++, i++) y[i] = weight[u] * hat[i] + bias[u];
    return y;
  }
}

// Mean and variance of every unit over the batch. The variance divides by the number of examples, not one less.
export function statistics(x, rows, units, mean = new Float64Array(units), variance = new Float64Array(units)) {
  mean.fill(0);
  variance.fill(0);
  for (let i = 0, b = 0; b < rows; b++) for (let u = 0; u < units; u++, i++) mean[u] += x[i];
  for (let u = 0; u < units; u++) mean[u] /= rows;
  for (let i = 0, b = 0; b < rows; b++) for (let u = 0; u < units; u++, i++) variance[u] += (x[i] - mean[u]) ** 2;
  for (let u = 0; u < units; u++) variance[u] /= rows;
  return { mean, variance };
}

// Ioffe & Szegedy 2015, Algorithm 1, in training mode.
export class BatchNorm extends Normalizer {
  forward(x, rows) {
    const { units } = this;
    this.prepare(rows);
    const { mean, variance } = statistics(x, rows, units, this.mean, this.variance);
    Object.assign(this, { mean, variance });
    this.sd = variance.map((value) => Math.sqrt(value + EPS));
    for (let i = 0, b = 0; b < rows; b++) for (let u = 0; u < units; u++, i++) this.hat[i] = (x[i] - mean[u]) / this.sd[u];
    return this.scaled(rows);
  }

  // dx = γ / sd · (dy − mean of dy − x̂ · mean of dy x̂): moving one example moves the mean and the variance of all of them.
  backward(dy, rows) {
    const { units, hat, dx, sd } = this;
    this.ownGradients(dy, rows);
    const weight = this.weight.value;
    const along = this.weight.gradient;
    const level = this.bias.gradient;
    for (let i = 0, b = 0; b < rows; b++) {
      for (let u = 0; u < units; u++, i++) dx[i] = (weight[u] / sd[u]) * (dy[i] - level[u] / rows - (hat[i] * along[u]) / rows);
    }
    return dx;
  }
}

// A control: the statistics of the first batch, for good. No gradient flows through them.
export class FrozenBatchNorm extends Normalizer {
  forward(x, rows) {
    const { units } = this;
    this.prepare(rows);
    this.kept ??= statistics(x, rows, units);
    const { mean, variance } = this.kept;
    this.sd = variance.map((value) => Math.sqrt(value + EPS));
    for (let i = 0, b = 0; b < rows; b++) for (let u = 0; u < units; u++, i++) this.hat[i] = (x[i] - mean[u]) / this.sd[u];
    return this.scaled(rows);
  }

  backward(dy, rows) {
    const { units, dx, sd } = this;
    this.ownGradients(dy, rows);
    const weight = this.weight.value;
    for (let i = 0, b = 0; b < rows; b++) for (let u = 0; u < units; u++, i++) dx[i] = (weight[u] / sd[u]) * dy[i];
    return dx;
  }
}

// Ba, Kiros & Hinton 2016: the statistics of every example over its units.
export class LayerNorm extends Normalizer {
  forward(x, rows) {
    const { units } = this;
    this.prepare(rows);
    this.sd = room(this.sd, rows);
    for (let b = 0; b < rows; b++) {
      const from = b * units;
      let mean = 0;
      for (let i = from; i < from + units; i++) mean += x[i] / units;
      let variance = 0;
      for (let i = from; i < from + units; i++) variance += (x[i] - mean) ** 2 / units;
      this.sd[b] = Math.sqrt(variance + EPS);
      for (let i = from; i < from + units; i++) this.hat[i] = (x[i] - mean) / this.sd[b];
    }
    return this.scaled(rows);
  }

  // As batch norm's, along the other axis, and with γ inside: each unit of an example has one of its own.
  backward(dy, rows) {
    const { units, hat, dx, sd } = this;
    this.ownGradients(dy, rows);
    const weight = this.weight.value;
    for (let b = 0; b < rows; b++) {
      const from = b * units;
      let level = 0;
      let along = 0;
      for (let u = 0; u < units; u++) {
        const g = weight[u] * dy[from + u];
        level += g / units;
        along += (g * hat[from + u]) / units;
      }
      for (let u = 0; u < units; u++) dx[from + u] = (weight[u] * dy[from + u] - level - hat[from + u] * along) / sd[b];
    }
    return dx;
  }
}

// The noise of Santurkar et al. 2018, Algorithm 1: y = s x + m, where each unit has a mean and a scale of its own that jump at
// every step, and each value differs a little from those of its unit. `times` 1 is the paper's, 0 is none.
export class Noise {
  constructor(units, times) {
    Object.assign(this, { units, times, parameters: [] });
  }

  // s and m for one batch.
  draw(random, rows) {
    const { units, times } = this;
    const s = (this.s = room(this.s, rows * units));
    const m = (this.m = room(this.m, rows * units));
    for (let u = 0; u < units; u++) {
      const mu = random.uniform(-0.5 * times, 0.5 * times);
      const sigma = random.uniform(1, 1 + 0.25 * times);
      for (let i = u; i < rows * units; i += units) {
        m[i] = mu + random.uniform(-0.1 * times, 0.1 * times);
        s[i] = sigma + 0.1 * times * random.normal();
      }
    }
    return { s, m };
  }

  forward(x, rows) {
    Object.assign(this, this.source(this, rows));
    const y = (this.y = room(this.y, rows * this.units));
    for (let i = 0; i < rows * this.units; i++) y[i] = this.s[i] * x[i] + this.m[i];
    return y;
  }

  backward(dy, rows) {
    const dx = (this.dx = room(this.dx, rows * this.units));
    for (let i = 0; i < rows * this.units; i++) dx[i] = this.s[i] * dy[i];
    return dx;
  }
}

export class ReLU {
  constructor(units) {
    Object.assign(this, { units, parameters: [] });
  }

  forward(x, rows) {
    this.x = x; // the layer input of which the course measures moments
    const y = (this.y = room(this.y, rows * this.units));
    for (let i = 0; i < rows * this.units; i++) y[i] = x[i] > 0 ? x[i] : 0;
    return y;
  }

  backward(dy, rows) {
    const dx = (this.dx = room(this.dx, rows * this.units));
    for (let i = 0; i < rows * this.units; i++) dx[i] = this.x[i] > 0 ? dy[i] : 0;
    return dx;
  }
}

// By the package's names: what stands between a matrix product and its ReLU.
export const NORMS = {
  none: [],
  batch: [BatchNorm],
  noisy_batch: [BatchNorm, Noise],
  noise: [Noise],
  layer: [LayerNorm],
  frozen: [FrozenBatchNorm],
  frozen_noise: [FrozenBatchNorm, Noise],
};

// As bncourse.nets.initialize: a name, or a number, the standard deviation of all weights.
export function initialize(linear, init, random) {
  const { inputs, outputs } = linear;
  const uniform = (bound) => () => random.uniform(-bound, bound);
  const normal = (sd) => () => sd * random.normal();
  const draw =
    init === "he" ? normal(Math.sqrt(2 / inputs))
    : init === "glorot" ? uniform(Math.sqrt(6 / (inputs + outputs)))
    : init === "default" ? uniform(1 / Math.sqrt(inputs))
    : normal(init);
  linear.weight.value.forEach((_, i, all) => (all[i] = draw()));
  if (init === "default") linear.bias.value.forEach((_, i, all) => (all[i] = draw()));
}

export class Network {
  // sizes: features, units of each hidden layer, classes. noise: times the paper's.
  constructor(sizes, norm, init, random, noise = 1) {
    const last = sizes.length - 1;
    this.layers = [];
    this.activations = []; // one a hidden layer
    for (let layer = 1; layer <= last; layer++) {
      const linear = new Linear(`linear${layer}`, sizes[layer - 1], sizes[layer], layer === 1);
      initialize(linear, init, random);
      this.layers.push(linear);
      if (layer === last) break;
      for (const Kind of NORMS[norm]) this.layers.push(Kind === Noise ? new Noise(sizes[layer], noise) : new Kind(`norm${layer}`, sizes[layer]));
      this.layers.push(new ReLU(sizes[layer]));
      this.activations.push(this.layers.at(-1));
    }
    this.classes = sizes[last];
    this.parameters = this.layers.flatMap((layer) => layer.parameters);
    this.noises = this.layers.filter((layer) => layer instanceof Noise);
    this.frozen = this.layers.filter((layer) => layer instanceof FrozenBatchNorm);
  }

  // Cross-entropy in nats, averaged over the batch, and the share that is right. Keeps the gradient by the logits.
  forward(x, labels, rows) {
    let values = x;
    for (const layer of this.layers) values = layer.forward(values, rows);
    const { classes } = this;
    const dlogits = (this.dlogits = room(this.dlogits, rows * classes));
    let loss = 0;
    let right = 0;
    for (let b = 0; b < rows; b++) {
      const logits = values.subarray(b * classes, (b + 1) * classes);
      let highest = 0;
      for (let c = 1; c < classes; c++) if (logits[c] > logits[highest]) highest = c;
      let sum = 0;
      for (let c = 0; c < classes; c++) sum += Math.exp(logits[c] - logits[highest]);
      loss += (Math.log(sum) + logits[highest] - logits[labels[b]]) / rows;
      right += highest === labels[b] ? 1 / rows : 0;
      for (let c = 0; c < classes; c++) {
        const share = Math.exp(logits[c] - logits[highest]) / sum;
        dlogits[b * classes + c] = (share - (c === labels[b] ? 1 : 0)) / rows;
      }
    }
    return { loss, accuracy: right };
  }

  // After forward: the gradient of the loss in every parameter's `gradient`.
  backward(rows) {
    let gradient = this.dlogits;
    for (let i = this.layers.length - 1; i >= 0; i--) gradient = this.layers[i].backward(gradient, rows);
  }
}
