// Draws zones and lines on a picture, as SVG in pixels of the source, and says what the pointer does.
// The chosen shape and its corners can have the focus; everything else is chosen in the list.

import { tenth } from "/static/zone_editor.js";

const SVG = "http://www.w3.org/2000/svg";
const HANDLE_PX = 6; // radius of a corner on the screen
const TOUCH_PX = 16; // radius that takes the pointer
const DRAG_PX = 3; // way of the pointer from which on it drags
const COLOURS = 12; // of zones.css

function svg(name, attributes = {}, ...children) {
  const found = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null) found.setAttribute(key, value);
  }
  found.append(...children);
  return found;
}

const pathOf = (corners) => `M${corners.map(([x, y]) => `${x} ${y}`).join("L")}`;

// Have an element hold these children in this order; those that are there stay, and keep the focus.
export function arrange(parent, children) {
  const wanted = new Set(children);
  for (const one of [...parent.children]) if (!wanted.has(one)) one.remove();
  let place = parent.firstElementChild;
  for (const one of children) {
    if (one === place) place = place.nextElementSibling;
    else parent.insertBefore(one, place);
  }
}

export class Canvas {
  // `act` has press, drag, release and choose; they get what is at the pointer, and pixels.
  constructor(stage, act) {
    this.stage = stage;
    this.act = act;
    this.image = svg("image", { preserveAspectRatio: "none" });
    this.blank = svg("rect", { class: "blank" });
    this.shapes = svg("g");
    this.chosen = svg("g");
    this.root = svg("svg", {}, this.blank, this.image, this.shapes, this.chosen);
    stage.append(this.root);
    this.elements = new Map(); // of the chosen shape, by what they are for
    this.drawn = new Map(); // shapes by key, as they were drawn last
    this.pressed = null;
    this.root.addEventListener("pointerdown", (event) => this.press(event));
    this.root.addEventListener("pointermove", (event) => this.drag(event));
    this.root.addEventListener("pointerup", (event) => this.release(event));
    this.root.addEventListener("pointercancel", () => this.giveUp());
    new ResizeObserver(() => this.again?.()).observe(stage);
  }

  setPicture(address) {
    if (address) this.image.setAttribute("href", address);
    else this.image.removeAttribute("href");
  }

  setFrame({ width, height }) {
    this.root.setAttribute("viewBox", `0 0 ${width} ${height}`);
    for (const one of [this.blank, this.image]) {
      one.setAttribute("width", width);
      one.setAttribute("height", height);
    }
  }

  setZoom(factor) {
    this.root.style.width = `${factor * 100}%`;
    this.root.style.maxHeight = factor === 1 ? "" : "none";
  }

  // Pixels of the source for one of the screen.
  get scale() {
    return 1 / (this.root.getScreenCTM()?.a || 1);
  }

  draw(view) {
    this.again = () => this.draw(view);
    const { frame, shapes, key, problem, draft } = view;
    const k = this.scale;
    this.root.classList.toggle("drawing", !!draft);
    const drawn = new Map();
    const groups = shapes.flatMap((one, index) => {
      const group = this.groupOf(one, frame, k);
      if (!group) return [];
      const classes = [
        one.kind,
        `colour-${index % COLOURS}`,
        one.key === key ? "chosen" : "",
        one.key === problem ? "wrong" : "",
      ].join(" ");
      if (group.getAttribute("class") !== classes) group.setAttribute("class", classes);
      drawn.set(one.key, { shape: one, frame, k, group });
      return [group];
    });
    this.drawn = drawn;
    arrange(this.shapes, groups);
    const shape = draft ? undefined : shapes.find((one) => one.key === key);
    const corners = shape && frame.pixelsOf(shape);
    if (corners) this.drawChosen(shape, corners, k);
    else if (draft) this.drawDraft(draft, k);
    else this.keepOnly([]);
  }

  // What a shape looks like; as it was drawn before, where nothing of it has changed.
  groupOf(shape, frame, k) {
    const before = this.drawn.get(shape.key);
    if (before?.shape === shape && before.frame === frame && before.k === k) return before.group;
    const corners = frame.pixelsOf(shape);
    if (corners === null) return null;
    const parts = shape.kind === "zone" ? zoneParts : lineParts;
    return svg("g", {}, ...parts(shape, corners, frame, k));
  }

