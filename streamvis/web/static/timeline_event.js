// One event: its members, its picture and its clip; and the events of a stretch as a table.

import { ask } from "/static/api.js";
import { byId, element } from "/static/dom.js";
import { aboutOf } from "/static/state.js";
import { clockOf, dayOf } from "/static/timeline_view.js";

export const MOST_LISTED = 100;
const CLIP_WAIT_US = 120e6; // after an event, in which its clip is complete
const HIDDEN = new Set(["schema", "epoch", "tseq", "source", "prov"]);
const LAST = new Set(["id", "offset", "time", "frame"]); // after the members of the type
// All that is no update; the server takes 32 at most.
const LISTED = [
  ...["begin", "end", "merge", "split"].map((verb) => `track.${verb}`),
  ...["layout", "enter", "exit", "dwell", "crowded", "clear", "revise"].map((v) => `zone.${v}`),
  ...["action.begin", "action.end", "posture", "line", "unknown", "source"],
];

export async function eventAt(source, offset) {
  const query = new URLSearchParams({ source, cursor: offset, limit: 1 });
  const page = await ask("GET", `/api/events?${query}`);
  const event = page.events[0];
  return event?.offset === offset ? event : null;
}

export async function eventsIn(source, from, to) {
  const query = new URLSearchParams({ source, limit: MOST_LISTED, types: LISTED.join(",") });
  query.set("from_us", Math.max(Math.floor(from), 0));
  query.set("to_us", Math.max(Math.ceil(to), 0));
  return ask("GET", `/api/events?${query}`);
}

// Members as lines "a.b" -> text, in the order of the event.
export function membersOf(value, path = "") {
  if (Array.isArray(value)) {
    if (value.every((one) => typeof one !== "object" || one === null)) {
      return [[path, value.map(textOf).join(", ")]];
    }
    return value.flatMap((one, k) => membersOf(one, `${path}[${k}]`));
  }
  if (typeof value === "object" && value !== null) {
    return Object.entries(value).flatMap(([name, one]) =>
      path || !HIDDEN.has(name) ? membersOf(one, path ? `${path}.${name}` : name) : []);
  }
  return [[path, textOf(value)]];
}

function textOf(value) {
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toFixed(4)));
  return String(value);
}

export function showEvent(event, wall) {
  const at = event.time.media_us;
  byId("event").hidden = false;
  byId("event-title").textContent = [event.type, aboutOf(event)].join(" ").trim();
  byId("event-time").textContent = `${dayOf(at, wall)} ${clockOf(at, wall, 1e3)}`.trim();
  const members = Object.entries(event).sort(([a], [b]) => LAST.has(a) - LAST.has(b));
  const rows = membersOf(Object.fromEntries(members)).map(([name, text]) => {
    const row = element("tr");
    const head = element("th", name);
    head.scope = "row";
    row.append(head, element("td", text));
    return row;
  });
  byId("members").replaceChildren(...rows);
  byId("back").href = `/source?${new URLSearchParams({ id: event.source, at })}`;
  showPicture(event);
  showClip(event);
}

function showPicture(event) {
  const picture = byId("picture");
  const query = new URLSearchParams({ media_us: Math.max(event.time.media_us, 0) });
  if (event.frame) query.set("stream_epoch", event.frame.stream_epoch);
  byId("picture-box").hidden = true;
  picture.onload = () => {
    byId("picture-box").hidden = false;
  };
  picture.onerror = () => {
    byId("picture-box").hidden = true;
  };
  picture.alt = `picture of ${event.source} at this event`;
  const address = `/api/picture/${encodeURIComponent(event.source)}?${query}`;
  picture.removeAttribute("src");
  fetch(address).then(async (answer) => {
    if (!answer.ok || byId("event").dataset.id !== event.id) return;
    if (picture.dataset.url) URL.revokeObjectURL(picture.dataset.url);
    picture.dataset.url = URL.createObjectURL(await answer.blob());
    picture.src = picture.dataset.url;
  }).catch(() => {});
  byId("event").dataset.id = event.id;
}

// The recording around an event says of which one it is.
async function showClip(event) {
  const link = byId("clip");
  link.hidden = true;
  const at = event.time.media_us;
  const query = new URLSearchParams({ source: event.source, limit: 100 });
  query.set("from_us", Math.max(at, 0));
  query.set("to_us", Math.max(at, 0) + CLIP_WAIT_US);
  const wanted = event.type === "source.clip" ? event.stream.event : event.id;
  try {
    const page = await ask("GET", `/api/clips?${query}`);
    const clip = page.clips.find((one) => one.event === wanted);
    if (!clip?.url || byId("event").dataset.id !== event.id) return;
    link.href = clip.url;
    link.hidden = false;
  } catch {
    // the events are evicted, or the server has gone: there is no clip to show
  }
}

// Fill the table; `choose` is called with an event of it.
export function listEvents(page, wall, choose) {
  const rows = page.events.map((event) => {
    const row = element("tr");
    const button = element("button", event.type);
    button.type = "button";
    button.addEventListener("click", () => choose(event));
    const cell = element("td");
    cell.append(button);
    row.append(
      element("td", clockOf(event.time.media_us, wall, 1e4), "number"),
      cell,
      element("td", aboutOf(event)),
    );
    return row;
  });
  byId("listed").replaceChildren(...rows);
  const more = page.next !== null ? `the first ${rows.length} of this stretch` : `${rows.length}`;
  byId("listed-count").textContent = more;
}
