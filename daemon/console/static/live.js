// The live page: one card a camera, filled from server-sent events.

const classes = JSON.parse(document.getElementById("classes").textContent);
const colours = classes.map((each) => [1, 3, 5].map((at) => parseInt(each.colour.slice(at, at + 2), 16)));
const [cameras, template, gone] = ["cameras", "camera", "gone"].map((id) => document.getElementById(id));
const cards = new Map();

function card(name) {
  if (cards.has(name)) return cards.get(name);
  const root = template.content.firstElementChild.cloneNode(true);
  root.dataset.camera = name;
  const part = (selector) => root.querySelector(selector);
  part(".name").textContent = name;
  const made = { root, part, shown: null, busy: false, inSight: false };
  const opacity = part(".opacity");
  opacity.value = localStorage.getItem("mask-opacity") ?? "55";
  opacity.setAttribute("aria-label", `Opacity of the mask of ${name}`);
  const apply = () => { part(".mask").style.opacity = opacity.value / 100; };
  opacity.addEventListener("input", () => { apply(); localStorage.setItem("mask-opacity", opacity.value); });
  apply();
  cards.set(name, made);
  sight.observe(root);
  const after = [...cards.keys()].sort()[[...cards.keys()].sort().indexOf(name) + 1];
  cameras.insertBefore(root, after && cards.get(after) ? cards.get(after).root : null);
  return made;
}

// With sixty cameras only those that can be seen are fetched: board and radio have other things to do.
const sight = new IntersectionObserver((seen) => {
  for (const each of seen) {
    const made = cards.get(each.target.dataset.camera);
    if (made) made.inSight = each.isIntersecting;
  }
}, { rootMargin: "200px" });

const age = (s) => (s < 1.5 ? "now" : s < 120 ? `${s.toFixed(0)} s ago` : s < 7200 ? `${(s / 60).toFixed(0)} min ago` : `${(s / 3600).toFixed(0)} h ago`);
const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)} %`);

function fill(state) {
  const { part, root } = card(state.name);
  const set = (selector, text) => { const at = part(selector); if (at.textContent !== text) at.textContent = text; };
  set(".age", age(state.age_s));
  set(".rate", state.per_second === null ? "–" : state.per_second.toFixed(1));
  set(".condition", state.condition ?? "–");
  set(".confidence", percent(state.confidence));
  set(".score", state.last ? state.last.score.toFixed(3) : "–");
  set(".scale", state.last ? String(state.last.scale) : "–");
  set(".why", state.last ? state.last.reason : "");
  set(".decision", state.last ? (state.last.kept ? "kept" : "dropped") : "");
  part(".decision").hidden = !state.last;
  part(".decision").classList.toggle("good", Boolean(state.last?.kept));
  root.classList.toggle("stale", state.age_s > 30);
}

async function picture(state) {
  const made = cards.get(state.name);
  if (made.busy || !made.inSight || !state.shown || made.shown === state.shown || document.hidden) return;
  made.busy = true;
  try {
    const base = `/live/${encodeURIComponent(state.name)}`;
    const frame = await fetch(`${base}/frame`);
    if (!frame.ok) return;
    const image = new Image();
    image.src = URL.createObjectURL(await frame.blob());
    await image.decode();
    let mask = null;
    const answer = await fetch(`${base}/${encodeURIComponent(frame.headers.get("x-frame-id"))}/mask`);
    if (answer.status === 200) {
      mask = { ids: new Uint8Array(await answer.arrayBuffer()), width: Number(answer.headers.get("x-mask-width")), height: Number(answer.headers.get("x-mask-height")) };
    }
    show(made, image, mask, state);
    made.shown = frame.headers.get("x-frame-id");
  } catch (error) {
    console.debug("frame not shown", error);
  } finally {
    made.busy = false;
  }
}

function show(made, image, mask, state) {
  const before = made.part(".frame");
  image.className = "frame";
  image.alt = `The last frame of ${state.name}`;
  before.replaceWith(image);
  if (before.src) URL.revokeObjectURL(before.src);
  made.part(".waiting").hidden = true;
  const canvas = made.part(".mask");
  canvas.hidden = mask === null;
  if (mask === null) return;
  [canvas.width, canvas.height] = [mask.width, mask.height];
  const context = canvas.getContext("2d");
  const drawn = context.createImageData(mask.width, mask.height);
  const counts = new Map();
  for (let i = 0, p = 0; i < mask.ids.length; i += 1, p += 4) {
    const id = mask.ids[i];
    counts.set(id, (counts.get(id) ?? 0) + 1);
    const colour = colours[id];
    if (colour) [drawn.data[p], drawn.data[p + 1], drawn.data[p + 2], drawn.data[p + 3]] = [...colour, 255];
  }
  context.putImageData(drawn, 0, 0);
  legend(made.part(".legend"), counts, mask.ids.length);
}

function legend(list, counts, all) {
  const present = [...counts].filter(([id]) => classes[id]).sort((a, b) => b[1] - a[1]);
  list.replaceChildren(...present.map(([id, count]) => {
    const item = document.createElement("li");
    const key = document.createElement("span");
    key.className = "key";
    key.style.background = classes[id].colour;
    item.append(key, `${classes[id].name} ${Math.max(1, Math.round((100 * count) / all))} %`);
    return item;
  }));
}

let events = null;

function live(event) {
  const state = JSON.parse(event.data);
  if (!gone.hidden) { location.reload(); return; }
  document.getElementById("nothing").hidden = state.cameras.length > 0;
  for (const each of state.cameras) { fill(each); picture(each); }
  for (const name of cards.keys()) if (!state.cameras.some((each) => each.name === name)) { sight.unobserve(cards.get(name).root); cards.get(name).root.remove(); cards.delete(name); }
  document.getElementById("next").textContent = state.next;
  const round = state.round ? ` · round ${state.round.round} runs` : "";
  document.getElementById("state").textContent = `${state.version ? `Model ${state.version}` : "No model"}${state.paused ? " · learning is paused" : round}`;
  cameras.classList.remove("stale");
}
function lost(message) {
  gone.textContent = message;
  gone.hidden = false;
  cameras.classList.add("stale");
}
function away(event) {
  lost(`${JSON.parse(event.data).message} Start it again: sudo systemctl start dance-ondevice, or dance-ondevice run. This page goes on by itself.`);
}
function failed() {
  if (events.readyState === EventSource.CLOSED) {
    // The login has ended, or there are as many viewers as the console serves.
    lost("The console does not show this page now: too many may be open. It tries again by itself.");
    setTimeout(() => location.reload(), 5000);
  } else lost("The console does not answer. This page goes on by itself once it does.");
}

// Only while somebody can see it: a browser has six connections to a server, and each page that watches holds one.
function watch() {
  if (document.hidden) {
    events?.close();
    events = null;
  } else if (!events) {
    events = new EventSource("/live/events");
    events.addEventListener("live", live);
    events.addEventListener("gone", away);
    events.addEventListener("error", failed);
  }
}
document.addEventListener("visibilitychange", watch);
watch();
