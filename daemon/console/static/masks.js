// The arithmetic of masks: which pixels a tap means, and a label that can be undone. No page, no drawing.
// A mask is a Uint8Array of class ids row by row; 255 says that nobody has said anything.

export const UNKNOWN = 255;
/** A piece smaller than this is not what anybody taps at: the whole connected region is meant. */
const LEAST_PIECE = 16;
const UNDO_STEPS = 100;
/** An island that edges cut off goes with the piece if it has at most this share of its pixels. */
const ISLAND = 0.05;
/** A tap at an edge means the piece within so many pixels, diagonally too. */
const REACH = 3;
/** Pixels of an edge that go with the piece beside it: enough to come back to where the tap was. */
const RIM = 2 * REACH;

/** Brightness 0 to 255 of RGBA pixels. */
export function brightness(rgba) {
  const grey = new Uint8Array(rgba.length / 4);
  for (let i = 0, p = 0; i < grey.length; i += 1, p += 4) grey[i] = (rgba[p] * 77 + rgba[p + 1] * 150 + rgba[p + 2] * 29) >> 8;
  return grey;
}

/** 1 where the image has a strong edge: a gradient among the strongest `share` of all, and no mere noise. */
export function edges(grey, width, height, share = 0.12, least = 40) {
  const strength = new Uint16Array(grey.length);
  const counts = new Uint32Array(1024);
  for (let y = 1; y < height - 1; y += 1) {
    for (let x = 1; x < width - 1; x += 1) {
      const i = y * width + x;
      const dx = grey[i + 1] - grey[i - 1] + ((grey[i + 1 - width] - grey[i - 1 - width] + grey[i + 1 + width] - grey[i - 1 + width]) >> 1);
      const dy = grey[i + width] - grey[i - width] + ((grey[i + width - 1] - grey[i - width - 1] + grey[i + width + 1] - grey[i - width + 1]) >> 1);
      const found = Math.min(1023, Math.abs(dx) + Math.abs(dy));
      strength[i] = found;
      counts[found] += 1;
    }
  }
  let left = grey.length * share;
  let limit = 1023;
  while (limit > least && left > counts[limit]) left -= counts[limit--];
  const found = new Uint8Array(grey.length);
  for (let i = 0; i < found.length; i += 1) {
    if (strength[i] < limit) continue;
    // One pixel more to each side, so that a region does not leak through a gap as small.
    found[i - 1] = found[i] = found[i + 1] = found[i - width] = found[i + width] = 1;
  }
  return found;
}

/**
 * Indices connected with `start` through pixels of `open` that are 1; they become 2. Fills whole runs of a row at a
 * time, since a tap may mean a million pixels.
 */
function connected(width, height, start, open) {
  let found = new Int32Array(1024);
  let count = 0;
  const seeds = [];
  if (open[start] === 1) seeds.push(start);
  while (seeds.length) {
    const seed = seeds.pop();
    if (open[seed] !== 1) continue;
    const row = seed - (seed % width);
    let left = seed;
    while (left > row && open[left - 1] === 1) left -= 1;
    let right = seed;
    const end = row + width - 1;
    while (right < end && open[right + 1] === 1) right += 1;
    if (count + right - left >= found.length) {
      const longer = new Int32Array(Math.min(width * height, 2 * (count + width)));
      longer.set(found.subarray(0, count));
      found = longer;
    }
    for (let i = left; i <= right; i += 1) {
      open[i] = 2;
      found[count++] = i;
    }
    for (const step of [-width, width]) {
      const next = row + step;
      if (next < 0 || next >= width * height) continue;
      for (let i = left + step; i <= right + step; i += 1) if (open[i] === 1 && (i === left + step || open[i - 1] !== 1)) seeds.push(i);
    }
  }
  return found.subarray(0, count);
}

/** The pixel nearest to `start` within `reach` for which `wanted` holds; -1 without one. */
function nearest(width, height, start, reach, wanted) {
  const x0 = start % width;
  const y0 = (start - x0) / width;
  let best = -1;
  let least = Infinity;
  for (let y = Math.max(0, y0 - reach); y <= Math.min(height - 1, y0 + reach); y += 1) {
    for (let x = Math.max(0, x0 - reach); x <= Math.min(width - 1, x0 + reach); x += 1) {
      const far = (x - x0) ** 2 + (y - y0) ** 2;
      if (far < least && wanted(y * width + x)) {
        least = far;
        best = y * width + x;
      }
    }
  }
  return best;
}

