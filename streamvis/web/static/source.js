// The page of one source: its live pictures, or the logged ones, with what the events say of them.
// `/source?id=ID`; with `&at=US` it begins looking back at that media time.

import { ask } from "/static/api.js";
import { byId, element } from "/static/dom.js";
import { drawOverlay, drawPlan, planView } from "/static/overlay.js";
import { fillClasses, fillEvents, forecastTables, hasForecasts } from "/static/panels.js";
import { Player } from "/static/player.js";
import { SourceScene } from "/static/scene.js";
import { say, start } from "/static/shell.js";
import { RunState, durationOf, isUpdate, sourceAddress } from "/static/state.js";
import { watch } from "/static/video.js";

const STORED = "streamvis.layers";
const LAYERS = ["boxes", "ids", "trails", "zones", "actions", "unknown", "masks", "plan"];
const EARLIER = 500; // events before the page was opened that are looked at
const PANELS_MS = 250; // between two updates of what stands beside the picture
const RATE_MS = 2000; // over which shown pictures are counted
const MASK_US = 1e6; // for which a mask is drawn on the pictures after its own
const ROOM = 0.78; // of the height of the window, for the picture
const EMPTY = "#20242a"; // where there is no picture

const given = new URLSearchParams(location.search);
const id = given.get("id") ?? "";
const isId = /^[a-z0-9_-]{1,64}$/.test(id); // else there is no such source
const canvas = byId("picture");
const scene = new SourceScene(); // as of the last event
const run = new RunState(); // of this source alone
const player = new Player(id, show);
const paints = []; // when the last pictures were painted
const extent = []; // two corners of all places on the ground plane so far
let shown = remembered();
let mode = ""; // live, or back
let stop = null; // ends the live pictures
let status = null; // of /api/status
let painted = null; // { bitmap, width, height, media_us, capture_us, boxes, complete }
let mask = null; // { frame, labels, bitmap }, the newest one
let notice = ""; // why there are no pictures
let withoutBoxes = ""; // why there are no boxes
let panelsDue = 0; // timer

function remembered() {
  let stored = {};
  try {
    stored = JSON.parse(localStorage.getItem(STORED)) ?? {};
  } catch {
    // what another version stored
  }
  return Object.fromEntries(LAYERS.map((name) => [name, stored[name] !== false]));
}

// ---- the picture

function show(picture) {
  painted?.bitmap?.close();
  painted = picture;
  paints.push(performance.now());
  draw();
}

function showLive({ frame, bitmap, tracks }) {
  notice = "";
  show({ ...frame, bitmap, boxes: tracks ?? [], complete: tracks !== null });
}

function stateOf(picture) {
  if (mode === "back") return player.replay.at(picture.media_us);
  return { ...scene.at(picture.media_us, picture.boxes), mask: maskFor(picture) };
}

function maskFor({ stream_epoch: epoch, media_us: now }) {
  const age = mask && mask.frame.stream_epoch === epoch ? now - mask.frame.media_us : -1;
  return age >= 0 && age <= MASK_US ? mask : null;
}

function takeMask(found) {
  mask?.bitmap.close();
  mask = found;
  if (painted?.media_us === found.frame.media_us) draw();
}

function fit({ width, height }) {
  const room = document.fullscreenElement ? innerHeight : innerHeight * ROOM;
  const wide = Math.max(1, Math.min(byId("stage").clientWidth, (room * width) / height));
  const size = [wide, (wide * height) / width].map((value) => Math.round(value * devicePixelRatio));
  canvas.style.width = `${wide}px`;
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
}

