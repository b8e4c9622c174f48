// The zones page: zones and lines of a source, drawn on its picture, saved through the API.

import { ApiError, ask } from "/static/api.js";
import { byId } from "/static/dom.js";
import { start } from "/static/shell.js";
import { Canvas } from "/static/zone_canvas.js";
import { Draft } from "/static/zone_draft.js";
import {
  Frame, History, isSame, layoutOf, newShape, placeOf, pointsOf, removeCorner, replaced, shapesOf,
  turned, withPoints, withSetting, without,
} from "/static/zone_editor.js";
import { defaultsOf } from "/static/zone_fields.js";
import { Panel } from "/static/zone_panel.js";
import { loaded, pictureOf, schemas, sourceIds } from "/static/zone_requests.js";

const CHECK_MS = 300; // after the last change
const LOOK_AGAIN = 3; // looks at the status, of 2 s each
const HINTS = {
  choose: "Drag corners, or the small dots between them for new ones. With the keyboard: Enter on "
    + "a name in the list, Tab to a corner, arrow keys move it by 1 px (Shift: 10), Delete deletes it.",
  zone: "Click the corners in order; the first one again, or Finish, closes the zone. With the "
    + "keyboard: arrow keys move the cross (Shift: 10 px, Control: 100), Space sets a corner, Enter finishes.",
  line: "Click the start, then the end; crossing to its right counts as in. With the keyboard: "
    + "arrow keys move the cross (Shift: 10 px, Control: 100), Space sets an end.",
};
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

let source = new URL(location.href).searchParams.get("source");
let history = new History([]);
let saved = []; // shapes as the run has them
let state = null; // of `loaded`: live, revision, origin, lost, why
let frame = new Frame(1280, 720);
let kinds = null; // schemas of zone and line
let key = null; // of the chosen shape
let problem = null; // { message, key, setting } of the last check
let draft = null; // what is being drawn
let dragged = null; // the shape as it was when a drag began
let hasPicture = false;
let unanswered = false; // the last look
let looks = 0;
let checking = 0; // number of the last check
let timer;
let opening = null; // a promise, while a source is loaded

const chosen = () => history.now.find((one) => one.key === key);
const isDirty = () => !isSame(history.now, saved);

function speak(text) {
  byId("spoken").textContent = text;
}

function draw() {
  const view = { frame, shapes: history.now, key, schemas: kinds };
  canvas.draw({ ...view, problem: problem?.key, draft: draft?.view });
  panel.draw({ ...view, problem });
  byId("undo").disabled = !history.past.length;
  byId("redo").disabled = !history.future.length;
  byId("save").disabled = !state?.live || !isDirty() || !!draft;
  byId("download").disabled = !source;
  byId("drawing").hidden = !draft;
  for (const kind of ["zone", "line"]) {
    const one = byId(`draw-${kind}`);
    one.ariaPressed = draft?.kind === kind;
    one.disabled = !kinds || !source;
  }
  byId("finish").hidden = draft?.kind === "line";
  byId("finish").disabled = !draft?.isWhole;
  byId("back").disabled = !draft?.corners.length;
  byId("hint").textContent = HINTS[draft?.kind ?? "choose"];
  document.title = `${isDirty() ? "* " : ""}streamvis: zones${source ? ` of ${source}` : ""}`;
}

function change(shapes, tag = null) {
  history.change(shapes, tag);
  check();
  draw();
}

const changeShape = (shape, tag = null) => change(replaced(history.now, shape), tag);

function choose(next, toCanvas = false) {
  key = next;
  history.endStep();
  draw();
  if (toCanvas) canvas.focus("body");
}

function check() {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    const number = ++checking;
    const found = await problemOf(history.now);
    if (number !== checking) return;
    problem = found;
    draw();
  }, CHECK_MS);
}

async function problemOf(shapes) {
  try {
    await ask("POST", "/api/zones-file", layoutOf(shapes));
    return null;
  } catch (error) {
    if (!(error instanceof ApiError) || ![400, 413].includes(error.status)) return null;
    return placed(error, shapes);
  }
}

