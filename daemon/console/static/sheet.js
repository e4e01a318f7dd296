// The frame with its mask on the screen: drawing, zooming, moving, and pointers turned into pixels.

import { UNKNOWN } from "./masks.js";

const TAP_MOVE = 8;
const [SAID, THOUGHT] = [150, 80];
const RIM = 0xe6ffffff;

/** The colour of each class id as one number, with an alpha; other ids are clear. */
function tinted(classes, alpha) {
  const table = new Uint32Array(256);
  for (const each of classes) {
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(each.colour.slice(at, at + 2), 16));
    table[each.number] = ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  }
  return table;
}

export class Sheet {
  constructor(stage, sheet, image, paint, cross, classes) {
    Object.assign(this, { stage, sheet, image, paint, cross });
    [this.said, this.thought] = [SAID, THOUGHT].map((alpha) => tinted(classes, alpha));
    this.context = paint.getContext("2d");
    this.scale = 1;
    this.left = 0;
    this.top = 0;
    this.pointer = [0, 0];
    this.corners = [];
    new ResizeObserver(() => this.fit()).observe(stage);
  }

  /** Show an image at a size; returns its RGBA pixels. */
  open(image, width, height) {
    for (const canvas of [this.image, this.paint]) [canvas.width, canvas.height] = [width, height];
    const context = this.image.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0, width, height);
    this.pixels = this.context.createImageData(width, height);
    this.pointer = [width >> 1, height >> 1];
    this.corners = [];
    this.fit();
    return context.getImageData(0, 0, width, height).data;
  }

  /** Draw a label over the image; `changed` names the pixels that are new. */
  draw(label, changed = null) {
    this.label = label;
    const { width, height } = label;
    let [x0, y0, x1, y1] = [0, 0, width - 1, height - 1];
    if (changed) {
      if (changed.length === 0) return;
      [x0, y0, x1, y1] = [width, height, 0, 0];
      for (const i of changed) {
        const x = i % width;
        const y = (i - x) / width;
        if (x < x0) x0 = x;
        if (x > x1) x1 = x;
        if (y < y0) y0 = y;
        if (y > y1) y1 = y;
      }
      [x0, y0, x1, y1] = [Math.max(0, x0 - 1), Math.max(0, y0 - 1), Math.min(width - 1, x1 + 1), Math.min(height - 1, y1 + 1)];
    }
    const { ids, predicted } = label;
    const { data } = this.pixels;
    // One number a pixel, alpha highest: every machine with a browser stores the lowest byte first.
    const colours = new Uint32Array(data.buffer);
    for (let y = y0; y <= y1; y += 1) {
      for (let x = x0; x <= x1; x += 1) {
        const i = y * width + x;
        const id = ids[i];
        if (id === UNKNOWN) {
          colours[i] = this.thought[predicted[i]];
          continue;
        }
        const rim = (x + 1 < width && ids[i + 1] !== id) || (y + 1 < height && ids[i + width] !== id) || (x > 0 && ids[i - 1] === UNKNOWN) || (y > 0 && ids[i - width] === UNKNOWN);
        colours[i] = rim ? RIM : this.said[id];
      }
    }
    this.context.putImageData(this.pixels, 0, 0, x0, y0, x1 - x0 + 1, y1 - y0 + 1);
    if (this.corners.length) this.outline(this.corners);
  }

  /** Draw an open polygon. */
  outline(corners) {
    this.corners = corners;
    if (!this.pixels) return;
    this.context.putImageData(this.pixels, 0, 0);
    if (!corners.length) return;
    const fine = 1 / this.scale;
    this.context.lineWidth = 2 * fine;
    this.context.strokeStyle = "#fff";
    this.context.beginPath();
    corners.forEach(([x, y], n) => (n ? this.context.lineTo(x + 0.5, y + 0.5) : this.context.moveTo(x + 0.5, y + 0.5)));
    this.context.stroke();
    for (const [x, y] of corners) this.context.strokeRect(x + 0.5 - 4 * fine, y + 0.5 - 4 * fine, 8 * fine, 8 * fine);
  }

  /** Show the whole image. */
  fit() {
    const { clientWidth, clientHeight } = this.stage;
    this.scale = Math.min(clientWidth / this.paint.width, clientHeight / this.paint.height);
    this.left = (clientWidth - this.paint.width * this.scale) / 2;
    this.top = (clientHeight - this.paint.height * this.scale) / 2;
    this.place();
  }

  /** Zoom by a factor around a point of the stage, by default its middle. */
  zoom(factor, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    const least = Math.min(this.stage.clientWidth / this.paint.width, this.stage.clientHeight / this.paint.height) / 2;
    const scale = Math.max(least, Math.min(40, this.scale * factor));
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this.place();
  }

  place() {
    this.sheet.style.transform = `translate(${this.left}px, ${this.top}px) scale(${this.scale})`;
    this.cross.style.transform = `scale(${1 / this.scale})`;
    this.cross.style.left = `${this.pointer[0] + 0.5}px`;
    this.cross.style.top = `${this.pointer[1] + 0.5}px`;
  }

  /** Column and row under an event, in and beyond the image. */
  at(event) {
    const box = this.stage.getBoundingClientRect();
    return [Math.floor((event.clientX - box.left - this.stage.clientLeft - this.left) / this.scale), Math.floor((event.clientY - box.top - this.stage.clientTop - this.top) / this.scale)];
  }

  /** The pixel under an event; null outside of the image. */
  pixel(event) {
    const [x, y] = this.at(event);
    return x >= 0 && y >= 0 && x < this.paint.width && y < this.paint.height ? [x, y] : null;
  }

  /** Move the cross, or work at it. */
  key(event) {
    const far = event.shiftKey ? 10 : 1;
    const moves = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] };
    const move = moves[event.key];
    if (move) {
      this.pointer = [Math.max(0, Math.min(this.paint.width - 1, this.pointer[0] + move[0])), Math.max(0, Math.min(this.paint.height - 1, this.pointer[1] + move[1]))];
      this.cross.hidden = false;
      this.place();
    } else if (event.key === "Enter" || event.key === " ") {
      this.handlers.tap(...this.pointer);
    } else {
      return;
    }
    event.preventDefault();
  }

  /** Turn pointers into taps, strokes, zooming and moving. */
  listen(handlers) {
    this.handlers = handlers;
    const down = new Map();
    let gesture = null;
    const middle = () => {
      const points = [...down.values()];
      const box = this.stage.getBoundingClientRect();
      const [x, y] = [points.reduce((s, p) => s + p.clientX, 0) / points.length - box.left, points.reduce((s, p) => s + p.clientY, 0) / points.length - box.top];
      const apart = points.length > 1 ? Math.hypot(points[0].clientX - points[1].clientX, points[0].clientY - points[1].clientY) : 0;
      return { x, y, apart };
    };
    this.stage.addEventListener("pointerdown", (event) => {
      this.stage.setPointerCapture(event.pointerId);
      down.set(event.pointerId, event);
      if (down.size > 1) {
        if (gesture?.kind === "draw") handlers.cancel();
        gesture = { kind: "pinch", ...middle() };
        return;
      }
      const at = this.pixel(event);
      if (event.button === 1) gesture = { kind: "pinch", ...middle() };
      else if (at && handlers.draws() && event.button === 0) {
        gesture = { kind: "draw" };
        handlers.begin(...at);
      } else gesture = { kind: "tap", x: event.clientX, y: event.clientY, ...{ from: middle() } };
    });
    this.stage.addEventListener("pointermove", (event) => {
      if (!down.has(event.pointerId) || !gesture) return;
      down.set(event.pointerId, event);
      if (gesture.kind === "draw") {
        handlers.move(...this.at(event));
        return;
      }
      if (gesture.kind === "tap") {
        if (Math.hypot(event.clientX - gesture.x, event.clientY - gesture.y) <= TAP_MOVE) return;
        gesture = { kind: "pinch", ...gesture.from };
      }
      const now = middle();
      this.left += now.x - gesture.x;
      this.top += now.y - gesture.y;
      if (gesture.apart && now.apart) this.zoom(now.apart / gesture.apart, now.x, now.y);
      else this.place();
      Object.assign(gesture, now);
    });
    const up = (event) => {
      if (!down.delete(event.pointerId)) return;
      const at = this.pixel(event);
      if (event.type === "pointerup" && gesture?.kind === "tap" && at) {
        this.cross.hidden = true;
        this.pointer = at;
        this.place();
        handlers.tap(...at);
      }
      gesture = down.size ? { kind: "pinch", ...middle() } : null;
    };
    this.stage.addEventListener("pointerup", up);
    this.stage.addEventListener("pointercancel", up);
    this.stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = this.stage.getBoundingClientRect();
      this.zoom(Math.exp(-event.deltaY / 500), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
  }
}
