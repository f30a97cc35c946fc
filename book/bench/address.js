// All that is set on the bench, and the same in its address: #norms=batch,none&lr=0.1…  Who opens such a link sees the same.

import { EXAMPLE, NAMES } from "./expression.js";

// What may be set, and what is set at first. `from` and `to` are the ends of a number, `whole` says that it is a whole one.
export const SETTINGS = {
  norms: { several: Object.keys(NAMES), first: ["none", "batch", "noisy_batch", "noise"] },
  init: { one: ["he", "glorot", "default"], first: "he" },
  layers: { from: 2, to: 16, whole: true, first: 8 },
  width: { from: 16, to: 64, whole: true, first: 32 },
  batch: { from: 4, to: 256, whole: true, first: 64 },
  lr: { from: 0.001, to: 3, first: 0.1 },
  noise: { from: 0, to: 4, first: 1 },
  steps: { from: 20, to: 3000, whole: true, first: 300 },
  seed: { from: 1, to: 999999, whole: true, first: 1 },
  seeds: { from: 2, to: 32, whole: true, first: 8 },
  show: { one: ["accuracy", "loss", "shift", "range", "edge"], first: "accuracy" },
  claim: { first: EXAMPLE },
};

export const defaults = () => Object.fromEntries(Object.entries(SETTINGS).map(([name, { first }]) => [name, Array.isArray(first) ? [...first] : first]));

const LONGEST_CLAIM = 200;

// What is behind the # (or the ?, which a link of another page may have): the settings, with the first ones for what cannot be taken, and a sentence about that, or "".
// A hash without "=" is the name of a place on the page.
export function read(hash) {
  const state = defaults();
  const told = hash.replace(/^[#?]/, "");
  if (!told.includes("=")) return { state, wrong: "" };
  const wrong = [];
  for (const [name, text] of new URLSearchParams(told)) {
    const setting = Object.hasOwn(SETTINGS, name) ? SETTINGS[name] : null;
    const refuse = (may) => wrong.push(`${name}=${text.length > 40 ? `${text.slice(0, 40)}…` : text} (${may})`);
    if (!setting) {
      refuse("there is no such setting");
    } else if (setting.several) {
      const asked = text.split(",").map((one) => one.trim());
      const known = setting.several.filter((one) => asked.includes(one));
      if (known.length) state[name] = known;
      if (!known.length || asked.some((one) => !known.includes(one))) refuse(`any of ${setting.several.join(", ")}`);
    } else if (setting.one) {
      if (setting.one.includes(text)) state[name] = text;
      else refuse(`one of ${setting.one.join(", ")}`);
    } else if (setting.from !== undefined) {
      const number = /^\d*\.?\d+$/.test(text.trim()) ? Number(text) : NaN;
      if (number >= setting.from && number <= setting.to && (!setting.whole || Number.isInteger(number))) state[name] = number;
      else refuse(`${setting.whole ? "a whole number" : "a number"} from ${setting.from} to ${setting.to}`);
    } else if (text.length <= LONGEST_CLAIM) {
      state[name] = text;
    } else {
      refuse(`at most ${LONGEST_CLAIM} characters`);
    }
  }
  return { state, wrong: wrong.length ? `Not taken from the address: ${wrong.join("; ")}. There it has what the bench starts with.` : "" };
}

export function write(state) {
  const pairs = Object.keys(SETTINGS).map((name) => [name, String(state[name])]);
  return `#${new URLSearchParams(pairs).toString().replaceAll("%2C", ",")}`;
}