function draw() {
  if (!painted) return;
  fit(painted);
  const context = canvas.getContext("2d");
  if (painted.bitmap) {
    context.drawImage(painted.bitmap, 0, 0, canvas.width, canvas.height);
  } else {
    context.fillStyle = EMPTY;
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  const state = stateOf(painted);
  const { width, height } = painted;
  const view = { scale: canvas.width / width, unit: devicePixelRatio, width, height };
  drawOverlay(context, state, view, shown);
  canvas.dataset.mediaUs = painted.media_us;
  canvas.dataset.people = state.tracks.length;
  byId("mark").hidden = painted.complete;
  drawGround(state);
  panelsDue ||= setTimeout(drawPanels, PANELS_MS);
}

function drawGround(state) {
  const places = state.tracks.filter((track) => track.ground_m).map((track) => track.ground_m);
  const shapes = state.layout.zones.filter((zone) => zone.space === "ground");
  widen([...places, ...shapes.flatMap((zone) => zone.polygon)]);
  byId("plan-panel").hidden = !shown.plan || !extent.length;
  if (byId("plan-panel").hidden) return;
  const plan = byId("plan");
  const size = [plan.clientWidth, plan.clientHeight].map((px) => Math.round(px * devicePixelRatio));
  if (plan.width !== size[0] || plan.height !== size[1]) [plan.width, plan.height] = size;
  const style = getComputedStyle(plan);
  const colours = { line: style.borderTopColor, text: style.color };
  const view = planView(extent, ...size);
  drawPlan(plan.getContext("2d"), state, view, { size, unit: devicePixelRatio, colours });
}

function widen(places) {
  for (const place of places) {
    if (!extent.length) extent.push([...place], [...place]);
    for (const axis of [0, 1]) {
      extent[0][axis] = Math.min(extent[0][axis], place[axis]);
      extent[1][axis] = Math.max(extent[1][axis], place[axis]);
    }
  }
}

// ---- what stands beside it

function drawPanels() {
  clearTimeout(panelsDue);
  panelsDue = 0;
  drawFacts();
  const seen = mode === "back" ? player.replay.scene : scene;
  const masked = mode === "live" && painted && shown.masks ? maskFor(painted) : null;
  byId("classes").hidden = !masked;
  if (masked) fillClasses(byId("classes"), masked.labels);
  byId("forecast-panel").hidden = !hasForecasts(seen);
  byId("forecasts").replaceChildren(...forecastTables(seen));
  const events = mode === "back"
    ? player.replay.eventsUntil(player.position).filter((event) => !isUpdate(event.type))
    : run.events;
  fillEvents(byId("events"), events, run.dated);
  byId("no-events").hidden = events.length > 0;
}

function reportOf(found) {
  return found?.status?.sources.find((one) => one.id === id);
}

function isLive() {
  const report = reportOf(status);
  return Boolean(status?.live && report && report.state !== "ended");
}

function drawFacts() {
  const report = reportOf(status);
  byId("mode").hidden = !isLive();
  const logged = status?.log.find((one) => one.id === id);
  const state = report?.state ?? (logged ? "ended" : "unknown");
  byId("state").textContent = mode === "back" && isLive() ? `${state}, looking back` : state;
  byId("state").className = `chip ${state}`;
  const words = [];
  if (mode === "live" && report?.state_s) words.push(`for ${durationOf(report.state_s)}`);
  if (report?.reason) words.push(report.reason);
  if (mode === "live") words.push(...liveFacts(report));
  const people = painted?.complete ? Number(canvas.dataset.people) : scene.tracks.size;
  words.push(people === 1 ? "1 person" : `${people} people`);
  byId("facts").textContent = words.join(" · ");
  canvas.ariaLabel = painted ? `${id}: ${words.at(-1)}` : "no picture yet";
  byId("notice").textContent = notice;
}

function liveFacts(report) {
  const words = [];
  const now = performance.now();
  while (paints.length && paints[0] < now - RATE_MS) paints.shift();
  const rate = (paints.length / RATE_MS) * 1000;
  if (report) words.push(`${report.fps.toFixed(1)} frames/s, ${rate.toFixed(1)} shown`);
  if (painted?.capture_us) {
    const age = Date.now() - painted.capture_us / 1000;
    words.push(age < 10000 ? `age ${Math.max(0, Math.round(age))} ms` : `age ${durationOf(age / 1000)}`);
  }
  const dropped = Object.values(report?.dropped ?? {}).reduce((sum, one) => sum + one, 0);
  if (dropped) words.push(`${dropped} dropped`);
  if (withoutBoxes) words.push(withoutBoxes);
  return words;
}

// ---- live, or looking back

function goLive() {
  mode = "live";
  player.close();
  byId("player").hidden = true;
  byId("mode").textContent = "Look back";
  notice = painted ? "" : "waiting for a picture";
  stop = watch(id, {
    paint: showLive,
    mask: takeMask,
    say(pictures, boxes = "") {
      notice = pictures;
      withoutBoxes = boxes;
      drawPanels();
    },
  });
  drawPanels();
}

async function lookBack(at) {
  stop?.();
  stop = null;
  mode = "back";
  byId("player").hidden = false;
  byId("mode").textContent = "Live";
  notice = "";
  const logged = status.log.find((one) => one.id === id);
  if (!logged || logged.next <= logged.oldest) {
    notice = "nothing is logged of this source";
    drawPanels();
    return;
  }
  await player.open(logged, at);
}

player.onNotice = (text) => {
  notice = text;
  panelsDue ||= setTimeout(drawPanels, PANELS_MS);
};

function look(found) {
  status = found;
  drawOthers();
  const known = reportOf(status) ?? status.log.find((one) => one.id === id);
  if (!known) {
    const ids = sourceIds();
    if (!id && ids.length) location.replace(sourceAddress(ids[0]));
    notice = `no source '${id}'; there ${ids.length === 1 ? "is" : "are"} ${ids.join(", ") || "none"}`;
  } else if (mode === "") {
    const at = given.has("at") ? Number(given.get("at")) : undefined;
    if (isLive() && at === undefined) goLive();
    else lookBack(at);
  } else if (mode === "live" && !isLive()) {
    lookBack(painted?.media_us);
  } else if (mode === "back") {
    player.grow(status.log.find((one) => one.id === id));
  }
  drawPanels();
}

// ---- other sources

function sourceIds() {
  return (status?.status?.sources ?? status?.log ?? []).map((one) => one.id);
}

function neighbour(step) {
  const ids = sourceIds();
  const at = ids.indexOf(id);
  return at < 0 || ids.length < 2 ? null : ids[(at + step + ids.length) % ids.length];
}

function drawOthers() {
  const links = [[-1, "prev", "‹ "], [1, "next", ""]].map(([step, rel, before]) => {
    const other = neighbour(step);
    if (other === null) return null;
    const link = element("a", `${before}${other}${step > 0 ? " ›" : ""}`);
    link.href = sourceAddress(other);
    link.rel = rel;
    return link;
  });
  const wanted = links.filter(Boolean);
  const words = (list) => [...list].map((link) => link.href).join();
  if (words(wanted) !== words(byId("others").children)) byId("others").replaceChildren(...wanted);
}

function go(step) {
  const other = neighbour(step);
  if (other !== null) location.assign(sourceAddress(other));
}

// ---- keys and buttons

function toggleFull() {
  if (document.fullscreenElement) document.exitFullscreen();
  else byId("stage").requestFullscreen();
}

const KEYS = {
  ArrowLeft: () => go(-1),
  ArrowRight: () => go(1),
  f: toggleFull,
  Escape: () => document.fullscreenElement || location.assign("/"),
  " ": () => mode === "back" && player.toggle(),
  ",": () => mode === "back" && player.step(-1),
  ".": () => mode === "back" && player.step(1),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || !KEYS[event.key]) return;
  const { target, key } = event;
  if (target.matches("input[type=password]")) return;
  if (key.startsWith("Arrow") && target.matches("input[type=range]")) return;
  if (key === " " && target.matches("button, a, input[type=checkbox]")) return;
  event.preventDefault();
  KEYS[key]();
});

