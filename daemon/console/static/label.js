// The page for labels by correction: what happens when somebody taps, draws, types and saves.

import { Label, UNKNOWN, brightness, edges, flood, piece, polygon, stroke } from "./masks.js";
import { pack, unpack } from "./packing.js";
import { Sheet } from "./sheet.js";

const at = (id) => document.getElementById(id);
const workshop = at("workshop");
if (workshop) start();

function start() {
  const classes = JSON.parse(at("classes").textContent);
  let csrf = document.querySelector('meta[name="csrf"]').content;
  let work = JSON.parse(at("frames").textContent);
  let wanted = workshop.dataset.wanted;
  const skipped = new Set();
  const sheet = new Sheet(at("stage"), at("sheet"), at("image"), at("paint"), at("cross"), classes);
  let open = null;
  let corners = [];
  let drawing = null;
  let leaving = false;

  const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
  const say = (text) => { at("message").textContent = text; at("message").hidden = !text; };
  const busy = (state) => ["save", "rest", "undo", "skip"].forEach((id) => { at(id).disabled = state; });
  const seconds = () => (performance.now() - open.since) / 1000;

  async function call(path, body) {
    const options = body ? { method: "POST", headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf }, body: JSON.stringify(body) } : {};
    const answer = await fetch(path, options);
    if (answer.status === 401) {
      if (!open?.label.changed) location.href = "/login";
      throw new Error("the login has ended; log in again in another tab, then go on here");
    }
    const found = await answer.json();
    // After another login, in another tab, the secret is another one, and the label is as good as before.
    if (answer.status === 403 && found.csrf && found.csrf !== csrf) { csrf = found.csrf; return call(path, body); }
    if (!answer.ok && answer.status !== 409) throw new Error(found.error ?? "the console did not answer");
    return found;
  }

  async function next() {
    busy(true);
    open = null;
    corners = [];
    try {
      if (!wanted) work = await call("/label/frames");
      const frame = wanted ? { id: wanted } : work.frames.find((each) => !skipped.has(each.id));
      if (!frame) { finish(); return; }
      say("Opens the frame …");
      await show(frame);
      say("");
    } catch (error) {
      say(`${error.message}. Nothing is lost; try again with Skip.`);
      at("skip").disabled = false;
      return;
    }
    busy(false);
  }

  async function show(frame) {
    const [found, image] = await Promise.all([call(`/label/frames/${encodeURIComponent(frame.id)}`), picture(frame.id)]);
    const [height, width] = found.size;
    const label = new Label(width, height, await unpack(found.predicted), await unpack(found.label));
    const rgba = sheet.open(image, width, height);
    open = { frame, label, rgba, edge: edges(brightness(rgba), width, height), version: found.version, size: found.size, taps: 0, since: performance.now() };
    sheet.draw(label);
    const left = wanted ? "" : ` · ${work.frames.length} ${work.frames.length === 1 ? "frame is" : "frames are"} worth a label now`;
    const when = frame.condition ? `, ${frame.condition}` : "";
    at("about").textContent = found.note ? `${found.note}.` : `${found.camera}${when} · mask by ${found.model}${left}`;
    score();
    leaving = false;
    workshop.dataset.frame = frame.id;
  }

  async function picture(id) {
    const image = new Image();
    image.src = `/samples/${encodeURIComponent(id)}/image?size=l`;
    await image.decode();
    return image;
  }

  function finish() {
    delete workshop.dataset.frame;
    say(skipped.size ? "All the other frames have a label. Load the page again for those that were skipped." : "All done. New frames come as the camera sees new things.");
    at("about").textContent = "";
  }

  function score() {
    const { totals } = work;
    const sum = totals.frames ? ` · ${totals.frames} frames, ${totals.taps} taps, ${Math.round(totals.seconds)} s in all` : "";
    at("score").textContent = `${open.taps} ${open.taps === 1 ? "tap" : "taps"}, ${Math.round(seconds())} s, ${(100 * open.label.share()).toFixed(0)} % labelled${sum}`;
  }

  function apply(indices, joined = false) {
    const value = chosen("tool") === "eraser" ? UNKNOWN : Number(chosen("class"));
    const changed = open.label.set(indices, value, joined);
    if (!joined) open.taps += 1;
    leaving = false;
    sheet.draw(open.label, changed);
    score();
  }

  function tool(x, y) {
    const { label, edge, rgba } = open;
    const { width, height } = label;
    const start = y * width + x;
    switch (chosen("tool")) {
      case "tap": {
        const begun = performance.now();
        apply(piece(label.predicted.some((id) => id !== UNKNOWN) ? label.shown() : label.predicted, edge, width, height, start));
        workshop.dataset.tapMs = (performance.now() - begun).toFixed(1);
        break;
      }
      case "flood": apply(flood(rgba, width, height, start, Number(at("colours").value))); break;
      case "polygon": corner(x, y); break;
      default: apply(stroke(width, height, x, y, x, y, radius()));
    }
  }

  const radius = () => (Number(at("size").value) * open.label.width) / 1600 + 0.5;

  function corner(x, y) {
    const [first] = corners;
    const near = Math.max(3, open.label.width / 100);
    if (corners.length > 2 && Math.hypot(first[0] - x, first[1] - y) <= near) {
      apply(polygon(open.label.width, open.label.height, corners));
      corners = [];
    } else {
      corners.push([x, y]);
    }
    sheet.outline(corners);
    say(corners.length ? "Set corners; come back to the first one to close the polygon. Undo takes the last corner back." : "");
  }

  const draws = () => ["brush", "eraser"].includes(chosen("tool"));
  sheet.listen({
    tap: (x, y) => { if (open) tool(x, y); },
    draws: () => Boolean(open) && draws(),
    begin: (x, y) => { drawing = [x, y]; apply(stroke(open.label.width, open.label.height, x, y, x, y, radius())); },
    // Also beyond the image: the stroke reaches its border, and paints nothing along it.
    move: (x, y) => {
      apply(stroke(open.label.width, open.label.height, ...drawing, x, y, radius()), true);
      drawing = [x, y];
    },
    cancel: () => { open.label.cancel(); open.taps -= 1; sheet.draw(open.label); },
  });

  function undo() {
    if (!open) return;
    if (corners.length) { corners.pop(); sheet.outline(corners); return; }
    if (open.label.undo()) sheet.draw(open.label);
    score();
  }

  async function save() {
    if (!open) return;
    if (corners.length) { say("The polygon is still open: come back to its first corner, or take its corners back with Undo."); return; }
    if (open.label.share() === 0) { say("Nothing is labelled yet: tap a region, or press “All else is right”."); return; }
    busy(true);
    try {
      const { label, size, version, taps, frame } = open;
      const saved = await call(`/label/frames/${encodeURIComponent(frame.id)}`, { ids: await pack(label.ids), size, version, taps, seconds: seconds() });
      if (saved.conflict) { at("conflict").showModal(); return; }
      onward(frame.id);
    } catch (error) {
      say(`Not saved: ${error.message}. Your label is still here.`);
      busy(false);
    }
  }

  function onward(id) {
    skipped.add(id);
    wanted = "";
    history.replaceState(null, "", "/label");
    next();
  }

  at("conflict").addEventListener("click", async (event) => {
    const choice = event.target.value;
    if (!choice) return;
    at("conflict").close();
    if (choice === "theirs") { onward(open.frame.id); return; }
    try {
      const found = await call(`/label/frames/${encodeURIComponent(open.frame.id)}`);
      open.version = found.version;
      if (choice === "both") open.label.merge((await unpack(found.label)) ?? new Uint8Array(open.label.ids.length).fill(UNKNOWN));
      await save();
    } catch (error) {
      say(`Not saved: ${error.message}. Your label is still here.`);
      busy(false);
    }
  });
  at("conflict").addEventListener("cancel", () => busy(false));

  function rest() {
    if (!open) return;
    open.label.confirmRest();
    open.taps += 1;
    leaving = false;
    sheet.draw(open.label);
    score();
  }

  function skip() {
    if (open?.label.changed && !leaving) { leaving = true; say("What you said of this frame is not saved. Skip again to leave it."); return; }
    skipped.add(open ? open.frame.id : (work.frames[0] ?? {}).id);
    wanted = "";
    next();
  }

  at("undo").addEventListener("click", undo);
  at("fit").addEventListener("click", () => sheet.fit());
  at("skip").addEventListener("click", skip);
  at("rest").addEventListener("click", rest);
  at("save").addEventListener("click", save);
  for (const option of document.querySelectorAll('input[name="tool"]')) option.addEventListener("change", () => { corners = []; sheet.outline(corners); say(""); });

  let digits = "";
  let typed = 0;
  function digit(key) {
    digits = performance.now() - typed < 700 ? digits + key : key;
    typed = performance.now();
    const found = document.querySelector(`input[name="class"][value="${Number(digits) - 1}"]`) ?? document.querySelector(`input[name="class"][value="${Number(key) - 1}"]`);
    if (found) { found.checked = true; found.scrollIntoView?.({ block: "nearest", inline: "nearest" }); }
  }
  const tools = { r: "tap", b: "brush", p: "polygon", f: "flood", e: "eraser" };
  // As the buttons do, which wait while a label is saved or a frame opened.
  const press = (id) => () => at(id).click();
  const keys = { u: press("undo"), a: press("rest"), s: press("save"), n: press("skip"), "+": () => sheet.zoom(1.4), "-": () => sheet.zoom(1 / 1.4), 0: () => sheet.fit() };
  document.addEventListener("keydown", (event) => {
    if (at("conflict").open || event.altKey) return;
    const key = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && key === "z") { event.preventDefault(); at("undo").click(); return; }
    if (event.ctrlKey || event.metaKey) return;
    const recent = performance.now() - typed < 700 && digits !== "";
    if (/^[1-9]$/.test(key) || (key === "0" && recent && classes.length >= 10)) digit(key);
    else if (tools[key]) { const option = document.querySelector(`input[name="tool"][value="${tools[key]}"]`); option.checked = true; option.dispatchEvent(new Event("change")); }
    else if (keys[key]) { event.preventDefault(); keys[key](); }
    else if (document.activeElement === at("paint")) sheet.key(event);
  });
  // Back, reload and a closed tab ask first.
  window.addEventListener("beforeunload", (event) => { if (open?.label.changed) event.preventDefault(); });
  setInterval(() => { if (open) score(); }, 1000);
  next();
}
