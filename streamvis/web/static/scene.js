// What the events of one source say of a moment: tracks, trails, zones, actions, forecasts.
// No document, no network.

import { footOf } from "/static/overlay.js";

const SPAN_US = 4e6; // of a trail
const STEP_US = SPAN_US / 32; // between two points of a trail
const FRESH_US = 2e6; // how long what an event says of a track counts for later frames
const NO_LAYOUT = { zones: [], lines: [] };

export class SourceScene {
  constructor() {
    this.clear();
  }

  clear() {
    this.tracks = new Map(); // id -> the track of its latest event, with media_us
    this.trails = new Map(); // id -> [{ media_us, foot, ground }], in order of time
    this.layout = NO_LAYOUT;
    this.zones = new Map(); // name -> { people, mean, sd, crowded }
    this.lines = new Map(); // name -> { in, out }
    this.actions = new Map(); // `track label` -> action
    this.postures = new Map(); // `track label` -> both
    this.unknown = null; // the largest out-of-distribution region
    this.classes = null; // shares of the picture
    this.forecasts = new Map(); // horizon in µs -> { forecast, media_us }
    this.scores = new Map(); // horizon in µs -> the latest score
    this.zoneForecasts = new Map(); // zone -> horizon in µs -> forecast
    this.stream = null; // of the latest source.online
    this.size = null; // of the source frame: { width, height }
    this.grounded = false; // whether tracks have had a place on the ground plane
  }

  take(event) {
    if (event.frame) this.size = { width: event.frame.w, height: event.frame.h };
    const [family] = event.type.split(".");
    this[`take_${family}`]?.(event, event.type.slice(family.length + 1), event.time.media_us);
  }

  take_track(event, what, now) {
    if (what === "begin" || what === "update") {
      const track = { ...event.track, media_us: now, predicted: event.track.box_from === "predict" };
      const known = this.tracks.get(track.id);
      // after corrections an id may have two boxes in a frame: the one that was detected is right
      if (known?.media_us === now && !known.predicted && track.predicted) return;
      this.tracks.set(track.id, track);
      this.addSpot(track.id, now, footOf(track.box_px), track.ground_m ?? null);
      this.grounded ||= Boolean(track.ground_m);
    } else if (what === "end") {
      this.tracks.delete(event.track.id);
    } else if (what === "merge") {
      this.moveTrail(event.merge.gone, event.merge.kept, -Infinity);
    } else if (what === "split") {
      this.splitTrails(event.splits);
    }
  }

  take_action({ action }, what) {
    const key = `${action.track} ${action.label}`;
    if (what === "end") this.actions.delete(key);
    else this.actions.set(key, action);
  }

  take_posture({ posture }, what) {
    const { track, label } = posture;
    if (what === "end") this.postures.delete(`${track} ${label}`);
    else this.postures.set(`${track} ${label}`, { track, label });
  }

  take_zone({ zone }, what) {
    if (what === "layout") {
      this.layout = zone;
      keepNames(this.zones, zone.zones);
      keepNames(this.zoneForecasts, zone.zones);
      keepNames(this.lines, zone.lines);
    } else if (what === "forecast") {
      if (!this.zoneForecasts.has(zone.name)) this.zoneForecasts.set(zone.name, new Map());
      this.zoneForecasts.get(zone.name).set(zone.horizon_us, zone);
    } else if (what === "crowded" || what === "clear") {
      const crowded = what === "crowded";
      this.zones.set(zone.name, { ...this.zones.get(zone.name), people: zone.people, crowded });
    } else if (zone.occupancy) {
      const known = { ...this.zones.get(zone.name), ...zone.occupancy };
      if (what === "update") known.crowded = zone.crowded;
      this.zones.set(zone.name, known);
    }
  }

  take_line({ line }) {
    this.lines.set(line.name, { in: line.in_total, out: line.out_total });
  }

