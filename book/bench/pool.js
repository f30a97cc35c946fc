// A worker a core, and trainings handed out to them.

import { digits } from "./data.js";

const MOST = 8; // workers; each holds the data, and a phone has better to do
const ABREAST = 4; // trainings that should move at the same time, however few the cores

class Pool {
  constructor(size = Math.min(navigator.hardwareConcurrency || 2, MOST)) {
    this.size = Math.max(1, size);
    this.slots = Math.ceil(ABREAST / this.size);
    this.workers = [];
    this.waiting = [];
    this.next = 0;
  }

  // Train one network. told(rows) is called as rows come. Gives { done: a promise of all rows, stop(), rate(lr) }; the promise is
  // rejected if the training breaks, and gives null if it is stopped.
  train(design, seed, told = () => {}) {
    const job = { id: this.next++, design, seed, told, rows: [] };
    job.done = new Promise((resolve, reject) => Object.assign(job, { resolve, reject }));
    this.waiting.push(job);
    this.fill();
    return {
      done: job.done,
      stop: () => {
        this.waiting = this.waiting.filter((other) => other !== job);
        job.worker?.postMessage({ id: job.id, stop: true });
        this.end(job, null);
      },
      rate: (lr) => {
        job.lr = lr; // for one that has not begun: it has this rate throughout
        job.worker?.postMessage({ id: job.id, lr });
      },
    };
  }

  async fill() {
    try {
      this.data ??= digits();
      const data = await this.data;
      while (this.waiting.length) {
        let worker = this.workers.find(({ jobs }) => jobs.size === 0);
        if (!worker && this.workers.length < this.size) worker = this.hire(data);
        worker ??= this.workers.reduce((least, other) => (other.jobs.size < least.jobs.size ? other : least));
        if (worker.jobs.size >= this.slots) return;
        const job = this.waiting.shift();
        job.worker = worker;
        worker.jobs.set(job.id, job);
        worker.postMessage({ id: job.id, design: job.design, seed: job.seed });
        if (job.lr) worker.postMessage({ id: job.id, lr: job.lr });
      }
    } catch (error) {
      this.data = undefined; // the next one may find it
      for (const job of this.waiting.splice(0)) this.end(job, error);
    }
  }

  hire(data) {
    const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    worker.jobs = new Map();
    worker.onmessage = ({ data: { id, rows, done, problem } }) => {
      const job = worker.jobs.get(id);
      if (!job) return; // stopped meanwhile
      if (problem) return this.end(job, new Error(problem));
      job.rows.push(...rows);
      if (rows.length) job.told(rows);
      if (done) this.end(job, job.rows);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.workers = this.workers.filter((other) => other !== worker);
      worker.terminate();
      const error = new Error(event.message || "a worker could not be started");
      for (const job of [...worker.jobs.values()]) this.end(job, error);
    };
    worker.postMessage({ data });
    this.workers.push(worker);
    return worker;
  }

  end(job, result) {
    job.worker?.jobs.delete(job.id);
    if (result instanceof Error) job.reject(result);
    else job.resolve(result);
    if (this.waiting.length) this.fill();
  }

  close() {
    for (const worker of this.workers.splice(0)) {
      worker.terminate();
      for (const job of worker.jobs.values()) job.resolve(null);
    }
    for (const job of this.waiting.splice(0)) job.resolve(null);
  }
}

// One for all that is on a page.
let shared;
export const pool = () => (shared ??= new Pool());
