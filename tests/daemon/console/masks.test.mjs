// Run by test_masks.py with `node --test`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const source = readFileSync(new URL("../../../daemon/console/static/masks.js", import.meta.url));
const masks = await import(`data:text/javascript;base64,${source.toString("base64")}`);
const { Label, UNKNOWN } = masks;
const [W, H] = [16, 12];
const at = (x, y) => y * W + x;
const mask = (choose) => Uint8Array.from({ length: W * H }, (_, i) => choose(i % W, Math.floor(i / W)));
const none = new Uint8Array(W * H);

test("a tap means the connected piece of one class", () => {
  const two = mask((x) => (x < 4 || x >= 10 ? 1 : 0));
  const found = masks.piece(two, none, W, H, at(1, 1));
  assert.equal(found.length, 4 * H);
  assert.ok(found.every((i) => i % W < 4));
});

test("edges of the image cut a piece further, and go with the side that was tapped", () => {
  const one = mask(() => 3);
  const wall = mask((x) => (x === 8 ? 1 : 0));
  const left = masks.piece(one, wall, W, H, at(2, 2));
  assert.equal(left.length, 9 * H);
  // A tap at the edge itself takes the nearest side.
  assert.equal(masks.piece(one, wall, W, H, at(8, 5)).length, 9 * H);
  // What is smaller than anybody taps at is not cut.
  assert.equal(masks.piece(one, mask((x, y) => (x === 1 && y < 2) || (y === 1 && x < 2) ? 1 : 0), W, H, at(0, 0)).length, W * H);
});

test("small islands that edges cut off go with the piece, large ones do not", () => {
  const one = mask(() => 2);
  const ring = (x, y) => Math.max(Math.abs(x - 8), Math.abs(y - 6)) === 1;
  assert.equal(masks.piece(one, mask((x, y) => (ring(x, y) ? 1 : 0)), W, H, at(0, 0)).length, W * H);
  assert.equal(masks.piece(one, mask((x) => (x >= 6 && x < 12 ? 1 : 0)), W, H, at(1, 1)).length, 12 * H);
});

test("a piece is of one class and holds the pixel that was tapped, whatever the image", () => {
  let seed = 1;
  const random = () => ((seed = (seed * 48271) % 2147483647) / 2147483647);
  for (let run = 0; run < 300; run += 1) {
    const any = mask((x, y) => (random() < 0.1 ? 1 : x + y < 14 ? 0 : 1));
    const lines = mask(() => (random() < 0.3 ? 1 : 0));
    const start = Math.floor(random() * W * H);
    const found = masks.piece(any, lines, W, H, start);
    assert.ok(found.includes(start));
    assert.ok(found.every((i) => any[i] === any[start]));
    assert.equal(new Set(found).size, found.length);
  }
});

test("strong gradients are edges, even ground is not", () => {
  const grey = mask((x) => (x < 8 ? 20 : 220));
  const found = masks.edges(grey, W, H);
  assert.ok(found[at(7, 5)] && found[at(8, 5)] && found[at(6, 5)]);
  assert.equal(found[at(2, 5)], 0);
  assert.ok(masks.edges(mask(() => 90), W, H).every((each) => each === 0));
});

test("brush, polygon and flood cover what they say", () => {
  const line = masks.stroke(W, H, 2, 6, 12, 6, 1);
  assert.ok(line.includes(at(7, 5)) && line.includes(at(13, 6)) && !line.includes(at(7, 8)));
  const triangle = masks.polygon(W, H, [[0, 0], [10, 0], [0, 10]]);
  assert.ok(triangle.includes(at(2, 2)) && !triangle.includes(at(9, 9)));
  const rgba = new Uint8Array(4 * W * H).map((_, p) => ((p >> 2) % W < 5 ? 200 : 10));
  assert.equal(masks.flood(rgba, W, H, at(1, 1), 60).length, 5 * H);
});

test("every step can be taken back, and only what was said counts", () => {
  const label = new Label(W, H, mask((x) => (x < 8 ? 0 : 1)));
  assert.equal(label.share(), 0);
  label.set(Int32Array.of(0, 1, 2), 4);
  label.set(Int32Array.of(2, 3), 5);
  label.set(Int32Array.of(4), 5, true);
  assert.deepEqual([...label.ids.slice(0, 6)], [4, 4, 5, 5, 5, UNKNOWN]);
  assert.equal(label.shown()[5], 0);
  label.confirmRest();
  assert.equal(label.share(), 1);
  assert.equal(label.ids[W - 1], 1);
  assert.ok(label.undo() && label.undo());
  assert.deepEqual([...label.ids.slice(0, 6)], [4, 4, 4, UNKNOWN, UNKNOWN, UNKNOWN]);
  assert.ok(label.undo());
  assert.equal(label.undo(), false);
  assert.equal(label.share(), 0);
});

test("a step that changes nothing is none, and what goes on in it belongs to no step before", () => {
  const label = new Label(W, H, null);
  label.set(Int32Array.of(0, 1, 2), 4);
  // A stroke that begins on pixels of its own class, and goes on beyond them.
  assert.equal(label.set(Int32Array.of(1, 2), 4).length, 0);
  label.set(Int32Array.of(2, 3), 4, true);
  label.set(Int32Array.of(4), 4, true);
  assert.ok(label.undo());
  assert.deepEqual([...label.ids.slice(0, 5)], [4, 4, 4, UNKNOWN, UNKNOWN]);
  // A second finger takes back the stroke of the first, which has changed nothing.
  label.set(Int32Array.of(0), 4);
  label.cancel();
  assert.deepEqual([...label.ids.slice(0, 3)], [4, 4, 4]);
  label.set(Int32Array.of(8), 5);
  label.cancel();
  assert.equal(label.ids[8], UNKNOWN);
  assert.ok(label.changed && label.undo() && !label.changed);
});

test("what can no longer be taken back stays unsaved", () => {
  const merged = new Label(W, H, null);
  merged.set(Int32Array.of(0), 1);
  merged.merge(new Uint8Array(W * H).fill(UNKNOWN));
  merged.set(Int32Array.of(1), 2);
  assert.ok(merged.undo() && merged.changed);
  const long = new Label(W, H, null);
  for (let step = 0; step < 150; step += 1) long.set(Int32Array.of(step), 2);
  while (long.undo());
  assert.ok(long.changed && long.share() > 0);
});

test("two people's labels together keep both, one's own on top", () => {
  const label = new Label(W, H, null);
  label.set(Int32Array.of(0, 1), 2);
  label.merge(mask((x, y) => (y === 0 ? 7 : UNKNOWN)));
  assert.deepEqual([...label.ids.slice(0, 3)], [2, 2, 7]);
  assert.equal(label.ids[at(0, 1)], UNKNOWN);
});

test("a tap may mean a million pixels", () => {
  const [w, h] = [1280, 900];
  assert.equal(masks.piece(new Uint8Array(w * h), new Uint8Array(w * h), w, h, 5).length, w * h);
});
