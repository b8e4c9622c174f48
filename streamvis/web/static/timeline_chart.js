// People over time: how many tracks, and how many in each zone, drawn by uPlot.

import { clockOf, labelsOf, levelsOf, ticksOf } from "/static/timeline_view.js";
import { nameOf } from "/static/timeline_canvas.js";

const MOST_ZONES = 4;
const HEIGHT = 150;

export class PeopleChart {
  constructor(box, lanes) {
    this.box = box;
    this.lanes = lanes; // the canvas above: its colours, and where it begins
    this.plot = null;
    this.key = "";
  }

  draw(view, answer) {
    const shown = answer.lanes
      .filter((lane) => lane.family === "track" || lane.family === "zone")
      .slice(0, MOST_ZONES + 1);
    const key = JSON.stringify([shown.map(nameOf), this.lanes.colours.track, this.lanes.isNarrow]);
    this.view = view;
    this.wall = answer.wall_us;
    this.box.hidden = shown.length === 0;
    if (this.box.hidden) return;
    if (key !== this.key) this.build(shown, key);
    if (this.answer !== answer) {
      this.answer = answer;
      this.data = dataOf(shown, answer);
      this.plot.setData(this.data, false);
    }
    if (this.plot.width !== this.lanes.width) {
      this.plot.setSize({ width: this.lanes.width, height: HEIGHT });
    }
    this.plot.batch(() => {
      this.plot.setScale("x", { min: view.from, max: view.to });
      this.plot.setScale("y", { min: 0, max: this.mostIn(view) });
    });
  }

  mostIn(view) {
    let most = 1;
    const [times, ...rows] = this.data;
    for (const row of rows) {
      times.forEach((at, k) => {
        const isIn = at <= view.to && (times[k + 1] ?? at) >= view.from;
        if (isIn && row[k] > most) most = row[k];
      });
    }
    return most * 1.08;
  }

  build(shown, key) {
    this.plot?.destroy();
    this.key = key;
    this.answer = null;
    const { colours, isNarrow } = this.lanes;
    const gutter = isNarrow ? 34 : this.lanes.gutter;
    const axis = { stroke: () => colours.quiet, font: "12px system-ui, sans-serif" };
    const lines = { stroke: () => colours["line-colour"], width: 1 };
    const steps = uPlot.paths.stepped({ align: 1 });
    this.plot = new uPlot({
      width: this.lanes.width,
      height: HEIGHT,
      padding: [8, 0, 0, 0],
      legend: { live: true },
      cursor: { drag: { setScale: false, x: false, y: false }, y: false },
      scales: { x: { time: false }, y: { auto: false } },
      axes: [
        {
          ...axis,
          size: 26,
          grid: lines,
          ticks: { show: false },
          splits: () => this.ticks().ticks,
          values: () => this.labels(),
        },
        {
          ...axis,
          size: gutter,
          gap: 6,
          grid: lines,
          ticks: { show: false },
          incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000],
        },
      ],
      series: [
        { label: "time", value: (_, at) => (at === null ? "–" : clockOf(at, this.wall)) },
        ...shown.map((lane) => ({
          label: nameOf(lane),
          stroke: () => this.lanes.colourOf(lane),
          fill: lane.family === "track" ? () => tinted(colours.track) : undefined,
          width: 1.5,
          paths: steps,
          points: { show: false },
          value: (_, number) => number ?? "–",
        })),
      ],
    }, [[0], ...shown.map(() => [0])], this.box);
  }

  // The day is said by the lanes; a label that would be cut off is left out.
  labels() {
    const { ticks, step } = this.ticks();
    const last = this.view.to - 0.05 * this.view.length;
    const labels = step >= 86400e6 ? labelsOf({ ticks, step }, this.wall) : ticks.map((at) => clockOf(at, this.wall, step));
    return labels.map((label, k) => (ticks[k] > last ? "" : label));
  }

  ticks() {
    return ticksOf(this.view, (this.lanes.width - this.lanes.gutter) / 110, this.wall);
  }
}

function tinted(colour) {
  return colour.replace(/^rgb\((.*)\)$/, "rgba($1, 0.16)");
}

// One column of times for all lanes; a lane keeps its number until its next time.
function dataOf(lanes, answer) {
  const found = lanes.map((lane) => levelsOf(lane, answer));
  const times = [...new Set(found.flatMap(([own]) => own))]
    .filter((at) => at <= (answer.until_us ?? answer.newest_us))
    .sort((a, b) => a - b);
  const rows = found.map(([own, numbers]) => {
    let k = -1;
    return times.map((at) => {
      while (k + 1 < own.length && own[k + 1] <= at) k += 1;
      return k < 0 ? null : numbers[k];
    });
  });
  return [times, ...rows];
}
