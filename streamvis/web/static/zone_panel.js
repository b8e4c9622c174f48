// The list of zones and lines, and the form of the chosen one. Names are text, never markup.

import { byId, element } from "/static/dom.js";
import { leastCorners, pointsOf, tenth } from "/static/zone_editor.js";
import { fieldsOf, textOf, valueOf } from "/static/zone_fields.js";

const COLOURS = 8;

function button(text, act, name) {
  const found = element("button", text);
  found.type = "button";
  if (name) found.ariaLabel = name;
  found.addEventListener("click", act);
  return found;
}

export class Panel {
  // `act` has choose, rename, set, moveCorner, addCorner, removeCorner, turn and remove.
  constructor(act) {
    this.act = act;
    this.structure = null; // of the form; while it is the same, only values are written
    this.refused = new Map(); // setting -> why its text has no value
    this.rows = new Map(); // key -> button of the list
  }

  draw(view) {
    this.view = view;
    this.drawList();
    this.drawForm();
  }

  drawList() {
    const { shapes, key, frame, problem } = this.view;
    const focused = [...this.rows].find(([, row]) => row === document.activeElement)?.[0];
    this.rows.clear();
    const items = shapes.map((shape, index) => {
      const row = element("button");
      row.type = "button";
      row.ariaPressed = shape.key === key;
      const words = [];
      if (shape.kind === "zone") words.push(`${pointsOf(shape).length} corners`);
      if (shape.settings.space === "ground") {
        words.push(frame.pixelsOf(shape) ? "on the ground" : "on the ground, not drawn");
      }
      row.append(
        element("span", undefined, "swatch"),
        element("span", shape.settings.name, "name"),
        element("span", [shape.kind, ...words].join(", "), "about"),
      );
      if (problem?.key === shape.key) row.append(element("span", "wrong", "wrong"));
      row.addEventListener("click", (event) => this.act.choose(shape.key, event.detail === 0));
      this.rows.set(shape.key, row);
      const item = element("li", undefined, `${shape.kind} colour-${index % COLOURS}`);
      item.append(row);
      return item;
    });
    byId("shapes").replaceChildren(...items);
    byId("no-shapes").hidden = items.length > 0;
    this.rows.get(focused)?.focus();
  }

  focusRow(key) {
    this.rows.get(key)?.focus();
  }

  drawForm() {
    const { shapes, key, schemas, frame } = this.view;
    const shape = shapes.find((one) => one.key === key);
    byId("chosen").hidden = !shape || !schemas;
    if (!shape || !schemas) {
      this.structure = null;
      return;
    }
    byId("chosen-title").textContent = `${shape.kind} ${shape.settings.name}`;
    const names = Object.keys(shape.settings);
    const shown = frame.pixelsOf(shape) !== null;
    const structure = JSON.stringify([key, pointsOf(shape).length, names, shape.settings.space, shown]);
    if (structure !== this.structure) {
      const focused = document.activeElement?.id;
      const isOpen = byId("more")?.open ?? false;
      if (JSON.parse(this.structure ?? "[]")[0] !== key) this.refused.clear();
      this.structure = structure;
      this.build(shape, isOpen);
      if (focused && byId("form").querySelector(`#${CSS.escape(focused)}`)) byId(focused).focus();
    }
    this.fill(shape);
  }

  build(shape, isOpen) {
    this.fields = fieldsOf(shape.kind, this.view.schemas[shape.kind], shape.settings);
    const more = element("details");
    more.id = "more";
    more.open = isOpen;
    more.append(element("summary", "More settings"));
    more.append(...this.fields.filter((one) => !one.isCommon).map((one) => this.field(one)));
    const problem = element("p", undefined, "bad");
    problem.id = "problem";
    problem.role = "alert";
    const name = { name: "name", label: "name", type: "text", meaning: "", unit: "" };
    const buttons = element("div", undefined, "buttons");
    if (shape.kind === "line") {
      buttons.append(button("Exchange in and out", () => this.act.turn()));
    }
    buttons.append(button(`Delete ${shape.kind}`, () => this.act.remove()));
    byId("form").replaceChildren(
      problem,
      this.field(name),
      ...this.fields.filter((one) => one.isCommon).map((one) => this.field(one)),
      more,
      this.corners(shape),
      buttons,
    );
    this.fields.unshift(name);
  }

