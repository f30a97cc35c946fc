// Repeats a training of bncourse.train (parity.py): same weights, batches and noise. Runs under node and in a browser.
const mixed = (h) => {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
};

export function agreedNoise(step, rows, layer, units, times) {
  const key = mixed((step * 1009 + layer * 101 + rows) >>> 0);
  const part = (k, which) => mixed((k * 2 + which + key) >>> 0) / 2 ** 32;
  const all = Array.from({ length: rows * units }, (_, k) => k);
  return { s: Float64Array.from(all, (k) => 1 + times * 0.3 * part(k, 0)), m: Float64Array.from(all, (k) => times * (part(k, 1) - 0.5)) };
}

export function repeat(Run, data, { design, seed, given }) {
  const run = new Run(data, { ...design, landscape: [0.5, 1, 2, 4] }, seed, {
    parameters: given.parameters,
    order: given.order.values(),
    noise: (step, rows, layer) => agreedNoise(step, rows, layer, design.width, design.noise),
  });
  const rows = [...run.train()].filter((row) => row);
  run.update(); // the gradients that bncourse.train left behind are those of one more
  return { rows, gradients: run.network.parameters.map(({ gradient }) => [...gradient]) };
}