  take_scene({ scene }) {
    this.classes = scene.classes;
    this.unknown = scene.unknown?.largest ?? null;
  }

  take_unknown({ unknown }, what) {
    this.unknown = what === "begin" ? unknown : null;
  }

  take_forecast({ forecast }, what, now) {
    if (what === "scored") this.scores.set(forecast.horizon_us, forecast);
    else this.forecasts.set(forecast.horizon_us, { forecast, media_us: now });
  }

  take_source({ stream }, what) {
    if (what === "online") this.stream = stream;
    if (what !== "eof" && what !== "epoch") return;
    this.tracks.clear();
    this.trails.clear();
    this.actions.clear();
    this.postures.clear();
    this.unknown = null;
  }

  addSpot(id, now, foot, ground) {
    const spots = this.trails.get(id) ?? [];
    this.trails.set(id, spots);
    const same = spots.find((spot) => spot.media_us === now);
    if (same) {
      same.ground ??= ground;
      return;
    }
    const last = spots.at(-1);
    if (last && ground === null && Math.abs(now - last.media_us) < STEP_US) return;
    spots.push({ media_us: now, foot, ground });
    if (last && last.media_us > now) spots.sort((a, b) => a.media_us - b.media_us);
    if (spots[0].media_us < now - 2 * SPAN_US) spots.shift();
  }

  moveTrail(from, to, since) {
    const spots = this.trails.get(from) ?? [];
    const kept = this.trails.get(to) ?? [];
    const moved = spots.filter((spot) => spot.media_us >= since);
    const rest = spots.filter((spot) => spot.media_us < since);
    if (rest.length) this.trails.set(from, rest);
    else this.trails.delete(from);
    const first = moved[0]?.media_us ?? Infinity;
    const joined = [...kept.filter((spot) => spot.media_us < first), ...moved];
    if (joined.length) this.trails.set(to, joined.toSorted((a, b) => a.media_us - b.media_us));
  }

  // All splits of an event hold at once: two of them exchange two tracks.
  splitTrails(splits) {
    const apart = splits.map((split) => ({ ...split, aside: `${split.id} moved` }));
    for (const { id, aside, since_us: since } of apart) this.moveTrail(id, aside, since);
    for (const { aside, other } of apart) this.moveTrail(aside, other, -Infinity);
  }

  // The state for the overlay of a frame. `boxes` are the tracks of this frame, with what events
  // say of them where it is of this frame, or new enough.
  at(now, boxes) {
    const tracks = boxes.map((box) => this.detailed(box, now));
    for (const { id, box_px: box } of tracks) this.addSpot(id, now, footOf(box), null);
    const trails = new Map();
    for (const [id, spots] of this.trails) {
      const kept = spots.filter(({ media_us: at }) => at <= now && now - at <= SPAN_US);
      const track = tracks.find((one) => one.id === id);
      if (track) kept.push({ media_us: now, foot: footOf(track.box_px), ground: track.ground_m });
      if (kept.length) trails.set(id, kept);
      else if (spots.at(-1).media_us < now - SPAN_US) this.trails.delete(id);
    }
    return {
      media_us: now,
      span_us: SPAN_US,
      tracks,
      trails,
      layout: this.layout,
      zones: this.zones,
      lines: this.lines,
      actions: [...this.actions.values(), ...this.postures.values()],
      unknown: this.unknown,
    };
  }

  detailed(box, now) {
    const known = this.tracks.get(box.id);
    if (box.media_us !== undefined || !known) return box;
    const age = now - known.media_us;
    if (age === 0) return { ...known, box_px: box.box_px };
    if (Math.abs(age) > FRESH_US) return box;
    const { ground_m, vel_m_s, speed_m_s } = known;
    return { ground_m, vel_m_s, speed_m_s, ...box };
  }
}

function keepNames(known, shapes) {
  const names = new Set(shapes.map((shape) => shape.name));
  for (const name of known.keys()) if (!names.has(name)) known.delete(name);
}
