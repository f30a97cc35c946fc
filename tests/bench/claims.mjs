// node claims.mjs FOLDER-OF-THE-BENCH < one JSON request a line > one JSON answer a line: { result } or { error }
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const load = (name) => import(pathToFileURL(`${process.argv[2]}/${name}.js`));
const [expression, address, python] = await Promise.all(["expression", "address", "python"].map(load));

const parsed = ({ text, design }) => {
  const claim = expression.parse(text);
  if (design) expression.check(claim, design);
  return claim;
};
const does = {
  parse: parsed,
  written: (asked) => expression.written(parsed(asked), asked.steps),
  effect: (asked) => expression.effect(parsed(asked), asked.steps),
  judged(asked) {
    const claim = parsed(asked);
    const values = expression.valuesOf(claim, asked.seeds, (norm, seed) => asked.rows[norm]?.[seed], asked.steps);
    return { values, ...expression.judged(claim, values) };
  },
  read: ({ hash }) => address.read(hash),
  again: ({ state }) => address.read(address.write({ ...address.defaults(), ...state })),
  looks: ({ state, text }) => python.looks(state, text ? parsed({ text }) : null),
  cell: ({ state }) => python.inNotebook({ ...address.defaults(), ...state }, parsed({ text: state.claim }), "https://github.com/bncourse/bncourse"),
};

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  try {
    console.log(JSON.stringify({ result: does[asked.do](asked) }));
  } catch (error) {
    console.log(JSON.stringify({ error: error.message }));
  }
}
