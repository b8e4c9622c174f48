// A stretch of time on a screen: zoom, pan, ticks, and spans in rows. No document, no network.
// All times are media times in µs.

const S = 1e6;
const MIN = 60 * S;
const HOUR = 60 * MIN;
const DAY = 24 * HOUR;
export const LEAST_US = 0.1 * S; // the shortest stretch: a few frames
const STEPS = [
  ...[1e3, 1e4, 1e5].flatMap((n) => [n, 2 * n, 5 * n]),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * S),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * MIN),
  ...[1, 2, 3, 6, 12].map((n) => n * HOUR),
  ...[1, 2, 7, 14, 28].map((n) => n * DAY),
];

export class View {
  constructor(from, to) {
    this.oldest = from;
    this.newest = to;
    this.set(from, to);
  }

  get length() {
    return this.to - this.from;
  }

  // The time that the log has.
  bound(oldest, newest) {
    this.oldest = oldest;
    this.newest = newest;
  }

  // Show a stretch; it stays between the ends of the log, with some room around them.
  set(from, to) {
    const all = Math.max(this.newest - this.oldest, LEAST_US);
    const room = 0.02 * all;
    const length = Math.min(Math.max(to - from, LEAST_US), all + 2 * room);
    let start = (from + to - length) / 2;
    const least = Math.min(this.oldest - room, this.oldest - length / 2);
    const most = Math.max(this.newest + room, this.newest + length / 2);
    start = Math.min(Math.max(start, least), most - length);
    this.from = start;
    this.to = start + length;
  }

  // By a factor below 1 zoom in; the time `at` stays where it is.
  zoom(factor, at) {
    const length = Math.max(this.length * factor, LEAST_US);
    const share = (at - this.from) / this.length;
    this.set(at - share * length, at + (1 - share) * length);
  }

  pan(us) {
    this.set(this.from + us, this.to + us);
  }

  all() {
    const room = 0.02 * Math.max(this.newest - this.oldest, LEAST_US);
    this.set(this.oldest - room, this.newest + room);
  }
}

// Times of ticks, at most about `most`, and the step between them. `wall` is the wall clock at
// media time 0, or null; steps of hours and days begin with those of the day.
export function ticksOf(view, most, wall) {
  const step = STEPS.find((one) => view.length / one <= most) ?? view.length;
  const shift = wall === null ? 0 : wall + zoneOf(wall + view.from);
  const first = Math.ceil((view.from + shift) / step) * step - shift;
  const found = [];
  for (let at = first; at <= view.to; at += step) found.push(at);
  return { step, ticks: found };
}

function zoneOf(us) {
  return -new Date(us / 1000).getTimezoneOffset() * MIN;
}

const two = (number) => String(number).padStart(2, "0");

function fraction(us, step) {
  if (step >= S) return "";
  const digits = step >= 1e5 ? 1 : step >= 1e4 ? 2 : 3;
  const within = Math.round(((us % S) + S) % S);
  return `.${String(Math.floor(within / 10 ** (6 - digits))).padStart(digits, "0")}`;
}

// A time as text: of the day where the wall clock is known, else in the video. As precise as
// `step` asks for.
export function clockOf(us, wall, step = S) {
  if (wall !== null) {
    const date = new Date(Math.floor((wall + us) / S) * 1000);
    const parts = [date.getHours(), date.getMinutes()];
    if (step < MIN) parts.push(date.getSeconds());
    return parts.map(two).join(":") + fraction(Math.round(wall + us), step);
  }
  const sign = us < 0 ? "−" : "";
  const seconds = Math.floor(Math.abs(us) / S);
  const parts = [Math.floor(seconds / 3600), two(Math.floor(seconds / 60) % 60)];
  parts.push(two(seconds % 60));
  return sign + parts.join(":") + fraction(Math.round(Math.abs(us)), step);
}

export function dayOf(us, wall) {
  if (wall === null) return "";
  const date = new Date((wall + us) / 1000);
  return date.toLocaleDateString([], { day: "numeric", month: "short" });
}

// Labels of ticks: with the day where it begins.
export function labelsOf({ ticks, step }, wall) {
  let before = null;
  return ticks.map((at) => {
    const day = dayOf(at, wall);
    const isNew = day !== before;
    before = day;
    if (step >= DAY) return day || clockOf(at, wall, step);
    return isNew && day ? `${day} ${clockOf(at, wall, step)}` : clockOf(at, wall, step);
  });
}

export function lengthOf(us) {
  const seconds = us / S;
  if (seconds < 1) return `${Math.round(us / 1000)} ms`;
  if (seconds < 90) return `${Number(seconds.toFixed(seconds < 10 ? 2 : 0))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

// Give each span a row in which it overlaps no other; returns the number of rows.
export function pack(spans, oldest) {
  const ends = [];
  const ordered = spans.toSorted((a, b) => (a.from_us ?? oldest) - (b.from_us ?? oldest));
  for (const span of ordered) {
    const from = span.from_us ?? oldest;
    let row = ends.findIndex((end) => end <= from);
    if (row < 0) row = ends.push(0) - 1;
    ends[row] = span.to_us ?? Infinity;
    span.row = row;
  }
  return Math.max(ends.length, 1);
}

// How many spans there are over time, as steps: [times, numbers].
export function levelsOf(lane, answer) {
  if (lane.bins) {
    const times = lane.bins.most.map((_, k) => answer.first_us + k * answer.bin_us);
    return [times, lane.bins.most];
  }
  const edges = lane.spans.flatMap((span) => [
    [span.from_us ?? answer.oldest_us, 1],
    ...(span.to_us === null ? [] : [[span.to_us, -1]]),
  ]);
  edges.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
  const times = [answer.first_us];
  const numbers = [0];
  let level = 0;
  for (const [at, by] of edges) {
    level += by;
    if (at <= times.at(-1)) {
      numbers[numbers.length - 1] = level;
    } else {
      times.push(at);
      numbers.push(level);
    }
  }
  const end = Math.min(answer.to_us, answer.newest_us);
  if (end > times.at(-1)) {
    times.push(end);
    numbers.push(level);
  }
  return [times, numbers];
}
