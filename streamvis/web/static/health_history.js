// What the health page knows of the last minutes: samples of the status. No document, no network.

const SPAN_S = 600;
const WINDOW_S = 20; // over which quantiles and CPU are taken
const LOST_S = 60; // over which lost pictures are counted
// Bounds in seconds of the histograms of a status; its last count is that of all
const BOUNDS_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

const sum = (numbers) => numbers.reduce((total, one) => total + one, 0);

// A quantile in ms of what came between two histograms; null where nothing came. Within a bucket
// durations are taken as evenly spread.
export function quantileBetween(before, after, share) {
  const counts = after.counts.map((count, bucket) => count - (before?.counts[bucket] ?? 0));
  const all = counts.at(-1);
  if (!(all > 0)) return null;
  const wanted = share * all;
  const bucket = counts.findIndex((count) => count >= wanted);
  if (bucket >= BOUNDS_S.length) return BOUNDS_S.at(-1) * 1e3; // at least
  const below = bucket > 0 ? counts[bucket - 1] : 0;
  const from = bucket > 0 ? BOUNDS_S[bucket - 1] : 0;
  const inside = counts[bucket] - below;
  return (from + ((BOUNDS_S[bucket] - from) * (wanted - below)) / inside) * 1e3;
}

export class RunHistory {
  constructor() {
    this.samples = []; // the oldest first
  }

  // Keep the numbers of a status of /api/status and of /api/resources, at a time in seconds.
  add(at, status, resources) {
    const before = this.samples.at(-1);
    if (before && status.wall_s < before.wall_s) this.samples = []; // another run
    const cpu = new Map(resources.processes.map((one) => [`${one.name} ${one.pid}`, one.cpu_s]));
    this.samples.push({
      at,
      wall_s: status.wall_s,
      fps: sum(status.sources.map((source) => source.fps)),
      times: { ...status.latency, ...status.age }, // age, where the source is live
      lost: new Map(status.sources.map((one) => [one.id, lostOf(one)])),
      cpu,
      memory: resources.processes.length
        ? sum(resources.processes.map((one) => one.resident_bytes))
        : null,
    });
    this.samples = this.samples.filter((sample) => sample.at > at - SPAN_S);
    const now = this.samples.at(-1);
    const old = this.since(WINDOW_S);
    now.age = worstAge(old, now);
    now.cores = old === now ? null : coresBetween(old, now);
  }

  // The minutes that a chart shows: those of all samples.
  get minutes() {
    const first = this.samples[0];
    return first ? Math.max(Math.ceil((this.samples.at(-1).at - first.at) / 60), 1) : 1;
  }

  // The oldest sample of the last seconds.
  since(seconds) {
    const end = this.samples.at(-1)?.at;
    return this.samples.find((sample) => sample.at >= end - seconds);
  }

  // Points of a chart: [time, value or null].
  points(name) {
    return this.samples.map((sample) => [sample.at, sample[name]]);
  }

  // Pictures of a source that were dropped or skipped in the last minute, and in how many seconds.
  lost(id) {
    const old = this.since(LOST_S);
    const now = this.samples.at(-1);
    const count = (now?.lost.get(id) ?? 0) - (old?.lost.get(id) ?? now?.lost.get(id) ?? 0);
    return { count: Math.max(count, 0), seconds: now ? now.at - old.at : 0 };
  }

  // Cores that a process has used in the last seconds; null where that is not known.
  cores(name, pid) {
    const key = `${name} ${pid}`;
    const old = this.samples.find(
      (sample) => sample.cpu.has(key) && sample.at >= this.samples.at(-1).at - WINDOW_S,
    );
    const now = this.samples.at(-1);
    return old && old !== now ? (now.cpu.get(key) - old.cpu.get(key)) / (now.at - old.at) : null;
  }
}

function lostOf(source) {
  const { drained, ...dropped } = source.dropped; // drained: as asked for
  return sum(Object.values(dropped)) + source.skipped;
}

function worstAge(old, now) {
  const ages = Object.entries(now.times)
    .map(([id, times]) => quantileBetween(old === now ? null : old.times[id], times, 0.95))
    .filter((age) => age !== null);
  return ages.length ? Math.max(...ages) : null;
}

function coresBetween(old, now) {
  let used = 0;
  for (const [key, seconds] of now.cpu) used += seconds - (old.cpu.get(key) ?? seconds);
  return now.cpu.size ? used / (now.at - old.at) : null;
}
