// Draws what is known of a frame onto a canvas. Pure functions of (context, state, view): no
// document, no network, no clock. `view` is { scale, unit, width, height }: canvas pixels per pixel
// of the source frame, canvas pixels per CSS pixel, and the size of the source frame.

// Okabe and Ito's colours, then Tol's: those of the annotated video.
export const PALETTE = [
  "#e69f00", "#56b4e9", "#f0e442", "#cc79a7", "#009e73", "#d55e00",
  "#99ddff", "#bbcc33", "#0072b2", "#ffaabb", "#44bb99", "#ee8866",
];
export const DARK = "#121418";
export const PALE = "#eceef0";
const UNKNOWN = "#00ffff";
const FONT = 'system-ui, "Segoe UI", Roboto, sans-serif';
const TEXT = 12; // CSS px
const AHEAD_S = 1; // that arrows of the plan reach
const MASK_OPACITY = 0.45;
const LONGEST = 40; // characters of a label

// The number of a track, which its id `source:stream_epoch:number` ends with.
export function shortId(id) {
  return id.slice(id.lastIndexOf(":") + 1);
}

export function colourOf(id) {
  const number = Number(shortId(id));
  return Number.isInteger(number) ? PALETTE[(number + PALETTE.length - 1) % PALETTE.length] : PALE;
}

// The text colour, dark or pale, that is legible on a colour.
export function textOn(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 110 ? DARK : PALE;
}

export function footOf([left, , right, bottom]) {
  return [(left + right) / 2, bottom];
}

// Draw all layers that `shown` names, the nearest person last.
export function drawOverlay(context, state, view, shown) {
  context.save();
  context.font = `600 ${TEXT * view.unit}px ${FONT}`;
  context.textBaseline = "alphabetic";
  context.lineJoin = "round";
  if (shown.masks && state.mask) drawMask(context, state.mask, view);
  if (shown.zones) drawZones(context, state, view);
  if (shown.trails) drawTrails(context, state, view);
  if (shown.unknown && state.unknown) drawUnknown(context, state.unknown, view);
  if (shown.boxes) drawBoxes(context, state, view);
  if (shown.ids) drawIds(context, state, view);
  if (shown.actions) drawActions(context, state, view);
  context.restore();
}

function drawMask(context, { bitmap }, { scale, width, height }) {
  context.globalAlpha = MASK_OPACITY;
  context.imageSmoothingEnabled = false;
  context.drawImage(bitmap, 0, 0, width * scale, height * scale);
  context.imageSmoothingEnabled = true;
  context.globalAlpha = 1;
}

function nearerLast(tracks) {
  return tracks.toSorted((a, b) => a.box_px[3] - b.box_px[3]);
}

export function drawBoxes(context, { tracks }, { scale, unit }) {
  context.lineWidth = 2 * unit;
  for (const track of nearerLast(tracks)) {
    const [left, top, right, bottom] = track.box_px.map((value) => value * scale);
    context.strokeStyle = colourOf(track.id);
    context.setLineDash(track.predicted ? [4 * unit, 4 * unit] : []);
    context.strokeRect(left, top, right - left, bottom - top);
  }
  context.setLineDash([]);
}

// The nearest person's id stays at the box; ids of others move up where they would cover it.
export function drawIds(context, { tracks }, view) {
  const taken = [];
  for (const track of nearerLast(tracks).reverse()) {
    const speed = Number.isFinite(track.speed_m_s) ? `  ${track.speed_m_s.toFixed(1)} m/s` : "";
    const [x, y] = [track.box_px[0] * view.scale, track.box_px[1] * view.scale];
    plate(context, shortId(track.id) + speed, x, y, colourOf(track.id), view, taken);
  }
}

export function drawTrails(context, { trails, media_us: now, span_us: span }, { scale, unit }) {
  context.lineWidth = 2 * unit;
  context.lineCap = "round";
  for (const [id, spots] of trails) {
    context.strokeStyle = colourOf(id);
    for (let at = 1; at < spots.length; at += 1) {
      const strength = 1 - (now - spots[at].media_us) / span;
      if (strength <= 0) continue;
      context.globalAlpha = Math.min(strength, 1) * 0.9;
      context.beginPath();
      context.moveTo(spots[at - 1].foot[0] * scale, spots[at - 1].foot[1] * scale);
      context.lineTo(spots[at].foot[0] * scale, spots[at].foot[1] * scale);
      context.stroke();
    }
  }
  context.globalAlpha = 1;
}

