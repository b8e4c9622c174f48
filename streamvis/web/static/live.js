// The live page: the sources of the run with their state, and its last events.
// Names of sources and all that events say is text, never markup.

import { ask } from "/static/api.js";
import { SourceCards } from "/static/cards.js";
import { byId, element, refill } from "/static/dom.js";
import { say, start } from "/static/shell.js";
import { RunState, aboutOf, durationOf, keyOf, sourceAddress, timeOf } from "/static/state.js";

const SHOWN = 100; // events
const EARLIER = 500; // events that are looked at, of those before the page was opened
const STORED = "streamvis.list"; // whether sources are shown as a list
const state = new RunState();
const cards = new SourceCards(byId("cards"));
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
  const sources = reports().map(factsOf);
  const asList = byId("list").checked;
  byId("table").hidden = !asList;
  byId("cards").hidden = asList;
  cards.draw(sources); // those that are hidden show no pictures
  byId("sources").replaceChildren(...(asList ? sources.map(rowOf) : []));
  byId("no-sources").hidden = sources.length > 0 || status === null;
}

function factsOf(report) {
  const known = state.sources.get(report.id);
  const age = report.age_ms?.p50 || report.latency_ms?.p50;
  const words = [report.state_s ? durationOf(report.state_s) : "", report.reason];
  const { last } = known ?? {};
  return {
    id: report.id,
    label: report.label ?? "",
    state: report.state,
    since: words.filter(Boolean).join(" "),
    people: report.state === "ended" ? null : known?.tracks.size ?? null,
    fps: report.fps ?? null,
    age: age ? Math.round(age) : null,
    dropped: report.dropped && Object.values(report.dropped).reduce((sum, one) => sum + one, 0),
    last: last ? `${timeOf(last, state.dated)} ${last.type} ${aboutOf(last)}` : "",
    next: status.log.find((one) => one.id === report.id)?.next,
  };
}

function rowOf(facts) {
  const row = element("tr");
  const name = element("th");
  const link = element("a", facts.id);
  link.href = sourceAddress(facts.id);
  name.scope = "row";
  name.title = facts.label;
  name.append(link);
  const cell = element("td");
  const chip = element("span", facts.state, `chip ${facts.state}`);
  cell.append(chip, element("span", ` ${facts.since}`, "quiet"));
  row.append(
    name,
    cell,
    element("td", facts.people ?? "–", "number"),
    element("td", facts.fps?.toFixed(1) ?? "–", "number"),
    element("td", facts.age ?? "–", "number"),
    element("td", facts.dropped ?? "–", "number"),
    element("td", facts.last || "–"),
  );
  return row;
}

function drawEvents() {
  const events = byId("updates").checked ? state.updates : state.events;
  const shown = events.slice(0, SHOWN);
  refill(byId("events"), shown, (event) => keyOf(event, state.dated), eventLine);
  byId("no-events").hidden = shown.length > 0;
}

function eventLine(event) {
  const line = element("li");
  const ofSource = event.source !== "_sys";
  const type = element(ofSource ? "a" : "span", event.type, "type");
  if (ofSource) type.href = sourceAddress(event.source, event.time.media_us);
  line.append(
    element("time", timeOf(event, state.dated)),
    element("span", event.source, "source"),
    type,
    element("span", aboutOf(event), "about"),
  );
  return line;
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
byId("list").checked = localStorage.getItem(STORED) === "true";
byId("list").addEventListener("change", () => {
  localStorage.setItem(STORED, byId("list").checked);
  draw();
});
document.addEventListener("keydown", (event) => {
  if (event.key.startsWith("Arrow") && event.target === document.body) {
    event.preventDefault();
    cards.focus();
  }
});
start({
  look(found) {
    status = found;
    draw();
  },
  take,
});
