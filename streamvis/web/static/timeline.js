// The timeline: lanes of one source over its time, from days down to single frames.
// Names of sources and all that events say is text, never markup.

import { ask } from "/static/api.js";
import { byId, element } from "/static/dom.js";
import { start } from "/static/shell.js";
import { LaneCanvas, nameOf } from "/static/timeline_canvas.js";
import { PeopleChart } from "/static/timeline_chart.js";
import { eventAt, eventsIn, listEvents, showEvent } from "/static/timeline_event.js";
import { View, clockOf, dayOf, lengthOf } from "/static/timeline_view.js";

const BEHIND_US = 3600e6; // of a source that goes on, what is shown at first
const LOAD_MS = 120; // after the last change of the view
const LIST_MS = 400;
const MOST_BINS = 2000;
const asked = new URLSearchParams(location.search);
const canvas = byId("lanes");
const lanes = new LaneCanvas(canvas);
const chart = new PeopleChart(byId("people"), lanes);

let source = asked.get("source"); // null: the first one
let view = null;
let answer = null; // of /api/lanes
let selected = null; // event
let hover = null; // px
let isFollowing = false; // the newest event stays in view
let isLoading = false;
let isWaiting = false; // to draw
let wanted = 0; // number of the last request
const timers = {};
const zones = new Map(); // by name: number of their colour

function draw() {
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    if (!view || !answer) return;
    lanes.draw(view, answer, { hover, selected });
    chart.draw(view, answer);
    say();
  });
}

function say() {
  const { wall_us: wall, until_us: until, oldest_us: oldest, newest_us: newest } = answer;
  const [from, to] = [Math.max(view.from, oldest), Math.min(view.to, newest)];
  const step = view.length < 60e6 ? 1e4 : 1e6;
  const text = (at) => `${dayOf(at, wall)} ${clockOf(at, wall, step)}`.trim();
  byId("stretch").textContent = `${text(from)} – ${text(to)} · ${lengthOf(to - from)}`;
  const share = until === null ? 0 : (until - oldest) / Math.max(newest - oldest, 1);
  const isBehind = until === null || newest - until > Math.max(10e6, 0.001 * (newest - oldest));
  byId("progress").textContent = isBehind
    ? `the log is read for the first time: ${Math.floor(share * 100)} %`
    : "";
  byId("follow").ariaPressed = String(isFollowing);
  byId("nothing").hidden = answer.lanes.length > 0 || isBehind;
}

// Ask for what is in view, with as much again on both sides.
async function load() {
  const number = (wanted += 1);
  isLoading = true;
  const query = new URLSearchParams({ source });
  const wide = Math.max(lanes.width - lanes.gutter, 100);
  let bins = Math.min(Math.ceil(wide / 2), MOST_BINS / 3);
  if (view) {
    const margin = view.length;
    query.set("from_us", Math.max(Math.floor(view.from - margin), 0));
    query.set("to_us", Math.max(Math.ceil(view.to + margin), 0));
    bins *= 3;
  }
  query.set("bins", Math.floor(bins));
  try {
    const found = await ask("GET", `/api/lanes?${query}`);
    if (number !== wanted) return;
    take(found);
  } catch (error) {
    if (number === wanted) byId("progress").textContent = `no answer: ${error.message}`;
  } finally {
    if (number === wanted) isLoading = false;
  }
}

function take(found) {
  if (answer && answer.epoch !== found.epoch) view = selected = null; // another run
  const isFirst = view === null;
  answer = found;
  for (const lane of found.lanes.filter((one) => one.family === "zone")) {
    if (!zones.has(lane.name)) zones.set(lane.name, zones.size);
    lane.number = zones.get(lane.name);
  }
  if (isFirst) {
    view = new View(found.oldest_us, found.newest_us);
    const [from, to] = [asked.get("from"), asked.get("to")].map((one) => one && Number(one));
    if (Number.isFinite(from) && Number.isFinite(to) && from !== null && to !== null && from < to) {
      view.set(from, to);
    } else {
      isFollowing = found.live;
      view.all();
      if (found.live && view.length > BEHIND_US) view.set(found.newest_us - BEHIND_US, found.newest_us);
    }
  }
  view.bound(found.oldest_us, found.newest_us);
  if (isFollowing) view.pan(found.newest_us - view.to + 0.02 * view.length);
  if (isFirst) changed();
  draw();
}

// The view has changed: draw what is there, and ask for what is not.
function changed() {
  draw();
  clearTimeout(timers.load);
  timers.load = setTimeout(load, LOAD_MS);
  clearTimeout(timers.list);
  timers.list = setTimeout(list, LIST_MS);
  byId("list").ariaBusy = "true";
}

function moved() {
  isFollowing = false;
  changed();
}

async function list() {
  const timer = timers.list;
  history.replaceState(null, "", addressOf());
  try {
    const page = await eventsIn(source, view.from, view.to);
    listEvents(page, answer.wall_us, choose);
  } catch (error) {
    byId("listed-count").textContent = `no answer: ${error.message}`;
  }
  if (timer === timers.list) byId("list").ariaBusy = "false"; // else the view has changed again
}

function addressOf() {
  const query = new URLSearchParams({ source });
  if (!isFollowing) {
    query.set("from", Math.round(view.from));
    query.set("to", Math.round(view.to));
  }
  return `/timeline?${query}`;
}

function choose(event) {
  selected = event;
  showEvent(event, answer.wall_us);
  draw();
}

async function chooseAt(offset) {
  try {
    const event = await eventAt(source, offset);
    if (event) choose(event);
  } catch (error) {
    byId("progress").textContent = `no answer: ${error.message}`;
  }
}

