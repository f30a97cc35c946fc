// node node.mjs FOLDER-OF-THE-BENCH DIGITS < one job a line > one answer a line
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { repeat } from "./compare.js";

const [bench, digits] = process.argv.slice(2);
const train = await import(pathToFileURL(`${bench}/train.js`));
const { unpacked } = await import(pathToFileURL(`${bench}/data.js`));
const data = unpacked(new Uint8Array(readFileSync(digits)));
for await (const line of createInterface({ input: process.stdin })) console.log(JSON.stringify(repeat(train, data, JSON.parse(line))));
