// What the events of a run say, as the pages show it. No document, no network.

const MOST_EVENTS = 200;

export function isUpdate(type) {
  return type.endsWith(".update") || type.startsWith("forecast.")
    || type === "zone.forecast" || type === "zone.scored";
}

export class RunState {
  constructor() {
    this.sources = new Map(); // id -> { tracks: Set of ids, last: event or null }
    this.dated = new Set(); // ids of sources whose pictures have a time of day
    this.events = []; // the newest first
    this.updates = []; // the same, with updates
  }

  source(id) {
    if (!this.sources.has(id)) this.sources.set(id, { tracks: new Set(), last: null });
    return this.sources.get(id);
  }

  // Apply a message of /ws/events.
  take(message) {
    if (message.kind === "begin" && message.why !== "resumed") {
      this.sources.clear();
      if (message.why !== "start") this.events = this.updates = [];
    } else if (message.kind === "snapshot") {
      this.sources.delete(message.source);
      for (const event of message.events) this.apply(event);
    } else if (message.kind === "events") {
      for (const event of message.events) {
        this.apply(event);
        this.updates.unshift(event);
        if (!isUpdate(event.type)) this.events.unshift(event);
      }
      this.events = this.events.slice(0, MOST_EVENTS);
      this.updates = this.updates.slice(0, MOST_EVENTS);
    }
  }

  // Add events that were logged before the snapshots, the oldest first.
  addEarlier(events) {
    for (const event of events) this.date(event);
    const earlier = events.toReversed();
    this.updates = [...this.updates, ...earlier].slice(0, MOST_EVENTS);
    const others = earlier.filter((event) => !isUpdate(event.type));
    this.events = [...this.events, ...others].slice(0, MOST_EVENTS);
  }

  date(event) {
    if (event.time.capture_us) this.dated.add(event.source);
  }

  apply(event) {
    if (event.source === "_sys") return;
    this.date(event);
    const source = this.source(event.source);
    if (!isUpdate(event.type)) source.last = event;
    if (event.type === "track.begin" || event.type === "track.update") {
      source.tracks.add(event.track.id);
    } else if (event.type === "track.end") {
      source.tracks.delete(event.track.id);
    } else if (event.type === "source.eof") {
      source.tracks.clear();
    }
  }
}

// The time of day, where pictures of the source have one, else the time in the video.
export function timeOf(event, dated) {
  const { capture_us: captured, emit_us: emitted, media_us: media } = event.time;
  if (captured || (dated.has(event.source) && emitted)) {
    const date = new Date((captured || emitted) / 1000);
    return date.toLocaleTimeString([], { hour12: false });
  }
  const seconds = Math.floor(media / 1e6);
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

// What tells an event, and how its time is shown, from others.
export function keyOf({ epoch, source, offset, id }, dated) {
  return [epoch, source, offset, offset < 0 ? id : "", dated.has(source)].join(" ");
}

// What an event is about, in a few words.
export function aboutOf(event) {
  const family = event.type.split(".")[0];
  const what = event[family === "source" ? "stream" : family];
  if (typeof what !== "object" || what === null) return "";
  const names = ["name", "id", "track", "label", "direction", "gone", "kept", "reason", "message"];
  const words = names.map((name) => what[name]).filter((text) => typeof text === "string");
  if (typeof what.count === "number") words.push(`(${what.count})`);
  return words.join(" ");
}

// The page of a source, looking back at a media time where one is given.
export function sourceAddress(id, at) {
  const page = `/source?id=${encodeURIComponent(id)}`;
  return at === undefined ? page : `${page}&at=${at}`;
}

export function durationOf(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