  // Elements stay the same while what they are for does, so that they keep the focus.
  drawChosen(shape, corners, k) {
    const { kind, settings } = shape;
    const closed = kind === "zone";
    const wanted = [];
    const body = this.element("body", "path");
    body.setAttribute("d", pathOf(corners) + (closed ? "Z" : ""));
    body.setAttribute("class", `body ${kind}`);
    body.setAttribute("stroke-width", TOUCH_PX * k);
    const named = `${kind} ${settings.name}`;
    say(body, `${named}: arrow keys move it, Tab goes to its corners`);
    wanted.push(body);
    const edges = closed ? corners.length : 0;
    for (let index = 0; index < edges; index += 1) {
      const [a, b] = [corners[index], corners[(index + 1) % corners.length]];
      if (Math.hypot(b[0] - a[0], b[1] - a[1]) < 5 * HANDLE_PX * k) continue;
      const edge = this.element(`edge ${index}`, "g");
      edge.dataset.edge = index;
      this.circles(edge, [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2], k, 0.6, "edge");
      wanted.push(edge);
    }
    corners.forEach((corner, index) => {
      const handle = this.element(`corner ${index}`, "g");
      handle.dataset.corner = index;
      this.circles(handle, corner, k, 1, "corner");
      const which = closed ? `corner ${index + 1} of ${corners.length}` : ["start", "end"][index];
      const [x, y] = corner.map((value) => tenth(value).toFixed(1));
      say(handle, `${which} of ${named}: x ${x}, y ${y} px`);
      wanted.push(handle);
    });
    this.keepOnly(wanted);
  }

  drawDraft({ kind, corners, cursor }, k) {
    const all = cursor ? [...corners, cursor] : corners;
    const wanted = [];
    const path = this.element("draft", "path");
    path.setAttribute("d", all.length ? pathOf(all) : "");
    path.setAttribute("class", `draft ${kind}`);
    wanted.push(path);
    corners.forEach((corner, index) => {
      const dot = this.element(`dot ${index}`, "g");
      this.circles(dot, corner, k, index === 0 && kind === "zone" ? 1.3 : 1, "corner");
      wanted.push(dot);
    });
    if (cursor) {
      const cross = this.element("cursor", "path");
      const [x, y] = cursor;
      const r = 14 * k;
      cross.setAttribute("d", `M${x - r} ${y}H${x + r}M${x} ${y - r}V${y + r}`);
      cross.setAttribute("class", "cursor");
      wanted.push(cross);
    }
    this.keepOnly(wanted);
  }

  element(purpose, name) {
    let found = this.elements.get(purpose);
    if (!found) {
      found = svg(name);
      found.dataset.purpose = purpose;
      this.elements.set(purpose, found);
    }
    return found;
  }

  circles(group, [x, y], k, size, className) {
    if (!group.childElementCount) group.append(svg("circle", { class: "touch" }), svg("circle"));
    const [touch, dot] = group.children;
    group.setAttribute("class", className);
    for (const [circle, radius] of [[touch, TOUCH_PX], [dot, HANDLE_PX * size]]) {
      circle.setAttribute("cx", x);
      circle.setAttribute("cy", y);
      circle.setAttribute("r", radius * k);
    }
  }

  keepOnly(wanted) {
    for (const [purpose, one] of this.elements) {
      if (wanted.includes(one)) continue;
      this.elements.delete(purpose);
    }
    arrange(this.chosen, wanted);
  }

  focus(purpose) {
    this.elements.get(purpose)?.focus();
  }

  // What has the focus: "body", "corner 2", or null.
  get focused() {
    const found = document.activeElement?.dataset?.purpose;
    return found && this.elements.get(found) === document.activeElement ? found : null;
  }

  pixelsAt(event) {
    const at = new DOMPoint(event.clientX, event.clientY);
    const { x, y } = at.matrixTransform(this.root.getScreenCTM().inverse());
    return [x, y];
  }