  field(field) {
    const row = element("div", undefined, "field");
    const id = `field-${field.name}`;
    const label = element("label", field.label);
    label.htmlFor = id;
    let input;
    if (field.type === "choice") {
      input = element("select");
      input.append(...field.choices.map((one) => new Option(one, one)));
      if (field.name === "space") input.disabled = !this.mayChangeSpace();
    } else {
      input = element(field.type === "json" ? "textarea" : "input");
      if (field.type !== "json") input.type = field.type === "flag" ? "checkbox" : "text";
      if (field.bounds) input.inputMode = field.bounds.type === "integer" ? "numeric" : "decimal";
      input.spellcheck = false;
      input.autocomplete = "off";
    }
    input.id = id;
    const why = element("span", undefined, "bad");
    why.id = `${id}-why`;
    const described = [why.id];
    row.append(label, input, element("span", field.unit, "quiet"));
    if (field.meaning) {
      const hint = element("span", field.meaning, "hint");
      hint.id = `${id}-hint`;
      described.unshift(hint.id);
      row.append(hint);
    }
    input.setAttribute("aria-describedby", described.join(" "));
    row.append(why);
    input.addEventListener("change", () => this.take(field, input));
    return row;
  }

  mayChangeSpace() {
    const { frame, shapes, key } = this.view;
    const shape = shapes.find((one) => one.key === key);
    const other = shape.settings.space === "ground" ? "image" : "ground";
    return frame.inSpace(shape, other) !== null;
  }

  take(field, input) {
    try {
      const text = input.value;
      const value = field.type === "flag" ? input.checked : valueOf(field, text);
      this.refused.delete(field.name);
      this.act.set(field.name, value);
    } catch (error) {
      this.refused.set(field.name, error.message);
      this.act.refuse();
    }
  }

  // Write the values into the form, but not into a field whose text has none.
  fill(shape) {
    const { problem } = this.view;
    const isHere = problem?.key === shape.key;
    byId("problem").textContent = isHere ? problem.message : "";
    for (const field of this.fields) {
      const input = byId(`field-${field.name}`);
      const refused = this.refused.get(field.name);
      if (refused === undefined) {
        const value = shape.settings[field.name];
        if (field.type === "flag") input.checked = value;
        else if (input.value !== textOf(field, value)) input.value = textOf(field, value);
      }
      byId(`field-${field.name}-why`).textContent = refused ?? "";
      input.ariaInvalid = refused !== undefined || (isHere && problem.setting === field.name);
    }
    this.cornerValues(shape).forEach((values, index) => {
      values.forEach((value, axis) => {
        const input = byId(`corner-${index}-${axis}`);
        if (input.value !== value) input.value = value;
      });
    });
  }

  cornerValues(shape) {
    const { frame } = this.view;
    return pointsOf(shape).map((point) => {
      if (shape.settings.space === "ground") return point.map((value) => String(value));
      return frame.toPixels("image", point).map((value) => tenth(value).toFixed(1));
    });
  }

  corners(shape) {
    const isGround = shape.settings.space === "ground";
    const unit = isGround ? "m" : "px";
    const table = element("table", undefined, "corners");
    const head = element("thead");
    const titles = element("tr");
    for (const title of [shape.kind === "zone" ? "corner" : "end", `x, ${unit}`, `y, ${unit}`]) {
      const cell = element("th", title);
      cell.scope = "col";
      titles.append(cell);
    }
    titles.append(element("td"));
    head.append(titles);
    const body = element("tbody");
    const points = pointsOf(shape);
    points.forEach((_, index) => {
      const which = shape.kind === "zone" ? `${index + 1}` : ["start", "end"][index];
      const row = element("tr");
      const name = element("th", which);
      name.scope = "row";
      row.append(name);
      for (const axis of [0, 1]) {
        const input = element("input");
        input.type = "number";
        input.step = isGround ? "0.001" : "0.1";
        input.id = `corner-${index}-${axis}`;
        input.ariaLabel = `${"xy"[axis]} of ${shape.kind === "zone" ? "corner " : ""}${which}, ${unit}`;
        input.addEventListener("change", () => {
          const value = Number(input.value);
          if (input.value.trim() && Number.isFinite(value)) this.act.place(index, axis, value);
          else this.act.refuse();
        });
        const cell = element("td");
        cell.append(input);
        row.append(cell);
      }
      const cell = element("td");
      if (shape.kind === "zone") {
        cell.append(button("+", () => this.act.addCorner(index), `add a corner after corner ${which}`));
        if (points.length > leastCorners("zone")) {
          cell.append(" ", button("−", () => this.act.removeCorner(index), `delete corner ${which}`));
        }
      }
      row.append(cell);
      body.append(row);
    });
    table.append(head, body);
    const rows = element("div", undefined, "rows");
    rows.append(table);
    return rows;
  }
}
