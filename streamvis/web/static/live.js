// The live page: the sources of the run with their state, and its last events.
// Names of sources and all that events say is text, never markup.

import { ask } from "/static/api.js";
import { byId, element } from "/static/dom.js";
import { say, start } from "/static/shell.js";
import { RunState, aboutOf, durationOf, timeOf } from "/static/state.js";

const SHOWN = 100; // events
const EARLIER = 500; // events that are looked at, of those before the page was opened
const state = new RunState();
let status = null; // of /api/status
let waiting = false; // to draw
let wantsEarlier = false; // events

function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    drawSources();
    drawEvents();
  });
}

function reports() {
  if (status?.status) return status.status.sources;
  const logged = status?.log ?? [];
  return logged.map(({ id, ending }) => ({ id, state: "ended", reason: ending, state_s: 0 }));
}

function drawSources() {
  const rows = reports().map((report) => {
    const known = state.sources.get(report.id);
    const row = element("tr");
    const name = element("th", report.id);
    name.scope = "row";
    if (report.label) name.title = report.label;
    const chip = element("span", report.state, `chip ${report.state}`);
    const since = report.state_s ? ` ${durationOf(report.state_s)}` : "";
    const cell = element("td");
    cell.append(chip, element("span", `${since}${report.reason ? ` ${report.reason}` : ""}`, "quiet"));
    const age = report.age_ms?.p50 || report.latency_ms?.p50;
    const dropped = Object.values(report.dropped ?? {}).reduce((sum, one) => sum + one, 0);
    const last = known?.last;
    row.append(
      name,
      cell,
      element("td", known ? known.tracks.size : "–", "number"),
      element("td", report.fps === undefined ? "–" : report.fps.toFixed(1), "number"),
      element("td", age ? Math.round(age) : "–", "number"),
      element("td", report.dropped ? dropped : "–", "number"),
      element("td", last ? `${timeOf(last, state.dated)} ${last.type} ${aboutOf(last)}` : "–"),
    );
    return row;
  });
  byId("sources").replaceChildren(...rows);
  byId("no-sources").hidden = rows.length > 0 || status === null;
}

function drawEvents() {
  const events = byId("updates").checked ? state.updates : state.events;
  const lines = events.slice(0, SHOWN).map((event) => {
    const line = element("li");
    line.append(
      element("time", timeOf(event, state.dated)),
      element("span", event.source, "source"),
      element("span", event.type, "type"),
      element("span", aboutOf(event), "about"),
    );
    return line;
  });
  byId("events").replaceChildren(...lines);
  byId("no-events").hidden = lines.length > 0;
}

function take(message) {
  state.take(message);
  if (message.kind === "begin") {
    wantsEarlier = message.why !== "resumed";
  } else if (message.kind === "idle" && wantsEarlier && message.cursor) {
    wantsEarlier = false;
    addEarlier(Number(message.cursor.split(":")[1]));
  }
  draw();
}

// Ask for the events up to the number of the last one that the snapshots include.
async function addEarlier(last) {
  const events = [];
  let number = Math.max(last + 1 - EARLIER, 0);
  try {
    while (number !== null && number <= last) {
      const path = `/api/events?limit=${Math.min(last + 1 - number, EARLIER)}&cursor=${number}`;
      const page = await ask("GET", path);
      events.push(...page.events);
      number = page.next === null ? null : Number(page.next);
    }
    state.addEarlier(events);
    draw();
  } catch (error) {
    say(`no answer: ${error.message}`);
  }
}

byId("updates").addEventListener("change", draw);
start({
  look(found) {
    status = found;
    draw();
  },
  take,
});
