// What the zones page knows of zones and lines, and how they change. No document, no network.
//
// A drawing is a list of shapes, { key, kind: "zone" | "line", settings }, in the order of the zones
// file. `settings` are the members of the file, also those that the page has no field for. Drawings
// and shapes never change: a change makes new ones, so that undo keeps the old.

export const LIMITS = { undo: 500 };
const SHARE_DIGITS = 1e6;
const METRE_DIGITS = 1e3;
let lastKey = 0;

export function shapesOf(layout) {
  const all = (kind, settings) => ({ key: ++lastKey, kind, settings });
  return [
    ...layout.zones.map((zone) => all("zone", zone)),
    ...layout.lines.map((line) => all("line", line)),
  ];
}

export function layoutOf(shapes) {
  const of = (kind) => shapes.filter((one) => one.kind === kind).map((one) => one.settings);
  return { zones: of("zone"), lines: of("line") };
}

export const isSame = (a, b) => JSON.stringify(layoutOf(a)) === JSON.stringify(layoutOf(b));

// A new shape with the defaults of its kind.
export function newShape(shapes, kind, points, defaults) {
  const name = freeName(shapes, kind);
  const shape = { key: ++lastKey, kind, settings: { ...defaults, name, space: "image" } };
  return withPoints(shape, points);
}

export function freeName(shapes, kind) {
  const taken = new Set(shapes.filter((one) => one.kind === kind).map((one) => one.settings.name));
  let number = 1;
  while (taken.has(`${kind}-${number}`)) number += 1;
  return `${kind}-${number}`;
}

export function pointsOf({ kind, settings }) {
  return kind === "zone" ? settings.polygon : [settings.start, settings.end];
}

export function withPoints(shape, points) {
  const own = shape.kind === "zone" ? { polygon: points } : { start: points[0], end: points[1] };
  return { ...shape, settings: { ...shape.settings, ...own } };
}

export function withSetting(shape, name, value) {
  return { ...shape, settings: { ...shape.settings, [name]: value } };
}

export const replaced = (shapes, shape) =>
  shapes.map((one) => (one.key === shape.key ? shape : one));

export const without = (shapes, key) => shapes.filter((one) => one.key !== key);

export const leastCorners = (kind) => (kind === "zone" ? 3 : 2);

// The frame that is drawn on: its size in pixels, and the map to the ground where it is known.
export class Frame {
  constructor(width, height, plane = null) {
    this.width = width;
    this.height = height;
    this.plane = plane; // from pixels to metres, nine numbers by rows
    this.back = plane && inverse(plane);
    this.front = plane ? Math.sign(mapped(plane, [width / 2, height])[2]) : 1;
  }

  // Pixels of a point; null where it is on the ground, and there is no plane or it is not in view.
  toPixels(space, [x, y]) {
    if (space !== "ground") return [x * this.width, y * this.height];
    if (!this.back) return null;
    const [u, v, w] = mapped(this.back, [x, y]);
    return w * this.front > 0 ? [u / w, v / w] : null;
  }

  // A point of a space, from pixels that are snapped to tenths and kept within the picture.
  fromPixels(space, pixels) {
    const [x, y] = this.snapped(pixels);
    if (space !== "ground") {
      return [rounded(x / this.width, SHARE_DIGITS), rounded(y / this.height, SHARE_DIGITS)];
    }
    const [u, v, w] = mapped(this.plane, [x, y]);
    return [rounded(u / w, METRE_DIGITS), rounded(v / w, METRE_DIGITS)];
  }

  snapped([x, y]) {
    const inside = (value, most) => Math.min(Math.max(value, 0), most);
    return [inside(tenth(x), this.width), inside(tenth(y), this.height)];
  }

  // Whether the ground at these pixels is before the camera.
  isGround(pixels) {
    return !!this.plane && mapped(this.plane, pixels)[2] * this.front > 0;
  }

  // All corners of a shape in pixels; null where one of them cannot be shown.
  pixelsOf(shape) {
    const found = pointsOf(shape).map((point) => this.toPixels(shape.settings.space, point));
    return found.every((one) => one !== null) ? found : null;
  }

  // The shape with a corner elsewhere; itself where there is no such place in its space.
  moveCorner(shape, index, pixels) {
    const { space } = shape.settings;
    if (space === "ground" && !this.isGround(this.snapped(pixels))) return shape;
    return withPoints(shape, pointsOf(shape).with(index, this.fromPixels(space, pixels)));
  }

  // The shape with all corners moved as far as the picture allows.
  move(shape, [dx, dy]) {
    const pixels = this.pixelsOf(shape);
    if (pixels === null) return shape;
    const xs = pixels.map(([x]) => x);
    const ys = pixels.map(([, y]) => y);
    const within = (by, values, most) =>
      Math.min(Math.max(by, -Math.max(0, Math.min(...values))), Math.max(0, most - Math.max(...values)));
    const [x, y] = [within(dx, xs, this.width), within(dy, ys, this.height)];
    const { space } = shape.settings;
    const places = pixels.map((corner) => [corner[0] + x, corner[1] + y]);
    if (space === "ground" && !places.every((one) => this.isGround(one))) return shape;
    return withPoints(shape, places.map((one) => this.fromPixels(space, one)));
  }

