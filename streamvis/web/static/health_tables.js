// The columns of the tables of the health page, and how its numbers are written.

import { element } from "/static/dom.js";
import { durationOf } from "/static/state.js";

export function size(bytes) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (bytes < 1000) return `${Number(bytes.toPrecision(3))} ${unit}`;
    bytes /= 1000;
  }
  return `${Number(bytes.toPrecision(3))} TB`;
}

export function count(number) {
  return number.toLocaleString("en-US").replaceAll(",", "\u202f");
}

export function milliseconds(ms) {
  if (ms >= 1000) return `${Number((ms / 1000).toPrecision(3))} s`;
  return ms >= 10 ? `${Math.round(ms)} ms` : `${Number(ms.toPrecision(2))} ms`;
}

export function percent(share) {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

// Named counts in words, those of zero left out: "overload 12, poison 1".
export function named(counts) {
  return Object.entries(counts)
    .filter(([, number]) => number)
    .map(([name, number]) => `${name} ${count(number)}`)
    .join(", ");
}

const DASH = "–";
const short = (ms) => (ms >= 100 ? Math.round(ms) : Number(ms.toPrecision(2)));

function quantiles(times) {
  return times?.most ? `${short(times.p50)} / ${short(times.p95)} / ${short(times.p99)}` : DASH;
}

function clock(source) {
  if (source.clock_offset_ms === null) return source.clock || DASH;
  const drift = source.clock_drift_ppm === null ? "" : `, ${source.clock_drift_ppm} ppm`;
  return `${source.clock} ${source.clock_offset_ms} ms${drift}`;
}

function state(source) {
  const cell = document.createDocumentFragment();
  cell.append(element("span", source.state, `chip ${source.state}`));
  if (source.state_s) cell.append(element("span", ` ${durationOf(source.state_s)}`, "quiet"));
  const why = source.error || source.reason || source.ending;
  if (why) cell.append(element("p", why, "why"));
  return cell;
}

// A cell is text or a node; `poor` marks one that needs a look.
const look = (value, text = String(value)) => ({ text, poor: value > 0 });

// Columns: title, whether it is a number, the cell of a report. The first names the row.
export const SOURCE = [
  ["source", false, (s) => s.id],
  ["state", false, state],
  ["frames/s", true, (s) => s.fps.toFixed(1)],
  ["camera frames/s", true, (s) => {
    if (!s.measured_fps) return DASH;
    const declared = s.declared_fps ? ` of ${Number(s.declared_fps.toPrecision(3))}` : "";
    return `${s.measured_fps.toFixed(1)}${declared}`;
  }],
  ["age ms", true, (s) => quantiles(s.age_ms), "p50 / p95 / p99 from capture, of live sources"],
  ["latency ms", true, (s) => quantiles(s.latency_ms), "p50 / p95 / p99 from admission"],
  ["decoded", true, (s) => count(s.decoded)],
  ["admitted", true, (s) => count(s.admitted)],
  ["dropped", true, (s, { lost }) => ({ text: named(s.dropped) || "0", poor: lost(s.id).count > 0 })],
  ["skipped", true, (s, { lost }) => ({
    text: count(s.skipped), poor: s.skipped > 0 && lost(s.id).count > 0,
  })],
  ["suspect", true, (s) => look(s.suspect, count(s.suspect))],
  ["errors", true, (s) => look(s.decode_errors, count(s.decode_errors))],
  ["clock", true, clock, "clock of capture times; arrival - capture time; drift"],
  ["reconnects", true, (s) => count(s.reconnects)],
  ["restarts", true, (s) => count(s.restarts), "of its decode process, for a reconnect included"],
  ["recorded", true, (s) => (s.recorded_bytes ? size(s.recorded_bytes) : DASH)],
];

export const STAGE = [
  ["stage", false, (g) => g.name],
  ["device", false, (g) => g.device || DASH],
  ["workers", true, (g, { live }) => (live
    ? { text: `${g.ready} of ${g.workers}`, poor: g.ready < g.workers } : g.workers), "ready, of all"],
  ["frames/s", true, (g) => g.fps.toFixed(1)],
  ["queue", true, (g) => count(g.queue)],
  ["service ms", true, (g) => quantiles(g.service_ms), "p50 / p95 / p99 for one frame"],
  ["batch", true, (g) => (g.calls ? `${(g.count / g.calls).toFixed(1)}, at most ${g.largest_batch}` : DASH)],
  ["frames", true, (g) => count(g.count)],
  ["skipped", true, (g) => count(g.skipped), "frames that it did not run for, by every_s"],
  ["restarts", true, (g) => look(g.restarts)],
  ["last restart", false, (g) => (g.last_exit ? element("p", g.last_exit, "why") : DASH)],
];

export const PROCESS = [
  ["process", false, (p) => p.name.replaceAll("+", "+\u200b")], // where a line may be broken
  ["pid", true, (p) => p.pid],
  ["memory", true, (p) => size(p.resident_bytes)],
  ["CPU", true, (p, { cores }) => {
    const used = cores(p.name, p.pid);
    return used === null ? DASH : percent(used);
  }, "100 % is one core"],
  ["CPU time", true, (p) => durationOf(p.cpu_s)],
  ["descriptors", true, (p) => p.open_fds],
  ["threads", true, (p) => p.threads],
];

// Have `parent` contain these nodes. Those that are there already are kept, with what is selected in
// them and with their place on the screen.
export function renew(parent, nodes) {
  const there = [...parent.children];
  nodes.forEach((node, place) => {
    if (!there[place]) parent.append(node);
    else if (!there[place].isEqualNode(node)) there[place].replaceWith(node);
  });
  for (const old of there.slice(nodes.length)) old.remove();
}

export function fill(table, columns, reports, context) {
  if (!table.tHead) {
    const row = table.createTHead().insertRow();
    for (const [title, isNumber, , meaning] of columns) {
      const head = element("th", title, isNumber ? "number" : "");
      head.scope = "col";
      if (meaning) head.title = meaning;
      row.append(head);
    }
    table.createTBody();
  }
  const body = table.tBodies[0];
  while (body.rows.length > reports.length) body.lastChild.remove();
  reports.forEach((report, number) => {
    const cells = columns.map(([, isNumber, cellOf], place) => {
      const cell = element(place ? "td" : "th", undefined, isNumber ? "number" : "");
      const found = cellOf(report, context);
      if (found?.poor) cell.classList.add("poor");
      cell.append(found?.text ?? found);
      if (!place) cell.scope = "row";
      return cell;
    });
    renew(body.rows[number] ?? body.insertRow(), cells);
  });
}
