// Claims as a reader writes them: "noisy − batch, accuracy at 300, above −0.05". What bncourse.study is to Python.
//
//   NETWORK [− or / NETWORK], MEASURE [at STEP], above or below NUMBER
//
// A claim that is not understood throws an error whose message says which part, and what could stand there.

import { verdict } from "./statistics.js";

export const NAMES = {
  none: "no normalization",
  batch: "batch norm",
  noisy_batch: "noisy batch norm",
  noise: "noise only",
  layer: "layer norm",
  frozen: "frozen statistics",
  frozen_noise: "frozen statistics + noise",
};

// How a claim names them: the first is how the bench writes it.
const CALLED = {
  none: ["plain", "none", "no normalization", "no norm"],
  batch: ["batch", "batch norm", "batch normalization", "bn"],
  noisy_batch: ["noisy", "noisy batch", "noisy batch norm", "noisy batch normalization", "noisy bn", "noisy_batch"],
  noise: ["noise", "noise only", "plain + noise"],
  layer: ["layer", "layer norm", "layer normalization", "ln"],
  frozen: ["frozen", "frozen statistics"],
  frozen_noise: ["frozen + noise", "frozen noise", "frozen statistics + noise", "frozen_noise"],
};

const short = (norm) => CALLED[norm][0];

// What can be measured: its column; its words, as in the chapters; whether seeds (and layers) are averaged on logarithms, as what
// is compared by quotients; and what has to be watched for it: the step before, or the loss along the gradient.
export const MEASURES = {
  accuracy: { column: "train_accuracy", words: "training accuracy", unit: "points", called: ["accuracy", "training accuracy"] },
  loss: { column: "train_loss", words: "training loss", called: ["loss", "training loss"] },
  shift: { column: "mean_step", words: "one-step shift of the mean, in sd", geometric: true, pairs: true, called: ["shift"] },
  range: { column: "loss_range", words: "loss range along the gradient", geometric: true, along: true, called: ["loss range", "range"] },
  beta: { column: "beta", words: "effective smoothness", geometric: true, along: true, called: ["beta", "β", "smoothness", "sharpness", "effective smoothness"] },
  edge: {
    column: "beta_lr", words: "effective smoothness times learning rate", geometric: true, along: true,
    called: ["beta * rate", "β * rate", "smoothness * rate", "sharpness * rate", "beta * learning rate", "β * learning rate", "beta * lr", "sharpness * lr", "smoothness * lr"],
  },
};

const plainer = (text) => text.trim().toLowerCase().replace(/[−–—]/g, "-").replace(/[×·]/g, "*").replace(/÷/g, "/").replace(/\s*\*\s*/g, " * ").replace(/\s*\+\s*/g, " + ").replace(/\s+/g, " ");
const find = (table, word) => Object.keys(table).find((key) => table[key].includes(word));
const listed = (words, last = "and") => (words.length > 1 ? `${words.slice(0, -1).join(", ")} ${last} ${words.at(-1)}` : `${words[0]}`);

export const EXAMPLE = "noisy − batch, accuracy at 300, above −0.05";

function network(word) {
  const norm = find(CALLED, word);
  if (norm) return norm;
  const known = listed(Object.values(CALLED).map(([first]) => `“${first}”`));
  throw new Error(word ? `There is no network “${word}”. There are ${known}.` : `A network is missing on one side of the sign. There are ${known}.`);
}