  // The shape with another corner after `index`, at these pixels or half way to the next one.
  addCorner(shape, index, pixels) {
    const points = pointsOf(shape);
    const { space } = shape.settings;
    if (pixels && space === "ground" && !this.isGround(this.snapped(pixels))) return shape;
    let point = pixels && this.fromPixels(space, pixels);
    if (!point) {
      const [a, b] = [points[index], points[(index + 1) % points.length]];
      const digits = space === "ground" ? METRE_DIGITS : SHARE_DIGITS;
      point = [rounded((a[0] + b[0]) / 2, digits), rounded((a[1] + b[1]) / 2, digits)];
    }
    return withPoints(shape, points.toSpliced(index + 1, 0, point));
  }

  // The shape in another space, at the same pixels; null where that is not possible.
  inSpace(shape, space) {
    if (shape.settings.space === space) return shape;
    const pixels = this.pixelsOf(shape);
    if (pixels === null || !this.plane) return null;
    if (space === "ground" && !pixels.every((one) => this.isGround(one))) return null;
    const points = pixels.map((one) => this.fromPixels(space, one));
    return withSetting(withPoints(shape, points), "space", space);
  }

  // The direction in pixels, of length 1, in which a line counts as `in`: to its right.
  into(line) {
    const pixels = this.pixelsOf(line);
    const { start, end, space } = line.settings;
    const [a, b] = pixels;
    let way = [-(b[1] - a[1]), b[0] - a[0]]; // y points down in a picture
    if (space === "ground") {
      const middle = [(start[0] + end[0]) / 2, (start[1] + end[1]) / 2];
      const beside = [(end[1] - start[1]) / 100, -(end[0] - start[0]) / 100];
      const from = this.toPixels(space, middle);
      const to = this.toPixels(space, [middle[0] + beside[0], middle[1] + beside[1]]);
      if (from && to) way = [to[0] - from[0], to[1] - from[1]];
    }
    const length = Math.hypot(...way) || 1;
    return [way[0] / length, way[1] / length];
  }
}

// The shape without a corner; null where too few are left.
export function removeCorner(shape, index) {
  const points = pointsOf(shape);
  if (points.length <= leastCorners(shape.kind)) return null;
  return withPoints(shape, points.toSpliced(index, 1));
}

// The line with its ends exchanged, so that in and out are.
export function turned(line) {
  return withPoints(line, pointsOf(line).toReversed());
}

// A drawing with its past and its future.
export class History {
  constructor(shapes) {
    this.past = [];
    this.now = shapes;
    this.future = [];
    this.tag = null;
  }

  // Changes with the same tag, one after the other, are one step. Without one, each is a step.
  change(shapes, tag = null) {
    if (shapes === this.now) return;
    if (tag === null || tag !== this.tag) {
      this.past = [...this.past, this.now].slice(-LIMITS.undo);
    }
    this.tag = tag;
    this.now = shapes;
    this.future = [];
  }

  // The next change is a step of its own.
  endStep() {
    this.tag = null;
  }

  undo() {
    if (!this.past.length) return;
    this.future = [this.now, ...this.future];
    this.now = this.past.at(-1);
    this.past = this.past.slice(0, -1);
    this.tag = null;
  }

  redo() {
    if (!this.future.length) return;
    this.past = [...this.past, this.now];
    [this.now, ...this.future] = this.future;
    this.tag = null;
  }
}

// The shape and the setting that a message of the server is about: { key, setting }, or null.
export function placeOf(message, shapes) {
  const path = /\$\.(zone|line)s\[(\d+)\](?:\.(\w+))?/.exec(message);
  if (path) {
    const shape = shapes.filter((one) => one.kind === path[1])[Number(path[2])];
    if (shape) return { key: shape.key, setting: path[3] ?? settingOf(message, shape) };
  }
  const twice = /two (zone|line)s are called '([^']*)'/.exec(message);
  const named = twice ?? /(zone|line) '([^']*)'/.exec(message);
  if (!named) return null;
  const found = shapes.findLast(
    (one) => one.kind === named[1] && String(one.settings.name) === named[2],
  );
  if (!found) return null;
  return { key: found.key, setting: twice ? "name" : settingOf(message, found) };
}

function settingOf(message, shape) {
  const words = message.split(/[^a-z_]+/);
  const own = Object.keys(shape.settings).filter((name) => name.includes("_"));
  return own.find((name) => words.includes(name)) ?? null;
}

export const tenth = (value) => Math.round(value * 10) / 10;

function rounded(value, digits) {
  return Math.round(value * digits) / digits;
}

function mapped(matrix, [x, y]) {
  return [0, 3, 6].map((row) => matrix[row] * x + matrix[row + 1] * y + matrix[row + 2]);
}

function inverse([a, b, c, d, e, f, g, h, i]) {
  const adjugate = [
    e * i - f * h, c * h - b * i, b * f - c * e,
    f * g - d * i, a * i - c * g, c * d - a * f,
    d * h - e * g, b * g - a * h, a * e - b * d,
  ];
  const determinant = a * adjugate[0] + b * adjugate[3] + c * adjugate[6];
  return adjugate.map((value) => value / determinant);
}
