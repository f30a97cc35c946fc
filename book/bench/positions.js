// Trains the same few networks at every position of a slider, over some seeds, and keeps what it found.

import { button, h, percent } from "./ui.js";
import { pool } from "./pool.js";

const FIRST = 3; // seeds a position starts with
const MORE = 5; // and those that a press of "more seeds" adds

export class Positions {
  // design(position, norm): what to train. changed(): something came in. found(position, all): all seeds of
  // the one where the reader is are done, or all positions are.
  constructor({ norms, design, changed, found = () => {} }) {
    Object.assign(this, { norms, design, found, at: null, finished: 0, queue: [], jobs: [], rows: new Map(), wanted: new Map() });
    // Rows come in by the hundred a second; ten pictures a second are enough, and leave the page free.
    this.changed = () => {
      this.soon ??= setTimeout(() => {
        this.soon = undefined;
        changed();
      }, 100);
    };
    this.broken = new Promise((_, reject) => (this.fail = reject)); // mount.js says so to the reader
  }

  // Rows of every seed of a network at a position, those under way included.
  seeds(position, norm) {
    return (this.rows.get(position)?.[norm] ?? []).filter((run) => run?.rows.length);
  }

  whole(position, norm) {
    return this.seeds(position, norm).filter((run) => run.done).map((run) => run.rows);
  }

  get tried() {
    return [...this.rows.keys()].filter((position) => this.whole(position, this.norms[0]).length).sort((a, b) => a - b);
  }

  // Of a position: the share of all steps that is done.
  progress(position) {
    const steps = (run, norm) => (run.done ? 1 : run.rows.at(-1).step / this.design(position, norm).steps);
    const done = this.norms.reduce((sum, norm) => this.seeds(position, norm).reduce((own, run) => own + steps(run, norm), sum), 0);
    return done / (this.norms.length * (this.wanted.get(position) ?? FIRST));
  }

  // The reader is here now: this position comes first, and what nobody waits for any longer is dropped.
  go(position) {
    this.at = position;
    this.queue = [position, ...this.queue.filter((other) => other !== position && this.rest?.includes(other))];
    this.hurry();
  }

  // Train all of these, one after the other, first the one where the reader is.
  all(positions) {
    this.rest = positions.filter((position) => this.missing(position).length);
    this.queue = [...this.rest].sort((a, b) => (b === this.at) - (a === this.at));
    if (!this.rest.length) this.rest = null;
    this.hurry();
  }

  more() {
    this.wanted.set(this.at, (this.wanted.get(this.at) ?? FIRST) + MORE);
    this.go(this.at);
  }

  stop() {
    this.queue = [];
    this.rest = null;
    for (const job of this.jobs) job.stop();
    this.changed();
  }

  missing(position) {
    const seeds = Array.from({ length: this.wanted.get(position) ?? FIRST }, (_, i) => i);
    return seeds.flatMap((seed) => this.norms.filter((norm) => !this.rows.get(position)?.[norm]?.[seed]?.done).map((norm) => ({ norm, seed })));
  }

  hurry() {
    if (this.running !== undefined && this.running !== this.queue[0]) for (const job of this.jobs) job.stop();
    if (!this.busy) this.work();
    this.changed();
  }

  get busy() {
    return this.running !== undefined;
  }

  async work() {
    try {
      while (this.queue.length) {
        const position = (this.running = this.queue[0]);
        await this.train(position, this.missing(position));
        if (this.missing(position).length) continue; // stopped for another, or more seeds were asked for meanwhile
        this.queue = this.queue.filter((other) => other !== position);
        this.rest = this.rest?.filter((other) => other !== position);
        const all = this.rest && !this.rest.length;
        if (all) this.rest = null;
        if (all || position === this.at) this.found(this.at, all);
      }
    } catch (error) {
      this.stop();
      this.fail(error);
    }
    this.running = undefined;
    this.changed();
  }

  async train(position, asked) {
    if (!this.rows.has(position)) this.rows.set(position, Object.fromEntries(this.norms.map((norm) => [norm, []])));
    const runs = this.rows.get(position);
    this.jobs = asked.map(({ norm, seed }) => {
      const run = (runs[norm][seed] = { rows: [], done: false });
      const job = pool().train(this.design(position, norm), seed + 1, (rows) => {
        run.rows.push(...rows);
        this.changed();
      });
      job.done = job.done.then((rows) => {
        this.finished++; // trainings whose result is known, or given up: what a picture of results has to look at
        if (rows) run.done = true;
        else runs[norm][seed] = undefined; // half a training is no seed
      });
      return job;
    });
    await Promise.all(this.jobs.map((job) => job.done));
    this.jobs = [];
  }
}

// What stands below such a figure: buttons, how far it is, and, spoken once, what a finished position showed.
export function below(positions, everything) {
  const more = button(`${MORE} more seeds`, () => positions.more());
  const all = everything && button(everything.label, () => positions.all(everything.positions));
  const stop = button("Stop", () => positions.stop());
  const progress = h("span", { class: "bench-said" });
  const said = h("p", { class: "bench-said", role: "status" });
  return {
    element: h("div", {}, h("div", { class: "bench-buttons" }, more, all, stop, progress), said),
    say: (text) => (said.textContent = text),
    update(name) {
      const { at, norms } = positions;
      const [seeds, wanted] = [Math.min(...norms.map((norm) => positions.whole(at, norm).length)), positions.wanted.get(at) ?? FIRST];
      const left = positions.rest?.length;
      // A button that is out of use keeps the keyboard's focus where it was.
      for (const [one, off] of [[stop, !positions.busy], [all, !!left || everything?.positions.every((position) => !positions.missing(position).length)]]) {
        one?.setAttribute("aria-disabled", off);
      }
      progress.textContent = positions.busy
        ? `${name(positions.running)}: ${percent(positions.progress(positions.running))}${left ? `, ${left} to go` : ""}`
        : `${seeds < wanted ? `stopped, ${seeds} of ${wanted}` : seeds} seeds a network`;
    },
  };
}
