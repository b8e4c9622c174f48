// A zone or line while it is being drawn: corners in pixels, and where the pointer or the cross is.

import { leastCorners } from "/static/zone_editor.js";

export class Draft {
  constructor(kind, frame) {
    this.kind = kind;
    this.frame = frame;
    this.corners = [];
    this.cursor = null;
  }

  get view() {
    return { kind: this.kind, corners: this.corners, cursor: this.cursor };
  }

  get isWhole() {
    return this.corners.length >= leastCorners(this.kind);
  }

  point(at) {
    this.cursor = this.frame.snapped(at);
  }

  // The pointer goes down. A line begins there, so that it can be dragged.
  press(at) {
    this.point(at);
    if (this.kind === "line" && !this.corners.length) this.corners = [this.cursor];
    else this.waits = true;
  }

  // The pointer goes up; returns whether the shape is finished. `near` is a distance in pixels.
  release(from, at, drags, near) {
    this.point(at);
    const distance = (one) => Math.hypot(one[0] - this.cursor[0], one[1] - this.cursor[1]);
    const isOwnStart = this.kind === "line" && !this.waits;
    this.waits = false;
    if (isOwnStart && !(drags && distance(this.corners[0]) > near)) return false;
    const last = this.corners.at(-1);
    if (this.kind === "zone" && this.isWhole && distance(this.corners[0]) < near) return true;
    if (last && distance(last) < near / 3) return this.kind === "zone" && this.isWhole;
    this.corners = [...this.corners, this.cursor];
    return this.kind === "line" && this.isWhole;
  }

  // Move the cross, which begins in the middle of the picture.
  step([dx, dy]) {
    const { width, height } = this.frame;
    const [x, y] = this.cursor ?? this.corners.at(-1) ?? [width / 2, height / 2];
    this.point([x + dx, y + dy]);
  }

  // Set a corner at the cross; returns it.
  set() {
    this.cursor ??= this.frame.snapped([this.frame.width / 2, this.frame.height / 2]);
    this.corners = [...this.corners, this.cursor];
    return this.cursor;
  }

  removeLast() {
    this.corners = this.corners.slice(0, -1);
  }
}
