// Batch norm of one unit, there and back, with the statistics in the gradient or out of it: what points.js shows.

import { BatchNorm } from "./network.js";

// x → x̂ → the gradient by x of a loss whose gradient by x̂ is `g`. What is detached counts as a number that nobody can move: its
// term is missing. With γ = 1 and β = 0 the layer's output is x̂.
export function thereAndBack(x, g, { mean = false, variance = false } = {}) {
  const norm = new BatchNorm("norm", 1);
  const hat = Float64Array.from(norm.forward(Float64Array.from(x), x.length));
  const sd = norm.sd[0];
  const level = g.reduce((sum, own) => sum + own, 0) / g.length; // what flows back through the mean ...
  const stretch = g.reduce((sum, own, i) => sum + own * hat[i], 0) / g.length; // ... and through the variance
  const dx =
    mean || variance
      ? g.map((own, i) => (own - (mean ? 0 : level) - (variance ? 0 : stretch * hat[i])) / sd)
      : norm.backward(Float64Array.from(g), x.length);
  return { hat: [...hat], mean: norm.mean[0], sd, dx: [...dx] };
}

// The two directions in which no move of the batch changes x̂: shift all points, stretch them about their mean.
export const along = ({ hat, dx }) => ({
  shift: dx.reduce((sum, own) => sum + own, 0),
  stretch: dx.reduce((sum, own, i) => sum + own * hat[i], 0),
});

export function arriving(kind, chosen, hat, drawn) {
  return hat.map((own, i) => ({ one: i === chosen ? 1 : 0, random: drawn[i], same: 1, along: own })[kind]);
}