// A claim: { first, between: "-", "/" or "", second, measure, step: a number, or null for the last, side: "above" or "below", threshold }
export function parse(text) {
  const parts = text.split(/[,;](?!\d)/);
  if (parts.length !== 3 || parts.some((part) => !part.trim())) {
    throw new Error(`A claim has three parts with commas between them: networks, what is measured, and where you expect it. For example: ${EXAMPLE}`);
  }
  const [who, what, where] = parts.map(plainer);

  const sides = who.replace(/ (minus|less) /g, "-").replace(/ (divided by|over) /g, "/").split(/([-/])/);
  if (sides.length > 3) throw new Error(`“${parts[0].trim()}” compares more than two networks. Compare two, for example noisy − batch, or name one.`);
  const [first, second] = [sides[0], sides[2]].map((side) => (side === undefined ? null : network(side.trim())));
  if (first === second) throw new Error(`“${parts[0].trim()}” compares a network with itself. Compare two, for example noisy − batch, or name one.`);

  const [, words, at] = /^(.*?)(?: (?:at|after) (.*))?$/.exec(what);
  const measure = find(Object.fromEntries(Object.entries(MEASURES).map(([key, { called }]) => [key, called])), words);
  if (!measure) throw new Error(`“${words}” is not measured here. What is: accuracy, loss, shift, loss range, beta, beta × rate. For example: accuracy at 300`);
  let step = null;
  if (at !== undefined && !/^(the )?end$/.test(at)) {
    const found = /^(?:step )?(\d+)(?: steps?)?$/.exec(at);
    if (!found) throw new Error(`“at ${at}” names no step. A step is a whole number: accuracy at 300`);
    step = Number(found[1]);
  }

  const found = /^(above|below|over|under|more than|less than|>|<) ?(.*)$/.exec(where);
  if (!found) throw new Error(`“${parts[2].trim()}” does not say on which side you expect it. Write above or below and a number: above −0.05`);
  const [, side, amount] = found;
  const [, digits, unit] = /^([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?) ?(points?|%|times|\*)?$/.exec(amount) ?? [];
  if (digits === undefined) {
    const why = /\d,\d/.test(amount) ? "Decimals stand behind a point" : "Write one";
    throw new Error(`${amount ? `“${amount}” is not a number that can be compared with` : "The number is missing"}. ${why}: above −0.05`);
  }
  const hundredths = /^(point|%)/.test(unit ?? "");
  const between = sides[1] ?? "";
  if (hundredths && (between === "/" || !MEASURES[measure].unit)) throw new Error(`Only accuracies and their differences have points. Write the number alone: above ${digits}`);
  const threshold = Number(digits) / (hundredths ? 100 : 1);
  const claim = { first, between, second, measure, step, side: /above|over|more|>/.test(side) ? "above" : "below", threshold };
  if (isRatio(claim) && !(threshold > 0)) {
    throw new Error(between ? "A quotient is compared with a number above 0: batch / plain, shift at 50, below 1" : "This measure is never below 0. Compare it with a larger number.");
  }
  return claim;
}

// Whether its mean over seeds is taken on logarithms, as in the package: of quotients, and of measures that are compared by them.
export const isRatio = ({ between, measure }) => between === "/" || (!between && Boolean(MEASURES[measure].geometric));

export const unitOf = ({ between, measure }) => (between === "/" ? "" : (MEASURES[measure].unit ?? ""));

// What a design cannot answer throws.
export function check(claim, { norms, steps }) {
  const missing = [claim.first, claim.second].filter((norm) => norm && !norms.includes(norm));
  if (missing.length) throw new Error(`${listed(missing.map((norm) => `“${short(norm)}”`))} ${missing.length > 1 ? "do" : "does"} not train here. Tick it under “Networks”, or name one of ${listed(norms.map((norm) => `“${short(norm)}”`), "or")}.`);
  const step = claim.step ?? steps;
  if (step > steps) throw new Error(`Step ${step} is never reached: there are ${steps} steps. Name one from 0 to ${steps}, or train longer.`);
  if (MEASURES[claim.measure].pairs && step < 1) throw new Error("At step 0 nothing has moved yet. Name a later step: shift at 50");
}

const signed = (value) => String(value).replace("-", "−");

// The claim as the bench writes it, with its step named.
export function written({ first, between, second, measure, step, side, threshold }, steps) {
  const who = between ? `${short(first)} ${between === "-" ? "−" : "/"} ${short(second)}` : short(first);
  return `${who}, ${MEASURES[measure].called[0].replace("*", "×")} at ${step ?? steps}, ${side} ${signed(threshold)}`;
}

const after = (step) => (step ? `after ${step} step${step === 1 ? "" : "s"}` : "at the start");

// What is measured, in the words of the package.
export function effect({ first, between, second, measure, step }, steps) {
  const { words } = MEASURES[measure];
  if (!between) return `${words}, ${NAMES[first]}, ${after(step ?? steps)}`;
  return `${words}, ${after(step ?? steps)}, ${NAMES[first]} ${between === "-" ? "minus" : "divided by"} ${NAMES[second]}`;
}

// One number of a row; over layers the mean, geometric where seeds are averaged so.
export function measured(measure, row) {
  const value = row?.[MEASURES[measure].column];
  if (value === undefined) return NaN;
  if (typeof value === "number") return value;
  return Math.exp(value.reduce((sum, one) => sum + Math.log(one), 0) / value.length);
}

// rows: norm => (seed => rows). One number a seed.
export function valuesOf(claim, seeds, rows, steps) {
  const at = (norm, seed) => measured(claim.measure, rows(norm, seed)?.find(({ step }) => step === (claim.step ?? steps)));
  return seeds.map((seed) => {
    const own = at(claim.first, seed);
    if (!claim.between) return own;
    return claim.between === "-" ? own - at(claim.second, seed) : own / at(claim.second, seed);
  });
}

export const judged = (claim, values) => verdict(values, { [claim.side]: claim.threshold, ratio: isRatio(claim) });

// The claim in Python, for bncourse.study: accuracy("noisy_batch", 300) - accuracy("batch", 300) > -0.05
export function inPython({ first, between, second, measure, step, side, threshold }, steps) {
  const quantity = (norm) => `${measure === "range" ? "loss_range" : measure}("${norm}", ${step ?? steps})`;
  return `${quantity(first)}${between ? ` ${between} ${quantity(second)}` : ""} ${side === "above" ? ">" : "<"} ${threshold}`;
}
