// Draws lanes on a canvas, and says what is at a point of it.

import { clockOf, dayOf, labelsOf, lengthOf, pack, ticksOf } from "/static/timeline_view.js";

const AXIS = 26;
const NARROW = 640;
const PAD = 5;
const HEIGHTS = { track: 104, zone: 56, source: 30 };
const HEIGHT = 40;
const RARE = new Set(["action", "posture", "unknown"]); // over hours, how many began says more
const SPANS = new Set(["track", "zone", "action", "posture", "unknown", "source"]);
const NAMES = {
  track: "tracks",
  unknown: "unknown objects",
  forecast: "forecasts",
  source: "source",
  other: "others",
};
const ZONES = ["zone", "zone-2", "zone-3", "zone-4"];
export const COLOURS = [
  ...["track", ...ZONES, "line", "action", "posture", "unknown", "forecast", "other"],
  ...["online", "connecting", "stalled", "offline"],
  ...["line-colour", "quiet", "text", "back", "raised", "link"],
];

export function nameOf(lane) {
  const family = NAMES[lane.family] ?? lane.family;
  return lane.name ? `${lane.family} ${lane.name}` : family;
}

export class LaneCanvas {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.colours = {};
    this.drawn = []; // spans and marks: { x0, x1, y0, y1, lane, span or mark }
    this.places = []; // lanes: { y0, y1, lane }
    this.readColours();
  }

  get width() {
    return this.canvas.clientWidth;
  }

  get isNarrow() {
    return this.width < NARROW;
  }

  get gutter() {
    return this.isNarrow ? 0 : 132;
  }

  // Colours are those of the style sheet, in the scheme that is on.
  readColours() {
    const probe = document.createElement("span");
    this.canvas.after(probe);
    for (const name of COLOURS) {
      probe.className = `colour-${name}`;
      this.colours[name] = getComputedStyle(probe).color;
    }
    probe.remove();
  }

  x(at, view) {
    return this.gutter + ((at - view.from) / view.length) * (this.width - this.gutter);
  }

  time(x, view) {
    return view.from + ((x - this.gutter) / (this.width - this.gutter)) * view.length;
  }

  heightOf(lane) {
    return (HEIGHTS[lane.family] ?? HEIGHT) + (this.isNarrow ? 16 : 0);
  }

  draw(view, answer, { hover, selected }) {
    const lanes = answer?.lanes ?? [];
    const height = Math.max(AXIS + lanes.reduce((sum, one) => sum + this.heightOf(one), 0), 120);
    this.resize(height);
    const { context, colours } = this;
    context.clearRect(0, 0, this.width, height);
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    this.drawn = [];
    this.places = [];
    const wall = answer?.wall_us ?? null;
    this.drawAxis(view, wall, height);
    if (answer) this.drawUnknown(view, answer, height);
    const notes = [];
    let y = AXIS;
    for (const lane of lanes) {
      notes.push(this.drawLane(lane, y, view, answer, selected));
      y += this.heightOf(lane);
    }
    this.places.forEach(({ lane, y0, y1 }, k) => this.drawName(nameOf(lane), notes[k], y0, y1 - y0));
    if (hover !== null && hover !== undefined) this.drawHover(hover, view, wall, height);
    context.fillStyle = colours["line-colour"];
    if (this.gutter) context.fillRect(this.gutter - 1, 0, 1, height);
  }

  resize(height) {
    const ratio = devicePixelRatio || 1;
    const [w, h] = [Math.round(this.width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) {
      this.canvas.style.height = `${height}px`;
      this.canvas.width = w;
      this.canvas.height = h;
    }
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  drawAxis(view, wall, height) {
    const { context, colours } = this;
    const found = ticksOf(view, (this.width - this.gutter) / 110, wall);
    const labels = labelsOf(found, wall);
    let free = this.gutter;
    found.ticks.forEach((at, k) => {
      const x = Math.round(this.x(at, view));
      context.fillStyle = colours["line-colour"];
      context.fillRect(x, AXIS - 6, 1, height);
      const wide = context.measureText(labels[k]).width;
      if (x + 4 < free || x + 4 + wide > this.width) return;
      context.fillStyle = colours.quiet;
      context.fillText(labels[k], x + 4, AXIS / 2);
      free = x + 12 + wide;
    });
    context.fillStyle = colours["line-colour"];
    context.fillRect(0, AXIS - 1, this.width, 1);
  }

  drawLane(lane, top, view, answer, selected) {
    const { context, colours } = this;
    const height = this.heightOf(lane);
    const label = this.isNarrow ? 16 : 0;
    const area = { top: top + label + PAD, bottom: top + height - PAD };
    this.places.push({ y0: top, y1: top + height, lane });
    context.save();
    context.beginPath();
    context.rect(this.gutter, top, this.width - this.gutter, height);
    context.clip();
    const note = lane.bins
      ? this.drawBins(lane, area, view, answer)
      : this.drawSpans(lane, area, view, answer, selected);
    context.restore();
    context.fillStyle = colours["line-colour"];
    context.fillRect(0, top + height - 1, this.width, 1);
    return note;
  }

  drawName(name, note, top, height) {
    const { context, colours } = this;
    context.fillStyle = colours.text;
    if (this.isNarrow) {
      context.fillText(this.fitted(name, this.width - 90), 4, top + 10);
      const wide = context.measureText(note).width;
      context.fillStyle = colours.quiet;
      context.fillText(note, this.width - wide - 4, top + 10);
      return;
    }
    const isTall = height >= HEIGHT;
    const y = isTall ? Math.min(16, height / 2 - 7) : height / 2;
    context.fillText(this.fitted(name, this.gutter - 12), 4, top + y);
    context.fillStyle = colours.quiet;
    if (isTall) context.fillText(note, 4, top + y + 15);
  }

  fitted(text, wide) {
    if (this.context.measureText(text).width <= wide) return text;
    let short = text;
    while (short && this.context.measureText(`${short}…`).width > wide) short = short.slice(0, -1);
    return `${short}…`;
  }

  colourOf(lane, span) {
    if (span && lane.family === "source") return this.colours[span.key] ?? this.colours.other;
    if (lane.family === "zone") return this.colours[ZONES[(lane.number ?? 0) % ZONES.length]];
    return this.colours[lane.family] ?? this.colours.other;
  }

  // Bars: how many there were at once, or how many events. Returns the largest number in view.
  drawBins(lane, area, view, answer) {
    const { context } = this;
    const { begins, most: level, events } = lane.bins;
    const isLevel = SPANS.has(lane.family) && level.some(Boolean);
    const counts = !isLevel ? events : RARE.has(lane.family) ? begins : level;
    const first = Math.max(Math.floor((view.from - answer.first_us) / answer.bin_us), 0);
    const last = Math.min(Math.ceil((view.to - answer.first_us) / answer.bin_us), counts.length);
    let most = 0;
    for (let k = first; k < last; k += 1) most = Math.max(most, counts[k]);
    const full = area.bottom - area.top;
    context.fillStyle = this.colourOf(lane);
    for (let k = first; k < last; k += 1) {
      if (!counts[k] && !(isLevel && level[k])) continue;
      const x0 = Math.round(this.x(answer.first_us + k * answer.bin_us, view));
      const x1 = Math.round(this.x(answer.first_us + (k + 1) * answer.bin_us, view));
      const high = Math.max((counts[k] / Math.max(most, 1)) * full, 1.5);
      context.fillRect(x0, area.bottom - high, Math.max(x1 - x0, 1), high);
    }
    if (!most) return "";
    return counts === level ? `max. ${most}` : `max. ${most} in ${lengthOf(answer.bin_us)}`;
  }

  drawSpans(lane, area, view, answer, selected) {
    const { context, colours } = this;
    if (!lane.rows) {
      lane.rows = pack(lane.spans, answer.oldest_us);
      if (lane.family === "source") lane.spans.sort((a, b) => worse(a) - worse(b));
    }
    const full = area.bottom - area.top;
    const pitch = Math.min(full / lane.rows, 16);
    const high = Math.max(pitch - (pitch > 4 ? 2 : 0.5), 1.5);
    const known = Math.max(answer.until_us ?? answer.newest_us, answer.oldest_us);
    let count = 0;
    for (const span of lane.spans) {
      const from = span.from_us ?? answer.oldest_us;
      const to = span.to_us ?? known;
      if (to < view.from || from > view.to) continue;
      count += 1;
      const [left, right] = [this.x(from, view), this.x(to, view)];
      const x0 = Math.max(left, this.gutter - 4);
      const x1 = Math.min(Math.max(right, left + 2), this.width + 4);
      const y0 = area.top + span.row * pitch;
      const box = { x0, x1, y0, y1: y0 + high, lane, span };
      this.drawn.push(box);
      context.fillStyle = this.colourOf(lane, span);
      context.beginPath();
      context.roundRect(x0, y0, x1 - x0, high, Math.min(3, high / 3));
      context.fill();
      if (selected && isOf(selected, span)) {
        context.strokeStyle = colours.text;
        context.lineWidth = 2;
        context.stroke();
      }
      const inside = Math.max(x0, this.gutter);
      if (high >= 11 && span.key && x1 - inside > 60) {
        context.fillStyle = colours.back;
        context.font = "11px system-ui, sans-serif";
        context.fillText(this.fitted(span.key, x1 - inside - 8), inside + 4, y0 + high / 2 + 0.5);
        context.font = "12px system-ui, sans-serif";
      }
    }
    count += this.drawMarks(lane, area, view, selected);
    return count && lane.family !== "source" ? `${count}` : "";
  }

  drawMarks(lane, area, view, selected) {
    const { context, colours } = this;
    const isMain = !SPANS.has(lane.family);
    let count = 0;
    for (const mark of lane.marks) {
      if (mark.at_us < view.from || mark.at_us > view.to) continue;
      count += 1;
      const x = this.x(mark.at_us, view);
      const y0 = isMain ? area.top : area.bottom - 7;
      this.drawn.push({ x0: x - 2, x1: x + 2, y0, y1: area.bottom, lane, mark });
      const isSelected = selected?.offset === mark.offset;
      context.fillStyle = isMain ? this.colourOf(lane) : colours.text;
      if (isMain) {
        context.fillRect(x - 1, y0, 2, area.bottom - y0);
      } else {
        context.beginPath();
        context.moveTo(x, y0);
        context.lineTo(x + 4, area.bottom);
        context.lineTo(x - 4, area.bottom);
        context.fill();
      }
      if (isSelected) {
        context.strokeStyle = colours.text;
        context.lineWidth = 1.5;
        context.strokeRect(x - 5, y0 - 1, 10, area.bottom - y0 + 2);
      }
    }
    return isMain ? count : 0;
  }

  // Shade what is before and after the log, and what of it is not read yet.
  drawUnknown(view, answer, height) {
    const { context, colours } = this;
    context.fillStyle = colours.raised;
    const oldest = this.x(answer.oldest_us, view);
    const newest = this.x(answer.until_us ?? answer.oldest_us, view);
    const left = this.gutter;
    if (oldest > left) context.fillRect(left, AXIS, oldest - left, height);
    const start = Math.max(newest, left);
    if (start < this.width) context.fillRect(start, AXIS, this.width - start, height);
  }

  drawHover(x, view, wall, height) {
    const { context, colours } = this;
    if (x < this.gutter) return;
    const at = this.time(x, view);
    const step = view.length / this.width;
    const text = `${dayOf(at, wall)} ${clockOf(at, wall, Math.min(step * 10, 1e6))}`.trim();
    context.fillStyle = colours.quiet;
    context.fillRect(Math.round(x), AXIS - 6, 1, height);
    const wide = context.measureText(text).width + 12;
    const left = Math.min(Math.max(x - wide / 2, this.gutter), this.width - wide);
    context.fillStyle = colours.text;
    context.beginPath();
    context.roundRect(left, 3, wide, AXIS - 8, 3);
    context.fill();
    context.fillStyle = colours.back;
    context.fillText(text, left + 6, AXIS / 2 - 0.5);
  }

  // What is at a point: a span or mark, or else the lane.
  at(x, y) {
    const near = this.drawn.filter(
      (one) => x >= one.x0 - 3 && x <= one.x1 + 3 && y >= one.y0 - 2 && y <= one.y1 + 2,
    );
    const place = this.places.find((one) => y >= one.y0 && y < one.y1);
    const away = (one) => Math.max(one.x0 - x, x - one.x1, 0) + Math.max(one.y0 - y, y - one.y1, 0);
    near.sort((a, b) => away(a) - away(b) || (b.mark ? 1 : 0) - (a.mark ? 1 : 0));
    return near[0] ?? (place ? { lane: place.lane } : null);
  }
}

// The worst state is drawn last, so that it is seen however short it is.
function worse(span) {
  return ["online", "connecting", "stalled", "offline"].indexOf(span.key);
}

function isOf(selected, span) {
  return selected.offset === span.first || (selected.offset === span.last && span.last >= 0);
}