/** `indices` and the pixels of `open` that are 1 within `steps` of them; those become 2. */
function grown(width, height, indices, steps, open) {
  const size = width * height;
  const found = new Int32Array(size);
  found.set(indices);
  let [begin, end] = [0, indices.length];
  for (let step = 0; step < steps; step += 1) {
    let count = end;
    for (let n = begin; n < end; n += 1) {
      const i = found[n];
      const x = i % width;
      if (x > 0 && open[i - 1] === 1) { open[i - 1] = 2; found[count++] = i - 1; }
      if (x < width - 1 && open[i + 1] === 1) { open[i + 1] = 2; found[count++] = i + 1; }
      if (i >= width && open[i - width] === 1) { open[i - width] = 2; found[count++] = i - width; }
      if (i + width < size && open[i + width] === 1) { open[i + width] = 2; found[count++] = i + width; }
    }
    [begin, end] = [end, count];
  }
  return found.subarray(0, end);
}

/**
 * The piece that a tap at `start` means: the connected region of one class of `mask`, cut further by `edges` of the
 * image. The edges themselves, a few pixels wide, go with the piece beside them.
 */
export function piece(mask, edge, width, height, start) {
  const value = mask[start];
  const inner = new Uint8Array(mask.length);
  const rim = new Uint8Array(mask.length);
  for (let i = 0; i < mask.length; i += 1) {
    if (mask[i] !== value) continue;
    if (edge[i]) rim[i] = 1;
    else inner[i] = 1;
  }
  const from = inner[start] ? start : nearest(width, height, start, REACH, (i) => inner[i] === 1);
  if (from >= 0) {
    const cut = connected(width, height, from, inner);
    const found = cut.length >= LEAST_PIECE ? grown(width, height, cut, RIM, rim) : cut;
    if (found.length >= LEAST_PIECE && found.includes(start)) return withIslands(found, same(mask, value), width, height);
  }
  return connected(width, height, start, same(mask, value));
}

const same = (mask, value) => {
  const found = new Uint8Array(mask.length);
  for (let i = 0; i < mask.length; i += 1) found[i] = mask[i] === value ? 1 : 0;
  return found;
};

/** A piece with the small islands of its class that edges have cut off, such as the marks on a road. */
function withIslands(found, open, width, height) {
  for (let n = 0; n < found.length; n += 1) open[found[n]] = 3;
  const islands = [found];
  let size = found.length;
  const look = (beside) => {
    const island = connected(width, height, beside, open);
    if (island.length > found.length * ISLAND) return;
    islands.push(island);
    size += island.length;
  };
  const last = width * (height - 1);
  for (let n = 0; n < found.length; n += 1) {
    const i = found[n];
    // Above and below first: the row's ends matter only where there is something at all.
    if (i >= width && open[i - width] === 1) look(i - width);
    if (i < last && open[i + width] === 1) look(i + width);
    if (open[i - 1] === 1 && i % width > 0) look(i - 1);
    if (open[i + 1] === 1 && i % width < width - 1) look(i + 1);
  }
  const all = new Int32Array(size);
  let at = 0;
  for (const island of islands) {
    all.set(island, at);
    at += island.length;
  }
  return all;
}

/** The connected pixels whose colour is within `tolerance` of that at `start`. */
export function flood(rgba, width, height, start, tolerance) {
  const [r, g, b] = [rgba[4 * start], rgba[4 * start + 1], rgba[4 * start + 2]];
  const near = new Uint8Array(width * height);
  for (let i = 0, p = 0; i < near.length; i += 1, p += 4) near[i] = Math.abs(rgba[p] - r) + Math.abs(rgba[p + 1] - g) + Math.abs(rgba[p + 2] - b) <= tolerance ? 1 : 0;
  return connected(width, height, start, near);
}