// Zones and lines on the ground plane are on the plan: the picture's plane is not in the events.
export function drawZones(context, { layout, zones, lines }, view) {
  const size = [view.width * view.scale, view.height * view.scale];
  const place = ([x, y]) => [x * size[0], y * size[1]];
  const taken = [];
  layout.zones.forEach((zone, at) => {
    if (zone.space === "ground") return;
    const corners = zone.polygon.map(place);
    fillZone(context, zone, corners, at, zones.get(zone.name), size, view.unit);
    const top = corners.reduce((best, corner) => (corner[1] < best[1] ? corner : best));
    const words = zoneWords(zone.name, zones.get(zone.name));
    plate(context, words, top[0], top[1], zoneColour(at), view, taken);
  });
  for (const line of layout.lines) {
    if (line.space === "ground") continue;
    const [start, end] = [place(line.start), place(line.end)];
    arrowLine(context, start, end, view.unit);
    const words = lineWords(line.name, lines.get(line.name));
    plate(context, words, start[0], start[1] - 4 * view.unit, PALE, view, taken);
  }
}

function zoneColour(at) {
  return PALETTE[at % PALETTE.length];
}

function fillZone(context, zone, corners, at, known, size, unit) {
  context.beginPath();
  corners.forEach(([x, y], number) => (number ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.closePath();
  context.strokeStyle = context.fillStyle = zoneColour(at);
  context.lineWidth = (known?.people ? 3 : 1.5) * unit;
  context.stroke();
  if (zone.outside) context.rect(0, 0, ...size);
  context.globalAlpha = known?.crowded ? 0.35 : 0.16;
  context.fill("evenodd");
  context.globalAlpha = 1;
}

// A line with an arrow to its right side, where who crosses it counts as in.
function arrowLine(context, start, end, unit) {
  const length = Math.hypot(end[0] - start[0], end[1] - start[1]) || 1;
  const along = [(end[0] - start[0]) / length, (end[1] - start[1]) / length];
  const into = [-along[1], along[0]];
  const middle = [(start[0] + end[0]) / 2, (start[1] + end[1]) / 2];
  const tip = [middle[0] + into[0] * 18 * unit, middle[1] + into[1] * 18 * unit];
  for (const [colour, width] of [[DARK, 4], [PALE, 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = width * unit;
    context.beginPath();
    context.moveTo(...start);
    context.lineTo(...end);
    context.moveTo(...middle);
    context.lineTo(...tip);
    for (const side of [-1, 1]) {
      const back = [0, 1].map((i) => tip[i] - (into[i] * 7 + along[i] * side * 5) * unit);
      context.moveTo(...tip);
      context.lineTo(...back);
    }
    context.stroke();
  }
}

export function zoneWords(name, known) {
  if (!known) return name;
  const crowded = known.crowded ? ", crowded" : "";
  return `${name}: ${known.people}${crowded}`;
}

export function lineWords(name, known) {
  return known ? `${name}: in ${known.in}, out ${known.out}` : name;
}

// Actions of people stand below their boxes, those of the whole frame at its upper left corner.
export function drawActions(context, { tracks, actions }, view) {
  const boxes = new Map(tracks.map((track) => [track.id, track.box_px]));
  const height = plateHeight(view.unit);
  const rows = new Map();
  for (const { track, label, p } of actions) {
    if (track !== null && !boxes.has(track)) continue;
    const row = rows.get(track) ?? 0;
    rows.set(track, row + 1);
    const box = track === null ? [0, 0, 0, 0] : boxes.get(track);
    const share = Number.isFinite(p) ? ` ${Math.round(p * 100)} %` : "";
    const y = box[3] * view.scale + (row + 1) * (height + view.unit);
    const colour = track === null ? PALE : colourOf(track);
    plate(context, label + share, box[0] * view.scale, y, colour, view, []);
  }
}

export function drawUnknown(context, unknown, view) {
  const [left, top, right, bottom] = unknown.box_px.map((value) => value * view.scale);
  context.strokeStyle = UNKNOWN;
  context.lineWidth = 2 * view.unit;
  context.setLineDash([2 * view.unit, 3 * view.unit]);
  context.strokeRect(left, top, right - left, bottom - top);
  context.setLineDash([]);
  plate(context, `unknown ${Math.round(unknown.p * 100)} %`, left, top, UNKNOWN, view, []);
}

function shortened(text) {
  return text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text;
}

function plateHeight(unit) {
  return (TEXT + 5) * unit;
}

// Write a text on a filled plate whose lower left corner is (x, y), moved inside the picture, and
// up where it would cover those in `taken`.
function plate(context, text, x, y, colour, view, taken) {
  const words = shortened(text);
  const width = context.measureText(words).width + 8 * view.unit;
  const height = plateHeight(view.unit);
  const left = Math.max(0, Math.min(x, view.width * view.scale - width));
  let bottom = Math.max(height, Math.min(y, view.height * view.scale));
  const covers = (other) => left < other[2] && left + width > other[0]
    && bottom - height < other[3] && bottom > other[1];
  for (let tries = 0, other; tries < 8 && (other = taken.find(covers)); tries += 1) {
    if (other[1] < height) break;
    bottom = other[1];
  }
  taken.push([left, bottom - height, left + width, bottom]);
  context.fillStyle = colour;
  context.fillRect(left, bottom - height, width, height);
  context.fillStyle = textOn(colour);
  context.fillText(words, left + 4 * view.unit, bottom - 4.5 * view.unit);
}

// The part of the ground plane that is shown: all positions, 10 m at least, with a margin.
export function planView(points, width, height) {
  const places = points.length ? points : [[0, 0]];
  const ranges = [0, 1].map((axis) => {
    const values = places.map((place) => place[axis]);
    return [Math.min(...values), Math.max(...values)];
  });
  const centre = ranges.map(([low, high]) => (low + high) / 2);
  const spans = ranges.map(([low, high]) => Math.max(high - low, 10) * 1.15);
  const scale = Math.min(width / spans[0], height / spans[1]);
  return {
    scale, // px per metre
    place: ([x, y]) => [
      width / 2 + (x - centre[0]) * scale,
      height / 2 - (y - centre[1]) * scale,
    ],
  };
}

// Draw people, their paths and the shapes on the ground plane as seen from above, y upwards.
// `colours` is { line, text } of the page; `size` the canvas in its pixels, `unit` px per CSS px.
export function drawPlan(context, state, view, { size: [width, height], unit, colours }) {
  context.clearRect(0, 0, width, height);
  context.font = `${TEXT * unit}px ${FONT}`;
  drawGrid(context, view, { width, height, unit, colours });
  drawGroundShapes(context, state, view, { unit, colours });
  for (const [id, spots] of state.trails) {
    const places = spots.filter((spot) => spot.ground).map((spot) => view.place(spot.ground));
    context.strokeStyle = colourOf(id);
    context.globalAlpha = 0.6;
    path(context, places, 2 * unit);
    context.globalAlpha = 1;
  }
  for (const track of state.tracks) {
    if (track.ground_m) drawPerson(context, track, view, { unit, colours });
  }
}

function drawPerson(context, track, view, { unit, colours }) {
  const [x, y] = view.place(track.ground_m);
  const [ahead] = [track.vel_m_s].filter(Boolean).map((speed) => view.place(
    track.ground_m.map((value, axis) => value + speed[axis] * AHEAD_S),
  ));
  context.strokeStyle = context.fillStyle = colourOf(track.id);
  if (ahead) path(context, [[x, y], ahead], 2 * unit);
  context.beginPath();
  context.arc(x, y, 5 * unit, 0, 2 * Math.PI);
  context.fill();
  context.fillStyle = colours.text;
  context.fillText(shortId(track.id), x + 8 * unit, y + 4 * unit);
}

function drawGrid(context, view, { width, height, unit, colours }) {
  const step = niceStep((40 * unit) / view.scale);
  const [left, top] = view.place([0, 0]);
  context.strokeStyle = colours.line;
  context.lineWidth = unit;
  const along = (from, length) => {
    const found = [];
    const pitch = step * view.scale;
    for (let at = ((from % pitch) + pitch) % pitch; at < length; at += pitch) found.push(at);
    return found;
  };
  for (const x of along(left, width)) path(context, [[x, 0], [x, height]], unit);
  for (const y of along(top, height)) path(context, [[0, y], [width, y]], unit);
  context.fillStyle = colours.text;
  context.fillText(`grid ${step} m`, 6 * unit, height - 6 * unit);
}

function drawGroundShapes(context, { layout, zones, lines }, view, { unit, colours }) {
  const write = (words, [x, y]) => {
    context.fillStyle = colours.text;
    context.fillText(shortened(words), x + 5 * unit, y - 5 * unit);
  };
  layout.zones.forEach((zone, at) => {
    if (zone.space !== "ground") return;
    const corners = zone.polygon.map(view.place);
    context.strokeStyle = context.fillStyle = zoneColour(at);
    path(context, [...corners, corners[0]], 1.5 * unit);
    context.globalAlpha = 0.16;
    context.fill();
    context.globalAlpha = 1;
    write(zoneWords(zone.name, zones.get(zone.name)), [0, 1].map(
      (axis) => corners.reduce((sum, corner) => sum + corner[axis], 0) / corners.length,
    ));
  });
  for (const line of layout.lines) {
    if (line.space !== "ground") continue;
    const [start, end] = [view.place(line.start), view.place(line.end)];
    arrowLine(context, start, end, unit);
    write(lineWords(line.name, lines.get(line.name)), start);
  }
}

function path(context, places, width) {
  context.lineWidth = width;
  context.beginPath();
  places.forEach(([x, y], at) => (at ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.stroke();
}

// The smallest of 1, 2, 5, 10, … (and 0.1, 0.2, …) that is at least `least`.
export function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least * (1 - 1e-9));
}
