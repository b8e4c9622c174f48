// The logged events of a source around a media time, and the state at any moment in them.

import { ask } from "/static/api.js";
import { SourceScene } from "/static/scene.js";

const REACH_US = 10e6; // before and after the time that was asked for
const MARGIN_US = 3e6; // to the end of what is loaded, from which on more is loaded
const PAGE = 1000; // events
const MOST_PAGES = 40; // of a window
const LONGEST_GAP_US = 5e6; // between two updates of a track that are drawn as one path
const CLOCKED = 200; // events before and after, of which one may have a time of day
const LASTING = "track.merge,track.split,zone.layout,line,source.online";

function pageOf(source, query) {
  return ask("GET", `/api/events?${new URLSearchParams({ source, limit: String(PAGE), ...query })}`);
}

async function pages(source, query) {
  const events = [];
  let cursor = {};
  for (let count = 0; count < MOST_PAGES && cursor; count += 1) {
    const page = await pageOf(source, { ...query, ...cursor });
    events.push(...page.events);
    cursor = page.next === null ? null : { cursor: page.next };
  }
  return events;
}

// The index of the first item whose value is greater than `limit`; items are in order of it.
export function firstAfter(items, limit, valueOf) {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (valueOf(items[middle]) > limit) high = middle;
    else low = middle + 1;
  }
  return low;
}

// Which track a logged track is by the corrections after it, as Corrections of the Python package.
export class TrackCorrections {
  constructor(events) {
    this.moves = new Map(); // run and track -> [{ offset, since, other }], in order of offset
    for (const { type, epoch, offset, merge, splits } of events) {
      const found = type === "track.merge"
        ? [{ id: merge.gone, other: merge.kept, since_us: -Infinity }]
        : type === "track.split" ? splits : [];
      for (const { id, other, since_us: since } of found) {
        const key = `${epoch} ${id}`;
        if (!this.moves.has(key)) this.moves.set(key, []);
        this.moves.get(key).push({ offset, since, other });
      }
    }
  }

  trackOf({ epoch, offset, time }, id) {
    const later = (one) => one.offset > offset && one.since <= time.media_us;
    for (let move; (move = this.moves.get(`${epoch} ${id}`)?.find(later)); offset = move.offset) {
      id = move.other;
    }
    return id;
  }

  corrected(event) {
    const named = ["begin", "update", "end"].map((what) => `track.${what}`);
    if (!named.includes(event.type)) return event;
    const id = this.trackOf(event, event.track.id);
    if (id === event.track.id) return event;
    return { ...event, track: { ...event.track, id }, moved: true };
  }
}

export class Replay {
  constructor(source) {
    this.source = source;
    this.first = 0; // media time of the first and of the last event, µs
    this.last = 0;
    this.lasting = []; // events of the whole log that matter later, such as corrections
    this.found = []; // those that are still to be taken in
    this.totals = new Map(); // of a line the last event in each REACH_US
    this.scanned = 0; // offset up to which they are known
    this.next = 0; // offset after the last event of the log
    this.corrections = new TrackCorrections([]);
    this.window = { from: 0, to: -1, events: [], times: [], samples: new Map() };
    this.loading = null;
    this.scene = new SourceScene();
    this.rewind();
  }

  // Find the range of media time. `next` is the offset after the last event of the log.
  async open({ oldest, next }) {
    const begin = await pageOf(this.source, { cursor: oldest, limit: 1 });
    this.first = begin.events[0]?.time.media_us ?? 0;
    this.last = this.first;
    this.scanned = oldest;
    await this.grow(next);
  }

  // The log has grown.
  async grow(next) {
    const end = await pageOf(this.source, { cursor: next - 1, limit: 1 });
    this.last = Math.max(this.last, end.events[0]?.time.media_us ?? 0);
    this.next = next;
  }

  // Look for the events that matter later, a page at a time: a long log takes seconds. Returns
  // whether there are more to look for; they count from `settle` on.
  async scan() {
    const until = this.next;
    const page = await pageOf(this.source, { types: LASTING, cursor: this.scanned });
    this.scanned = page.next === null ? until : Number(page.next);
    for (const event of page.events) {
      if (!event.type.startsWith("line.")) this.found.push(event);
      else this.totals.set(`${Math.floor(timeOf(event) / REACH_US)} ${event.line.name}`, event);
    }
    return this.scanned < this.next;
  }

  // Returns whether something was found since the last time.
  settle() {
    if (!this.found.length) return false;
    this.lasting.push(...this.found);
    this.found = [];
    this.corrections = new TrackCorrections(this.lasting);
    this.window.to = -1; // what is loaded may have to be corrected
    return true;
  }

  // Have the events around a time, at once or soon: only a time outside of what is there waits.
  async load(now) {
    const { from, to } = this.window;
    const inside = now >= from && now <= to;
    const near = now > to - MARGIN_US && to < this.last;
    if (inside && !near) return;
    const lower = Math.max(0, Math.round(now - REACH_US));
    this.loading ??= this.fetch(lower, Math.round(now + REACH_US)).finally(() => {
      this.loading = null;
    });
    if (inside) return;
    await this.loading;
    if (now < this.window.from || now > this.window.to) await this.load(now);
  }