function placed(error, shapes) {
  const message = error.message.replace(/^body: /, "").replace(/ - at `\$.*?`/, "")
    .replace(/; expected the members of .*$/, "").replace(/ \(of '[^']*'\)$/, "");
  return { message, ...placeOf(error.message, shapes) };
}

// Drawing

function begin(kind) {
  draft = draft?.kind === kind ? null : new Draft(kind, frame);
  key = null;
  draw();
  if (draft) byId("stage").focus({ preventScroll: true });
}

function finish() {
  if (!draft.isWhole) {
    speak(draft.kind === "zone" ? "A zone needs three corners" : "A line needs two ends");
    return;
  }
  const { kind, corners } = draft;
  draft = null;
  const points = corners.map((one) => frame.fromPixels("image", one));
  const shape = newShape(history.now, kind, points, defaultsOf(kinds[kind]));
  key = shape.key;
  const zones = history.now.filter((one) => one.kind === "zone");
  const lines = history.now.filter((one) => one.kind === "line");
  change(kind === "zone" ? [...zones, shape, ...lines] : [...zones, ...lines, shape]);
  canvas.focus("body");
  speak(`${kind} ${shape.settings.name} drawn`);
}

function cancel() {
  draft = null;
  draw();
}

function tell(corner) {
  if (corner) speak(`${draft.corners.length}: ${corner.map((one) => one.toFixed(1)).join(", ")}`);
}

// What the pointer does

const pointer = {
  press(what, at) {
    if (draft) {
      byId("stage").focus({ preventScroll: true });
      draft.press(at);
      draw();
      return;
    }
    dragged = chosen();
    if (what.corner !== null) canvas.focus(`corner ${what.corner}`);
    else if (what.body) canvas.focus("body");
    history.endStep();
  },
  hover(at) {
    if (!draft) return;
    draft.point(at);
    draw();
  },
  drag(what, from, at) {
    if (draft) {
      pointer.hover(at);
    } else if (dragged && what.corner !== null) {
      changeShape(frame.moveCorner(dragged, what.corner, at), "drag");
    } else if (dragged && what.edge !== null) {
      changeShape(frame.addCorner(dragged, what.edge, at), "drag");
    } else if (dragged && what.body) {
      changeShape(frame.move(dragged, [at[0] - from[0], at[1] - from[1]]), "drag");
    }
  },
  release(what, from, at, drags, keys) {
    if (draft) {
      const done = draft.release(from, at, drags, 12 * canvas.scale);
      tell(draft.corners.at(-1));
      if (done) finish();
      else draw();
      return;
    }
    if (!drags && what.edge !== null && dragged) {
      changeShape(frame.addCorner(dragged, what.edge));
      canvas.focus(`corner ${what.edge + 1}`);
    } else if (!drags && what.corner === null) {
      const next = keys[(keys.indexOf(key) + 1) % keys.length]; // below each other: in turn
      choose(next ?? null);
      canvas.focus("body");
    } else if (what.edge !== null) {
      canvas.focus(`corner ${what.edge + 1}`);
    }
    dragged = null;
    history.endStep();
  },
  giveUp() {
    if (dragged) changeShape(dragged, "drag");
    dragged = null;
    history.endStep();
    draw();
  },
};

// What the form does

const form = {
  choose,
  refuse: draw,
  type: () => { byId("save").disabled = !state?.live; }, // what is typed counts when it is left
  set(name, value) {
    const shape = chosen();
    const next = name === "space" ? frame.inSpace(shape, value) : withSetting(shape, name, value);
    if (next) changeShape(next);
    else draw();
  },
  place(index, axis, value) {
    const shape = chosen();
    const point = pointsOf(shape)[index];
    if (shape.settings.space === "ground") {
      changeShape(withPoints(shape, pointsOf(shape).with(index, point.with(axis, value))));
    } else {
      changeShape(frame.moveCorner(shape, index, frame.toPixels("image", point).with(axis, value)));
    }
  },
  addCorner: (index) => changeShape(frame.addCorner(chosen(), index)),
  removeCorner(index) {
    const next = removeCorner(chosen(), index);
    if (next) changeShape(next);
  },
  turn: () => changeShape(turned(chosen())),
  remove() {
    const { kind, settings } = chosen();
    const gone = key;
    key = null;
    change(without(history.now, gone));
    speak(`${kind} ${settings.name} deleted`);
  },
};

// What the keys do

function onStageKey(event) {
  const step = STEPS[event.key];
  const far = event.ctrlKey ? 100 : event.shiftKey ? 10 : 1;
  const by = step?.map((one) => one * far);
  if (draft) {
    if (by) draft.step(by);
    else if (event.key === " ") tell(draft.set());
    else if (event.key === "Backspace" || event.key === "Delete") draft.removeLast();
    else if (event.key === "Escape") draft = null;
    else if (event.key !== "Enter") return;
    event.preventDefault();
    if (draft?.cursor && by) speak(draft.cursor.map((one) => one.toFixed(1)).join(", "));
    if (draft && (event.key === "Enter" || (draft.kind === "line" && draft.isWhole))) finish();
    else draw();
    return;
  }
  const shape = chosen();
  const corner = /^corner (\d+)$/.exec(canvas.focused ?? "")?.[1];
  if (!shape || !canvas.focused) return;
  if (by) {
    const pixels = frame.pixelsOf(shape);
    const next = corner === undefined
      ? frame.move(shape, by)
      : frame.moveCorner(shape, Number(corner), [0, 1].map((axis) => pixels[corner][axis] + by[axis]));
    changeShape(next, `${canvas.focused} of ${key}`);
  } else if ((event.key === "Delete" || event.key === "Backspace") && corner !== undefined) {
    const next = removeCorner(shape, Number(corner));
    if (next) changeShape(next);
    else speak("Too few corners would be left: delete the shape instead");
    canvas.focus(`corner ${Math.max(Number(corner) - 1, 0)}`);
  } else if (event.key === "Delete" || event.key === "Backspace") {
    form.remove();
  } else if ((event.key === "Insert" || event.key === "+") && corner !== undefined && shape.kind === "zone") {
    changeShape(frame.addCorner(shape, Number(corner)));
    canvas.focus(`corner ${Number(corner) + 1}`);
  } else if (event.key === "Escape") {
    panel.focusRow(key);
  } else {
    return;
  }
  event.preventDefault();
}

function onKey(event) {
  if (!event.ctrlKey && !event.metaKey) return;
  const pressed = event.key.toLowerCase();
  const writes = event.target.matches("input[type=text], input[type=number], textarea");
  if (pressed === "s") {
    if (writes) event.target.blur(); // what was typed counts
    byId("save").click();
    if (writes) event.target.focus();
  }
  else if (pressed === "z" && !writes) byId(event.shiftKey ? "redo" : "undo").click();
  else if (pressed === "y" && !writes) byId("redo").click();
  else return;
  event.preventDefault();
}

function travel(way) {
  const at = canvas.focused;
  history[way]();
  if (!chosen()) key = null;
  check();
  draw();
  if (at) canvas.focus(at);
}

// Loading and saving

async function open() {
  kinds ??= await schemas();
  const found = await sourceIds();
  const ids = source && !found.includes(source) ? [source, ...found] : found;
  source ??= ids[0] ?? null;
  byId("source").replaceChildren(...ids.map((id) => new Option(id, id, false, id === source)));
  if (!source) {
    keptIs("The run has no source yet.");
    draw();
    return;
  }
  await load();
  await newPicture();
}

async function load() {
  adopt(await loaded(source));
  history = new History(saved);
  key = null;
  problem = null;
  notice("");
  draw();
}

function adopt(found) {
  state = found;
  saved = shapesOf(found.layout);
  sayKept();
}

function sayKept() {
  if (!state.live) {
    keptIs(`${state.why} Zones can be drawn and downloaded as a file, for: streamvis run --zones FILE`);
  } else if (state.lost) {
    keptIs(`What is saved lasts until the run ends: ${state.lost}. Download a file to keep it.`);
  } else {
    keptIs(`Kept in ${state.origin}, also for the next start.`);
  }
}

function keptIs(text) {
  byId("kept").textContent = text;
}

async function newPicture() {
  byId("picture").disabled = true;
  const found = await pictureOf(source, state);
  byId("picture").disabled = false;
  canvas.setPicture(found.address);
  frame = new Frame(found.width, found.height, state.plane);
  canvas.setFrame(frame);
  hasPicture = !found.why;
  byId("no-picture").textContent = found.why;
  draw();
}

async function save(revision) {
  const sent = history.now;
  byId("save").disabled = true;
  try {
    const query = revision ? `?revision=${revision}` : "";
    const reply = await ask("PUT", `/api/zones/${source}${query}`, layoutOf(sent));
    saved = sent;
    state = { ...state, revision: reply.revision, lost: reply.lost, origin: reply.file || "set" };
    problem = null;
    notice("");
    keptIs(`In force from the next frame on. ${reply.file
      ? `Saved in ${reply.file}, also for the next start.`
      : `It lasts until the run ends: ${reply.lost}. Download a file to keep it.`}`);
  } catch (error) {
    const isNewer = error.status === 412;
    if (error.status === 400) problem = placed(error, sent);
    notice(error.message, isNewer);
    if (problem?.key) key = problem.key;
  }
  draw();
}

function notice(text, isNewer = false) {
  byId("notice").hidden = !text;
  byId("notice-text").textContent = text;
  byId("reload").hidden = byId("overwrite").hidden = !isNewer;
}

async function download() {
  try {
    const { text } = await ask("POST", "/api/zones-file", layoutOf(history.now));
    const address = URL.createObjectURL(new Blob([text], { type: "application/yaml" }));
    const link = document.createElement("a");
    link.href = address;
    link.download = `${source}.zones.yaml`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
    notice("");
  } catch (error) {
    problem = placed(error, history.now);
    if (problem.key) key = problem.key;
    notice(problem.message);
    draw();
  }
}

// See whether others have set zones meanwhile.
async function lookAgain() {
  const found = await loaded(source, state);
  if (found.live !== state.live || found.revision !== state.revision) {
    const dirty = isDirty();
    const meant = saved;
    if (!dirty) {
      adopt(found);
      history = new History(saved);
      key = null;
      draw();
    } else if (found.live && state.live) {
      notice("Other zones have come into force meanwhile.", true);
    } else {
      adopt(found);
      saved = meant;
      draw();
    }
  }
}

async function look() {
  looks += 1;
  try {
    if (!state && !opening) await (opening = open().finally(() => { opening = null; }));
    else if (state && looks % LOOK_AGAIN === 0) {
      await lookAgain();
      if (state.live && !hasPicture) await newPicture();
    }
    if (unanswered) notice("");
    unanswered = false;
  } catch (error) {
    unanswered = true;
    notice(`no answer: ${error.message}`);
  }
}

const canvas = new Canvas(byId("stage"), pointer);
const panel = new Panel(form);
canvas.setFrame(frame);
byId("stage").addEventListener("keydown", onStageKey);
document.addEventListener("keydown", onKey);
byId("draw-zone").addEventListener("click", () => begin("zone"));
byId("draw-line").addEventListener("click", () => begin("line"));
byId("finish").addEventListener("click", finish);
byId("back").addEventListener("click", () => { draft.removeLast(); draw(); });
byId("cancel").addEventListener("click", cancel);
byId("undo").addEventListener("click", () => travel("undo"));
byId("redo").addEventListener("click", () => travel("redo"));
byId("picture").addEventListener("click", () => source && newPicture());
byId("zoom").addEventListener("change", () => { canvas.setZoom(Number(byId("zoom").value)); draw(); });
byId("save").addEventListener("click", () => save(state.revision));
byId("overwrite").addEventListener("click", () => save(""));
byId("reload").addEventListener("click", () => load());
byId("download").addEventListener("click", download);
byId("source").addEventListener("change", () => { location.search = `?source=${byId("source").value}`; });
window.addEventListener("beforeunload", (event) => { if (isDirty()) event.preventDefault(); });
start({ look });
draw();