function clicked(x, y) {
  const found = lanes.at(x, y);
  if (!found) return;
  if (found.mark) {
    chooseAt(found.mark.offset);
  } else if (found.span) {
    const { first, last } = found.span;
    const isEnd = first < 0 || (selected?.offset === first && last >= 0);
    chooseAt(isEnd ? last : first);
  } else if (found.lane.bins) {
    view.zoom(1 / 8, lanes.time(x, view)); // to where events can be told apart
    moved();
  }
}

// What is under the pointer, in words.
function tip(x, y) {
  const found = x >= lanes.gutter ? lanes.at(x, y) : null;
  if (!found) return "";
  const { wall_us: wall } = answer;
  if (found.mark) return `${found.mark.type} ${clockOf(found.mark.at_us, wall, 1e4)}`;
  if (found.span) {
    const { key, from_us: from, to_us: to } = found.span;
    const begin = from === null ? "before" : clockOf(from, wall, 1e4);
    const end = to === null ? "goes on" : `${clockOf(to, wall, 1e4)} · ${lengthOf(to - (from ?? to))}`;
    return `${nameOf(found.lane)} ${key} ${begin} – ${end}`;
  }
  if (!found.lane.bins) return "";
  const { begins, most, events } = found.lane.bins;
  const k = Math.floor((lanes.time(x, view) - answer.first_us) / answer.bin_us);
  if (!events[k] && !most[k]) return "";
  const width = lengthOf(answer.bin_us);
  const many = begins[k] || most[k] ? `${begins[k]} began, at most ${most[k]} at once, ` : "";
  return `${nameOf(found.lane)}, in ${width}: ${many}${events[k]} events`;
}

function watchPointer() {
  const pointers = new Map(); // by id: x
  let dragged = 0;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!view || event.button) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event)[0]);
    dragged = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!view) return;
    const [x, y] = place(event);
    hover = x;
    const before = pointers.get(event.pointerId);
    if (before === undefined) {
      canvas.title = tip(x, y);
      draw();
      return;
    }
    const perPx = view.length / (lanes.width - lanes.gutter);
    pointers.set(event.pointerId, x);
    dragged += Math.abs(x - before);
    if (pointers.size === 2) {
      const [, other] = [...pointers].find(([id]) => id !== event.pointerId);
      const [old, now] = [Math.abs(before - other), Math.abs(x - other)];
      if (old > 5 && now > 5) view.zoom(old / now, lanes.time(other, view));
    } else {
      view.pan((before - x) * perPx);
    }
    if (dragged > 3) moved();
  });
  const up = (event) => {
    const was = pointers.delete(event.pointerId);
    if (was && event.type === "pointerup" && dragged <= 3) clicked(...place(event));
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => {
    hover = null;
    draw();
  });
  canvas.addEventListener("wheel", (event) => {
    if (!view) return;
    event.preventDefault();
    const pixels = event.deltaMode === 1 ? 16 : 1;
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
      const by = (event.deltaX || event.deltaY) * pixels;
      view.pan((by * view.length) / (lanes.width - lanes.gutter));
    } else {
      const by = Math.max(-200, Math.min(200, event.deltaY * pixels));
      view.zoom(Math.exp(by / 250), lanes.time(place(event)[0], view));
    }
    moved();
  }, { passive: false });
}

const middle = () => (view.from + view.to) / 2;
const ACTIONS = {
  in: () => view.zoom(1 / 2, middle()),
  out: () => view.zoom(2, middle()),
  left: () => view.pan(-view.length / 5),
  right: () => view.pan(view.length / 5),
  begin: () => view.set(answer.oldest_us, answer.oldest_us + view.length),
  end: () => view.set(answer.newest_us - view.length, answer.newest_us),
  all: () => view.all(),
};
const KEYS = {
  "+": "in", "=": "in", "-": "out", ArrowLeft: "left", ArrowRight: "right",
  Home: "begin", End: "end", 0: "all",
};

function act(name) {
  if (!view) return;
  ACTIONS[name]();
  moved();
}

function follow() {
  if (!view) return;
  isFollowing = !isFollowing;
  if (isFollowing) view.set(answer.newest_us - 0.98 * view.length, answer.newest_us + 0.02 * view.length);
  changed();
}

canvas.addEventListener("keydown", (event) => {
  const name = event.ctrlKey || event.metaKey || event.altKey ? null : KEYS[event.key];
  if (!name) return;
  event.preventDefault();
  act(name);
});
for (const name of ["in", "out", "left", "right", "all"]) {
  byId(name).addEventListener("click", () => act(name));
}
byId("follow").addEventListener("click", follow);
byId("close").addEventListener("click", () => {
  byId("event").hidden = true;
  selected = null;
  canvas.focus();
  draw();
});
byId("source").addEventListener("change", () => {
  location.href = `/timeline?${new URLSearchParams({ source: byId("source").value })}`;
});
new ResizeObserver(draw).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  lanes.readColours();
  draw();
});
watchPointer();

function showSources(status) {
  const ids = status.log.map((one) => one.id);
  source ??= ids[0] ?? null;
  const shown = source === null || ids.includes(source) ? ids : [source, ...ids];
  if (byId("source").childElementCount !== shown.length) {
    byId("source").replaceChildren(...shown.map((id) => {
      const option = element("option", id);
      option.value = id;
      return option;
    }));
    byId("source").value = source;
  }
  byId("no-log").hidden = ids.length > 0;
}

if (source !== null) load();
start({
  look(status) {
    showSources(status);
    if (source === null || isLoading) return;
    const isBehind = answer && answer.until_us !== answer.newest_us;
    const isSeen = view && view.to >= answer.newest_us - view.length;
    if (!answer || isBehind || (status.live && isSeen)) load();
  },
});