/** The pixels within `radius` of the line from one point to another. */
export function stroke(width, height, x0, y0, x1, y1, radius) {
  const found = [];
  const [dx, dy] = [x1 - x0, y1 - y0];
  const long = dx * dx + dy * dy;
  const reach = Math.max(0.5, radius);
  for (let y = Math.max(0, Math.floor(Math.min(y0, y1) - reach)); y <= Math.min(height - 1, Math.ceil(Math.max(y0, y1) + reach)); y += 1) {
    for (let x = Math.max(0, Math.floor(Math.min(x0, x1) - reach)); x <= Math.min(width - 1, Math.ceil(Math.max(x0, x1) + reach)); x += 1) {
      const along = long === 0 ? 0 : Math.max(0, Math.min(1, ((x - x0) * dx + (y - y0) * dy) / long));
      if ((x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2 <= reach * reach) found.push(y * width + x);
    }
  }
  return Int32Array.from(found);
}

/** The pixels whose centre lies inside a polygon of [x, y] corners, by the even-odd rule. */
export function polygon(width, height, corners) {
  const found = [];
  const top = Math.max(0, Math.floor(Math.min(...corners.map((c) => c[1]))));
  const bottom = Math.min(height - 1, Math.ceil(Math.max(...corners.map((c) => c[1]))));
  for (let y = top; y <= bottom; y += 1) {
    const crossings = [];
    for (let n = 0; n < corners.length; n += 1) {
      const [x0, y0] = corners[n];
      const [x1, y1] = corners[(n + 1) % corners.length];
      if (y0 <= y !== y1 <= y) crossings.push(x0 + ((y - y0) / (y1 - y0)) * (x1 - x0));
    }
    crossings.sort((a, b) => a - b);
    for (let n = 0; n + 1 < crossings.length; n += 2) {
      for (let x = Math.max(0, Math.ceil(crossings[n])); x <= Math.min(width - 1, crossings[n + 1]); x += 1) found.push(y * width + x);
    }
  }
  return Int32Array.from(found);
}

/** A label in the making: what the model predicts, what a person has said, and the way back. */
export class Label {
  constructor(width, height, predicted, label = null) {
    this.width = width;
    this.height = height;
    this.predicted = predicted ?? new Uint8Array(width * height).fill(UNKNOWN);
    this.ids = label ? label.slice() : new Uint8Array(width * height).fill(UNKNOWN);
    this.steps = [];
    // Whether the present step has changed anything, so that it is the last of `steps`.
    this.begun = false;
    // Whether something differs from the label that was opened, and whether some of it can no longer be taken back.
    this.changed = false;
    this.settled = false;
  }

  /** What each pixel is taken for now: what was said, else what was predicted. */
  shown() {
    const found = this.ids.slice();
    for (let i = 0; i < found.length; i += 1) if (found[i] === UNKNOWN) found[i] = this.predicted[i];
    return found;
  }

  /** Give pixels a class (or UNKNOWN). With `joined` the change belongs to the step before, as in one stroke. */
  set(indices, value, joined = false) {
    if (!joined) this.begun = false;
    const { ids } = this;
    const kept = new Int32Array(indices.length);
    const old = new Uint8Array(indices.length);
    let count = 0;
    for (let n = 0; n < indices.length; n += 1) {
      const i = indices[n];
      if (ids[i] === value) continue;
      kept[count] = i;
      old[count++] = ids[i];
      ids[i] = value;
    }
    const changed = kept.slice(0, count);
    if (count === 0) return changed;
    const before = old.slice(0, count);
    if (!this.begun) this.steps.push([]);
    this.begun = true;
    this.steps[this.steps.length - 1].push([changed, before]);
    if (this.steps.length > UNDO_STEPS) {
      this.steps.shift();
      this.settled = true;
    }
    this.changed = true;
    return changed;
  }

  /** Say of all the rest that the prediction is right. */
  confirmRest() {
    let joined = false;
    const left = new Map();
    for (let i = 0; i < this.ids.length; i += 1) {
      if (this.ids[i] !== UNKNOWN || this.predicted[i] === UNKNOWN) continue;
      if (!left.has(this.predicted[i])) left.set(this.predicted[i], []);
      left.get(this.predicted[i]).push(i);
    }
    for (const [value, indices] of left) {
      this.set(Int32Array.from(indices), value, joined);
      joined = true;
    }
  }

  /** Take the last step back; returns whether there was one. */
  undo() {
    const step = this.steps.pop();
    this.begun = false;
    if (!step) return false;
    for (const [indices, before] of step.reverse()) for (let n = 0; n < indices.length; n += 1) this.ids[indices[n]] = before[n];
    this.changed = this.settled || this.steps.length > 0;
    return true;
  }

  /** Take the present step back, of which nothing may have changed a pixel; never one before it. */
  cancel() {
    if (this.begun) this.undo();
  }

  /** Add somebody else's label where nothing was said here. */
  merge(theirs) {
    for (let i = 0; i < this.ids.length; i += 1) if (this.ids[i] === UNKNOWN) this.ids[i] = theirs[i];
    this.steps = [];
    this.begun = false;
    this.changed = true;
    this.settled = true;
  }

  /** Share of the pixels that a person has said something about, 0 to 1. */
  share() {
    let said = 0;
    for (let i = 0; i < this.ids.length; i += 1) if (this.ids[i] !== UNKNOWN) said += 1;
    return said / this.ids.length;
  }
}
