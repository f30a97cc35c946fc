// Trains what it is asked to, several networks abreast, a little of each at a time, so that it hears when something changes.
//
// It is told  { data } once, then { id, design, seed, go } (a training), { id, lr } (another rate, from the next step on) and
//             { id, stop }.
// It tells    { id, rows } as they come, { id, rows, done } at the end, { id, problem } if the training broke.

import { Run } from "./train.js";

const SLICE = 12; // milliseconds of training between two looks at the letterbox
const trainings = new Map();
let data;
const turn = new MessageChannel(); // setTimeout would wait 4 ms each time

onmessage = ({ data: told }) => {
  if (told.data) data = told.data;
  else if (told.stop) trainings.delete(told.id);
  else if (told.lr) trainings.has(told.id) && (trainings.get(told.id).run.lr = told.lr);
  else start(told);
};

function start({ id, design, seed }) {
  try {
    const run = new Run(data, design, seed);
    trainings.set(id, { run, steps: run.train() });
    if (trainings.size === 1) turn.port2.postMessage(null);
  } catch (error) {
    postMessage({ id, problem: error.message });
  }
}

turn.port1.onmessage = () => {
  for (const [id, { steps }] of [...trainings]) {
    const end = performance.now() + SLICE;
    const rows = [];
    try {
      let next;
      do {
        next = steps.next();
        if (next.value) rows.push(next.value);
      } while (!next.done && performance.now() < end);
      if (next.done) trainings.delete(id);
      if (rows.length || next.done) postMessage({ id, rows, done: next.done });
    } catch (error) {
      trainings.delete(id);
      postMessage({ id, problem: error.message });
    }
  }
  if (trainings.size) turn.port2.postMessage(null);
};