  press(event) {
    if (event.button !== 0 || this.pressed) return;
    const target = event.target.closest("[data-corner], [data-edge], [data-purpose=body], [data-key]");
    const data = target?.dataset ?? {};
    const what = {
      corner: data.corner === undefined ? null : Number(data.corner),
      edge: data.edge === undefined ? null : Number(data.edge),
      body: data.purpose === "body",
      key: data.key === undefined ? null : Number(data.key),
    };
    this.pressed = { what, from: this.pixelsAt(event), drags: false };
    this.root.setPointerCapture(event.pointerId);
    event.preventDefault(); // the focus goes where `act` says
    this.act.press(what, this.pressed.from);
  }

  drag(event) {
    const at = this.pixelsAt(event);
    if (!this.pressed) {
      this.act.hover(at);
      return;
    }
    const { from, what } = this.pressed;
    const way = Math.hypot(at[0] - from[0], at[1] - from[1]);
    this.pressed.drags ||= way > DRAG_PX * this.scale;
    if (this.pressed.drags) this.act.drag(what, from, at);
  }

  release(event) {
    if (!this.pressed) return;
    const { what, from, drags } = this.pressed;
    this.pressed = null;
    this.act.release(what, from, this.pixelsAt(event), drags, this.keysAt(event));
  }

  // Keys of the shapes at the pointer, the uppermost first.
  keysAt({ clientX, clientY }) {
    const found = document.elementsFromPoint(clientX, clientY);
    return found.filter((one) => one.dataset.key).map((one) => Number(one.dataset.key));
  }

  giveUp() {
    this.pressed = null;
    this.act.giveUp();
  }
}

function say(element, name) {
  element.setAttribute("tabindex", "0");
  element.setAttribute("role", "button");
  element.setAttribute("aria-label", name);
}

function zoneParts(shape, corners, { width, height }, k) {
  const outline = `${pathOf(corners)}Z`;
  const whole = shape.settings.outside ? `M0 0H${width}V${height}H0Z${outline}` : outline;
  const top = corners.reduce((a, b) => (b[1] < a[1] ? b : a));
  return [
    svg("path", { class: "fill", d: whole, "data-key": shape.key }),
    svg("path", { class: "outline", d: outline }),
    label(shape.settings.name, [top[0], top[1] - 8 * k], k, [width, height]),
  ];
}

function lineParts(shape, [a, b], frame, k) {
  const into = frame.into(shape);
  const middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
  const at = (along, side) =>
    [middle[0] + into[0] * along * k + into[1] * side * k, middle[1] + into[1] * along * k - into[0] * side * k];
  const arrow = `${pathOf([at(-22, 0), at(22, 0)])}${pathOf([at(12, -7), at(22, 0), at(12, 7)])}`;
  const d = pathOf([a, b]);
  const along = [into[1], -into[0]];
  const size = [frame.width, frame.height];
  return [
    svg("path", { class: "touch", d, "data-key": shape.key, "stroke-width": TOUCH_PX * k }),
    svg("path", { class: "casing", d }),
    svg("path", { class: "casing", d: arrow }),
    svg("path", { class: "outline", d }),
    svg("path", { class: "arrow", d: arrow }),
    svg("circle", { class: "start", cx: a[0], cy: a[1], r: 4 * k }),
    label(`${shape.settings.name}: in`, at(38, 0), k, size, along),
    label("out", at(-34, 0), k, size, along),
  ];
}

// A label with its middle at a place, as far as the picture allows. One that would have to leave its
// place goes along `aside`, so that it does not cover what it is about.
function label(text, [x, y], k, [width, height], aside = [0, 0]) {
  const half = Math.min(text.length * 3.9 * k, width / 2);
  const within = ([a, b]) => [
    Math.min(Math.max(a, half), width - half),
    Math.min(Math.max(b, 14 * k), height - 6 * k),
  ];
  let [left, base] = within([x, y]);
  if (Math.hypot(left - x, base - y) > 6 * k) {
    const by = Math.abs(aside[0]) * half + 14 * k;
    [left, base] = within([left + aside[0] * by, base + aside[1] * by]);
  }
  const found = svg("text", { x: left, y: base, "font-size": 13 * k, "stroke-width": 3.5 * k });
  found.textContent = text;
  return found;
}