  async fetch(from, to) {
    this.fill(from, to, await pages(this.source, { from_us: from, to_us: to }));
  }

  fill(from, to, found) {
    const events = found.map((event) => this.corrections.corrected(event));
    events.sort((a, b) => a.time.media_us - b.time.media_us || a.offset - b.offset);
    const times = events.filter((event) => event.frame).map((event) => event.time.media_us);
    const samples = samplesOf(events);
    this.window = { from, to, events, times: [...new Set(times)], samples };
    this.rewind();
  }

  rewind() {
    this.scene.clear();
    this.taken = 0; // events of the window that the scene includes
    this.now = -1;
    const before = firstAfter(this.lasting, this.window.from - 1, timeOf);
    for (const event of this.lasting.slice(0, before)) this.take(event);
    for (const event of this.totals.values()) {
      if (timeOf(event) < this.window.from) this.take(event);
    }
  }

  take(event) {
    // what was published before is corrected already
    if (event.type !== "track.merge" && event.type !== "track.split") this.scene.take(event);
  }

  // The state for the overlay at a media time.
  at(now) {
    if (now < this.now) this.rewind();
    this.now = now;
    const until = firstAfter(this.window.events, now, timeOf);
    for (; this.taken < until; this.taken += 1) this.take(this.window.events[this.taken]);
    return this.scene.at(now, this.tracksAt(now));
  }

  // The tracks of a frame: as logged for it, else between two updates, which are marked.
  tracksAt(now) {
    const found = [];
    for (const samples of this.window.samples.values()) {
      const next = firstAfter(samples, now, (sample) => sample.media_us);
      const [before, after] = [samples[next - 1], samples[next]];
      if (before?.media_us === now && !before.over) found.push(before);
      else if (before && after && !before.over && !after.begins
        && after.media_us - before.media_us <= LONGEST_GAP_US) {
        found.push(between(before, after, now));
      }
    }
    return found;
  }

  // The media time of the picture before or after, by the log or by the rate of the source.
  step(now, direction) {
    const { times } = this.window;
    const at = direction > 0
      ? firstAfter(times, now, Number)
      : firstAfter(times, now - 1, Number) - 1;
    const logged = times[at];
    if (logged !== undefined && Math.abs(logged - now) < 1.5 * this.period) return logged;
    // a little later than the picture that is meant, whose time is known to some µs only
    return this.inside(Math.round(now + (direction + 0.02) * this.period));
  }

  // µs between two pictures, nominally
  get period() {
    return 1e6 / (this.scene.stream?.fps || 25);
  }

  // The time of the picture that is there at `now`, where something was logged of it.
  pictureTime(now) {
    const logged = this.window.times[firstAfter(this.window.times, now, Number) - 1];
    return logged !== undefined && now - logged < 1.5 * this.period ? logged : now;
  }

  // The time of day, in ms since 1970, where pictures near it have one; else null.
  wallClock(now) {
    const until = firstAfter(this.window.events, now, timeOf);
    const near = this.window.events.slice(Math.max(0, until - CLOCKED), until + CLOCKED);
    const { time } = near.findLast((event) => event.time.capture_us) ?? {};
    return time ? (time.capture_us + now - time.media_us) / 1000 : null;
  }

  inside(now) {
    return Math.min(Math.max(now, this.first), this.last);
  }

  // The events of the window up to a time, the newest first.
  eventsUntil(now) {
    return this.window.events.slice(0, firstAfter(this.window.events, now, timeOf)).reverse();
  }
}

function timeOf(event) {
  return event.time.media_us;
}

// By track, what was logged of it, in order of time. Of two boxes in one frame the one that was
// detected is right, and of two such the one that corrections moved there. Of two stream epochs at
// one time, as when a file began again, the later one stays.
function samplesOf(events) {
  const latest = new Map(); // media time -> stream epoch
  for (const { frame, time } of events) {
    if (frame) {
      const known = latest.get(time.media_us) ?? 0;
      latest.set(time.media_us, Math.max(known, frame.stream_epoch));
    }
  }
  const found = new Map();
  for (const { type, track, frame, time, moved } of events) {
    if (!/^track\.(begin|update|end)$/.test(type)) continue;
    if (frame && frame.stream_epoch !== latest.get(time.media_us)) continue;
    const samples = found.get(track.id) ?? [];
    found.set(track.id, samples);
    const sample = {
      ...track,
      media_us: time.media_us,
      predicted: track.box_from === "predict",
      worth: (track.box_from === "update" ? 2 : 0) + (moved ? 1 : 0),
      begins: type === "track.begin",
      over: type === "track.end",
    };
    const last = samples.at(-1);
    if (last?.media_us !== sample.media_us || last.over) samples.push(sample);
    else if (!sample.over && sample.worth > last.worth) samples[samples.length - 1] = sample;
  }
  return found;
}

function between(before, after, now) {
  const share = (now - before.media_us) / (after.media_us - before.media_us);
  const mix = (a, b) => a.map((value, at) => value + (b[at] - value) * share);
  const ground = before.ground_m && after.ground_m ? mix(before.ground_m, after.ground_m) : null;
  return {
    ...before,
    media_us: now,
    box_px: mix(before.box_px, after.box_px),
    ground_m: ground,
    predicted: true,
    between: true,
  };
}
