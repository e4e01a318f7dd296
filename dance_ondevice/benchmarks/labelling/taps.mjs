// What a tap means, answered line by line by the very code of the console's page: `node taps.mjs masks.js`.
//
// {"rgba": base64, "width": w, "height": h} opens an image and answers {"edges": pixels at an edge};
// {"mask": base64, "start": index} answers {"piece": base64 of indices, 32 bits each}.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const source = readFileSync(process.argv[2]);
// A name that ends in .js is a module to a browser, but not to every version of node.
const { brightness, edges, piece } = await import(`data:text/javascript;base64,${source.toString("base64")}`);
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
let image = null;

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  let answer;
  const [began, used] = [performance.now(), process.cpuUsage()];
  if (asked.rgba !== undefined) {
    const { width, height } = asked;
    image = { width, height, edge: edges(brightness(bytes(asked.rgba)), width, height) };
    answer = { edges: image.edge.reduce((sum, one) => sum + one, 0) };
  } else {
    const found = piece(bytes(asked.mask), image.edge, image.width, image.height, asked.start);
    answer = { piece: Buffer.from(found.buffer, found.byteOffset, found.byteLength).toString("base64") };
  }
  const { user, system } = process.cpuUsage(used);
  [answer.ms, answer.cpuMs] = [performance.now() - began, (user + system) / 1000];
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
