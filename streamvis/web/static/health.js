// The health page: what is wrong with the run, and the numbers of its sources, stages and processes.

import { ApiError, ask } from "/static/api.js";
import { byId, element } from "/static/dom.js";
import { RunHistory } from "/static/health_history.js";
import { PROCESS, SOURCE, STAGE, count, fill, milliseconds, named, percent, renew, size }
  from "/static/health_tables.js";
import { say, start } from "/static/shell.js";
import { drawLine } from "/static/spark.js";
import { durationOf } from "/static/state.js";

const history = new RunHistory();
const CHARTS = {
  fps: { name: "frames per second of all sources", words: (value) => Number(value.toPrecision(3)) },
  age: { name: "95th percentile of the age of the worst source", words: milliseconds },
  cores: { name: "CPU, 100 % is one core", words: percent, id: "cpu" },
  memory: { name: "memory of all processes", words: size },
};
const context = {
  live: false,
  lost: (id) => history.lost(id),
  cores: (name, pid) => history.cores(name, pid),
};
const MOST_FAULTS = 50; // that are listed
const metrics = "docs/operations.md, Metrics";
let summary = null; // of a run that is over
let latest = null; // [status, resources] that are shown

function drawFaults(status, resources) {
  const faults = [...resources.faults];
  for (const { id } of status.status?.sources ?? []) {
    const { count: lost, seconds } = history.lost(id);
    if (lost) {
      faults.push({
        weight: "warning",
        text: `${id}: ${count(lost)} pictures dropped or skipped in the last ${durationOf(seconds)}`,
        to_do: "the stage whose queue is full is too slow for this source now",
        see: metrics,
      });
    }
  }
  if (status.problem) {
    faults.unshift({
      weight: "error", text: `the run does not answer: ${status.problem}`,
      to_do: "see in its log what it does; restart it if it hangs", see: "docs/operations.md, Health",
    });
  }
  const items = faults.slice(0, MOST_FAULTS).map((fault) => {
    const item = element("li", undefined, fault.weight);
    const what = element("p");
    what.append(element("strong", fault.weight), ` ${fault.text}`);
    item.append(what, element("p", `${fault.to_do} (${fault.see})`, "quiet"));
    return item;
  });
  if (faults.length > MOST_FAULTS) {
    items.push(element("li", `${count(faults.length - MOST_FAULTS)} more: see the tables below`));
  }
  renew(byId("faults"), items);
  byId("no-faults").hidden = items.length > 0;
  const ended = summary ? "The run is over; nothing failed in it." : "The run is over.";
  byId("no-faults").textContent = status.live ? "Nothing: all sources and stages work." : ended;
}

function drawCharts() {
  const end = history.samples.at(-1)?.at ?? 0;
  const { minutes } = history;
  const place = { end, span: 60 * minutes, since: `${minutes} min ago` };
  for (const [what, { name, words, id = what }] of Object.entries(CHARTS)) {
    const points = history.points(what);
    drawLine(byId(id), points, { ...place, name, words });
    const now = points.at(-1)?.[1] ?? null;
    byId(`${id}-now`).textContent = now === null ? "–" : words(now);
  }
}

function list(place, pairs) {
  const parts = pairs.filter(([, text]) => text !== "").map(([name, text, className]) => {
    const pair = element("div");
    pair.append(element("dt", name), element("dd", text, className));
    return pair;
  });
  renew(byId(place), parts);
}

function drawMachine(status, resources) {
  const { disk, viewers } = resources;
  const run = status.status;
  const isFull = resources.faults.some((fault) => fault.about === "disk");
  list("machine", [
    ["disk of the output", disk
      ? `${size(disk.free_bytes)} of ${size(disk.size_bytes)} free (${percent(disk.free_bytes / disk.size_bytes)})`
      : "unknown", isFull ? "poor" : ""],
    ["event log", size(resources.log_bytes)],
    ["recorded by this run", run ? size(resources.recorded_bytes) : ""],
    ["connections refused by the feed", run ? named(run.refused_clients) || "none" : ""],
    ["messages of other programs", run ? count(run.refused_messages) : ""],
    ["viewers of this server", named(viewers) || "none"],
    ["run time", run ? durationOf(run.wall_s) : ""],
  ]);
}

function drawEnding() {
  if (summary === null) return;
  const found = summary.interrupted ? `ended by ${summary.interrupted}` : "its sources have ended";
  list("ending", [
    ["end", summary.error || found, summary.error ? "poor" : ""],
    ["run time", durationOf(summary.wall_s)],
    ["pictures analysed", count(summary.sources.reduce((sum, s) => sum + s.admitted, 0))],
    ["run", summary.epoch],
    ["pipeline", summary.pipeline],
  ]);
}

function draw() {
  if (latest === null) return;
  const [status, resources] = latest;
  const shown = status.status ?? summary;
  context.live = status.live;
  drawFaults(status, resources);
  byId("over").hidden = status.live || summary === null;
  byId("history").hidden = byId("usage").hidden = !status.live;
  drawEnding();
  if (status.live) drawCharts();
  fill(byId("sources"), SOURCE, shown?.sources ?? [], context);
  fill(byId("stages"), STAGE, shown?.stages ?? [], context);
  fill(byId("processes"), PROCESS, resources.processes, context);
  byId("no-processes").hidden = resources.processes.length > 0;
  drawMachine(status, resources);
}

async function look(status) {
  try {
    const resources = await ask("GET", "/api/resources");
    if (status.status) history.add(performance.now() / 1000, status.status, resources);
    if (status.live) summary = null;
    else summary ??= await summaryOf();
    latest = [status, resources];
    draw();
  } catch (error) {
    say(`no answer: ${error.message}`);
  }
}

// The summary of a run that is over; null for one that was killed before it could write it.
async function summaryOf() {
  try {
    return await ask("GET", "/api/summary");
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

start({ look });
new ResizeObserver(draw).observe(byId("history"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