byId("mode").addEventListener("click", () => {
  if (mode === "live") {
    lookBack(painted?.media_us ?? Infinity);
    byId("play").focus(); // so that the space bar plays
  } else {
    goLive();
  }
});
byId("full").addEventListener("click", toggleFull);
for (const box of byId("layers").querySelectorAll("input")) {
  box.checked = shown[box.name];
  box.addEventListener("change", () => {
    shown = { ...shown, [box.name]: box.checked };
    localStorage.setItem(STORED, JSON.stringify(shown));
    draw();
  });
}
new ResizeObserver(draw).observe(byId("stage"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

function take(message) {
  run.take(message);
  if (message.kind === "begin" && message.why !== "resumed") scene.clear();
  for (const event of message.events ?? []) scene.take(event);
  if (message.kind === "snapshot") addEarlier(message.offset);
  panelsDue ||= setTimeout(drawPanels, PANELS_MS);
}

// The events up to the last one that the snapshot includes.
async function addEarlier(last) {
  const { oldest } = status?.log.find((one) => one.id === id) ?? { oldest: 0 };
  const cursor = Math.max(oldest, last + 1 - EARLIER);
  if (last < cursor) return;
  const query = new URLSearchParams({ source: id, cursor, limit: last + 1 - cursor });
  try {
    run.addEarlier((await ask("GET", `/api/events?${query}`)).events);
    panelsDue ||= setTimeout(drawPanels, PANELS_MS);
  } catch (error) {
    say(`no answer: ${error.message}`);
  }
}

byId("name").textContent = id;
document.title = `streamvis: ${id}`;
byId("zones").href = `/zones?source=${encodeURIComponent(id)}`;
start({
  source: id,
  look,
  take: isId ? take : undefined,
});
