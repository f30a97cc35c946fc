// The same run as a cell of a notebook, with the package.

import { MEASURES, inPython, written } from "./expression.js";

const LOOKS = 30; // at a network, evenly over its training
export const ALONG = [0.5, 1, 2, 4]; // steps along the gradient, in learning rates

// When the networks are looked at: every so many steps and at the end; where it is asked how far a mean moves in one step, at the
// step before, too; and when the claim asks. `along`: whether to look along the gradient.
export function looks({ steps, show }, claim) {
  const asked = [MEASURES[show], claim && MEASURES[claim.measure]].filter(Boolean);
  const pairs = asked.some((measure) => measure.pairs);
  const every = Math.max(1, Math.round(steps / LOOKS));
  const at = claim ? (claim.step ?? steps) : steps;
  const own = new Set([steps, at]);
  if (pairs) for (const step of [...own]) if (step > 0) own.add(step - 1);
  const found = new Set(own);
  for (let step = 0; step <= steps; step += every) {
    found.add(step);
    if (pairs && step > 0) found.add(step - 1);
  }
  const ascending = (set) => [...set].sort((a, b) => a - b);
  return { every, pairs, own: ascending(own), record: ascending(found), along: asked.some((measure) => measure.along) };
}

const quoted = (text) => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;

// Arguments over several lines, none longer than a chapter's, each below the first.
function wrapped(open, parts, end) {
  const lines = [open];
  parts.forEach((part, i) => {
    const text = part + (i < parts.length - 1 ? ", " : end);
    if (lines.at(-1).length + text.trimEnd().length > 88) lines.push(" ".repeat(open.length));
    lines[lines.length - 1] += text;
  });
  return lines.map((line) => line.trimEnd()).join("\n");
}

const times = (noise) => `{"${noise} times": dict(n_mu=${0.5 * noise}, n_sigma=${1 + 0.25 * noise}, r_mu=${0.1 * noise}, r_sigma=${0.1 * noise})}`;
const tidy = (text) => text.replace(/\d+\.\d{8,}/g, (digits) => String(Number(Number(digits).toFixed(6))));

// claim: as expression.parse gives it, or null.
export function inNotebook(state, claim, repository) {
  const { norms, init, layers, width, batch, lr, noise, steps, seed, seeds, show } = state;
  const { every, pairs, own, along } = looks(state, claim);
  const shown = [...new Set([show, ...(claim ? [claim.measure] : [])])];
  const name = (measure) => (measure === "range" ? "loss_range" : measure);
  const probes = [shown.includes("shift") && "Moments()", along && `Landscape((${ALONG.join(", ")}))`].filter(Boolean);
  const noisy = noise !== 1 && norms.some((norm) => norm.includes("nois"));
  const record = [`*range(0, ${steps + 1}, ${every})`, ...(pairs && every > 1 ? [`*range(${every - 1}, ${steps}, ${every})`] : []), ...own];
  const judges = claim && seeds >= 5;
  const measures = shown.map((measure) => {
    const { column, words, unit, geometric } = MEASURES[measure];
    const over = measure === "shift" ? ', over=("layer",)' : "";
    return `${name(measure)} = Measure("${column}", "${words}"${unit ? `, unit="${unit}"` : ""}${over}${geometric ? ', mean="geometric"' : ""})`;
  });
  return tidy([
    "# On Colab this installs the course; anywhere else it is already there.",
    "try:",
    "    import bncourse",
    "except ModuleNotFoundError:",
    `    %pip install --quiet "bncourse @ git+${repository}"`,
    "    import bncourse",
    "",
    "from bncourse import claims",
    "from bncourse.lab import set_up",
    shown.includes("shift") && "from bncourse.probes.activations import Moments",
    along && "from bncourse.probes.landscape import Landscape",
    `from bncourse.study import Measure, Study${judges ? ", registered" : ""}`,
    "",
    `lab = set_up("digits", first_seed=${seed})`,
    "claims.strict = False  # whatever the verdict, it is a finding",
    wrapped("study = Study(", [
      "lab", `norm=[${norms.map(quoted).join(", ")}]`, `init="${init}"`, `layers=${layers}`, `width=${width}`, `batch=${batch}`, `lr=${lr}`, `steps=${steps}`, `seeds=${seeds}`,
      ...(noisy ? [`noise=${times(noise)}`] : []),
      `record=[${record.join(", ")}]`,
      ...(probes.length ? [`probes=[${probes.join(", ")}]`] : []),
    ], ")"),
    ...measures,
    "",
    ...(judges
      ? [
          'registered.pop("bench", None)  # so that this cell can be run again',
          wrapped("study.claim(", ['"bench"', inPython(claim, steps), quoted(written(claim, steps)), '"the bench"'], ")"),
        ]
      : [claim ? "# No claim: a verdict needs five seeds or more." : "# No claim: none was written."]),
    "study.run()",
    wrapped("study.figure(", [`(${name(show)}, "step"${show === "accuracy" ? "" : ', {"yscale": "log"}'})`, `caption="${layers} layers, learning rate ${lr}; mean and 95 % interval over ${seeds} seeds."`], ")"),
    judges && 'study.judge("bench")',
  ].filter((line) => line !== false && line !== null).join("\n"));
}

// The chapter that comes closest: of what is asked, else of what trains.
export function closest({ norms, show }, claim) {
  const along = [show, claim?.measure].some((measure) => measure && MEASURES[measure].along);
  if (along) return { file: "06_loss_landscape", title: "The loss landscape" };
  if (norms.some((norm) => norm.includes("nois"))) return { file: "04_noisy_batch_norm", title: "Noisy batch norm" };
  if (norms.includes("layer")) return { file: "12_normalizers", title: "The other normalizers" };
  return { file: "03_what_it_buys", title: "What it buys" };
}
