// The list of zones and lines, and the form of the chosen one. Names are text, never markup.

import { byId, element } from "/static/dom.js";
import { arrange } from "/static/zone_canvas.js";
import { leastCorners, pointsOf, tenth } from "/static/zone_editor.js";
import { fieldsOf, textOf, valueOf } from "/static/zone_fields.js";

const COLOURS = 12; // of zones.css

function button(text, act, name) {
  const found = element("button", text);
  found.type = "button";
  if (name) found.ariaLabel = name;
  found.addEventListener("click", act);
  return found;
}

export class Panel {
  // `act` has choose, type, refuse, set, place, addCorner, removeCorner, turn and remove.
  constructor(act) {
    this.act = act;
    this.structure = null; // of the form; while it is the same, only values are written
    this.refused = new Map(); // setting -> why its text has no value
    this.rows = new Map(); // key -> row of the list, and what it shows
    this.typing = null; // the field that is typed in: what is drawn meanwhile leaves it alone
    byId("form").addEventListener("input", (event) => {
      this.typing = event.target;
      act.type();
    });
    byId("form").addEventListener("change", () => { this.typing = null; }, { capture: true });
    byId("form").addEventListener("focusout", () => { this.typing = null; });
  }

  draw(view) {
    this.view = view;
    this.drawList();
    this.drawForm();
  }

  drawList() {
    const { shapes, key, frame, problem } = this.view;
    const rows = new Map();
    shapes.forEach((shape, index) => {
      const before = this.rows.get(shape.key);
      const isWrong = problem?.key === shape.key;
      const isSame = before?.shape === shape && before.frame === frame
        && before.index === index && before.isWrong === isWrong;
      const row = isSame ? before : { shape, frame, index, isWrong, ...this.row(before) };
      if (!isSame) this.fillRow(row);
      row.button.ariaPressed = shape.key === key;
      rows.set(shape.key, row);
    });
    this.rows = rows;
    arrange(byId("shapes"), [...rows.values()].map((row) => row.item));
    byId("no-shapes").hidden = rows.size > 0;
  }

  row(before) {
    if (before) return { item: before.item, button: before.button };
    const found = { item: element("li"), button: element("button") };
    found.button.type = "button";
    found.button.addEventListener("click", (event) => {
      this.act.choose(Number(found.button.value), event.detail === 0);
    });
    found.item.append(found.button);
    return found;
  }

  fillRow({ shape, frame, index, isWrong, item, button: row }) {
    const words = [shape.kind];
    if (shape.kind === "zone") words.push(`${pointsOf(shape).length} corners`);
    if (shape.settings.space === "ground") words.push("on the ground");
    if (frame.pixelsOf(shape) === null) words.push("not drawn");
    item.className = `${shape.kind} colour-${index % COLOURS}`;
    row.value = shape.key;
    row.replaceChildren(
      element("span", undefined, "swatch"),
      element("span", shape.settings.name, "name"),
      element("span", words.join(", "), "about"),
    );
    if (isWrong) row.append(element("span", "wrong", "wrong"));
  }

  focusRow(key) {
    this.rows.get(key)?.button.focus();
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
    let { meaning } = field;
    let input;
    if (field.type === "choice") {
      input = element("select");
      input.append(...field.choices.map((one) => new Option(one, one)));
      if (field.name === "space" && !this.mayChangeSpace()) {
        input.disabled = true;
        meaning += "; the run knows no ground plane here";
      }
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
    if (meaning) {
      const hint = element("span", meaning, "hint");
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
        else this.write(input, textOf(field, value));
      }
      byId(`field-${field.name}-why`).textContent = refused ?? "";
      input.ariaInvalid = refused !== undefined || (isHere && problem.setting === field.name);
    }
    this.cornerValues(shape).forEach((values, index) => {
      values.forEach((value, axis) => {
        this.write(byId(`corner-${index}-${axis}`), value);
      });
    });
  }

  write(input, text) {
    if (input !== this.typing && input.value !== text) input.value = text;
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
