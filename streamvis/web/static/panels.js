// What stands beside the picture of a source: forecasts and events, as tables and lists.

import { paletteOf } from "/static/class_colours.js";
import { element, refill } from "/static/dom.js";
import { aboutOf, keyOf, sourceAddress, timeOf } from "/static/state.js";

const CLASSES = 7; // those with the largest shares
const EVENTS = 60;

const percent = (share) => (share === undefined || share === null ? "–" : (share * 100).toFixed(1));
const ahead = (horizon) => `+${Number((horizon / 1e6).toFixed(2))} s`;
const ascending = (a, b) => a - b;

// Whether the scene has forecasts to show.
export function hasForecasts(scene) {
  return scene.forecasts.size > 0 || scene.zoneForecasts.size > 0;
}

export function forecastTables(scene) {
  return [sharesTable(scene), zonesTable(scene)].filter(Boolean);
}

function table(caption, heads, rows) {
  const found = element("table");
  const head = element("tr");
  heads.forEach((text, at) => {
    const cell = element("th", text, at ? "number" : "");
    cell.scope = "col";
    head.append(cell);
  });
  const body = rows.map(([name, ...cells]) => {
    const row = element("tr");
    const first = element("th", name);
    first.scope = "row";
    row.append(first, ...cells.map((text) => element("td", text, "number")));
    return row;
  });
  const [top, bottom] = [element("thead"), element("tbody")];
  top.append(head);
  bottom.append(...body);
  found.append(element("caption", caption), top, bottom);
  return found;
}

function sharesTable({ classes, forecasts, scores }) {
  if (!forecasts.size) return null;
  const horizons = [...forecasts.keys()].sort(ascending);
  const columns = horizons.map((horizon) => forecasts.get(horizon).forecast.classes);
  const now = classes ?? {};
  const largest = (name) => Math.max(now[name] ?? 0, ...columns.map((one) => one[name] ?? 0));
  const names = [...new Set([now, ...columns].flatMap(Object.keys))]
    .sort((a, b) => largest(b) - largest(a))
    .slice(0, CLASSES);
  const rows = names.map((name) => [name, ...[now, ...columns].map((one) => percent(one[name]))]);
  const known = horizons.map((horizon) => scores.get(horizon)?.miou);
  rows.push(["mIoU of the last", "", ...known.map((miou) => miou?.toFixed(2) ?? "–")]);
  return table("shares of the picture, %", ["class", "now", ...horizons.map(ahead)], rows);
}

function zonesTable({ zones, zoneForecasts, forecasts }) {
  const found = new Map([...zoneForecasts].map(([name, byHorizon]) => [
    name,
    new Map([...byHorizon].map(([horizon, { p_occupied: p, mean }]) => [
      horizon, `${Math.round(p * 100)} %, ${mean.toFixed(1)}`,
    ])),
  ]));
  for (const [horizon, { forecast }] of forecasts) {
    for (const { zone, p } of forecast.zones ?? []) {
      if (!found.has(zone)) found.set(zone, new Map());
      if (!found.get(zone).has(horizon)) found.get(zone).set(horizon, `${Math.round(p * 100)} %`);
    }
  }
  if (!found.size) return null;
  const horizons = [...new Set([...found.values()].flatMap((one) => [...one.keys()]))];
  horizons.sort(ascending);
  const rows = [...found].map(([name, byHorizon]) => [
    name,
    String(zones.get(name)?.people ?? "–"),
    ...horizons.map((horizon) => byHorizon.get(horizon) ?? "–"),
  ]);
  const caption = "zones: people now; probability that it is occupied, mean number of people";
  return table(caption, ["zone", "now", ...horizons.map(ahead)], rows);
}

// The colours of a mask.
export function fillClasses(list, labels) {
  const classes = paletteOf(labels).map((colour, at) => ({ colour, name: labels[at] }));
  refill(list, classes, ({ name, colour }) => `${colour} ${name}`, ({ name, colour }) => {
    const item = element("li", name);
    const swatch = element("span", undefined, "swatch");
    swatch.style.backgroundColor = colour;
    item.prepend(swatch);
    return item;
  });
}

export function fillEvents(list, events, dated) {
  refill(list, events.slice(0, EVENTS), (event) => keyOf(event, dated), (event) => {
    const line = element("li");
    const link = element("a", event.type, "type");
    link.href = sourceAddress(event.source, event.time.media_us);
    line.append(
      element("time", timeOf(event, dated)),
      link,
      element("span", aboutOf(event), "about"),
    );
    return line;
  });
}
