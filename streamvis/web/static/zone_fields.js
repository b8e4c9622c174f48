// The settings of zones and lines as fields, from the schema of the API. No document, no network.

const COMMON = {
  zone: ["dwell_s", "crowd", "crowd_s", "enter_s", "exit_s", "classes"],
  line: ["settle_s", "band", "classes"],
};
const PLACED = new Set(["name", "polygon", "start", "end"]); // they have places of their own

// [{ name, label, unit, meaning, type, choices, isCommon, … }] of the settings of a kind, those of
// `settings` that the schema does not know included.
export function fieldsOf(kind, schema, settings) {
  const known = Object.entries(schema.properties).filter(([name]) => !PLACED.has(name));
  const fields = known.map(([name, rule]) => fieldOf(name, rule, COMMON[kind].includes(name)));
  const strange = Object.keys(settings).filter((name) => !(name in schema.properties));
  fields.push(...strange.map((name) => fieldOf(name, {}, false)));
  const place = ({ name, isCommon }) => (isCommon ? COMMON[kind].indexOf(name) : COMMON[kind].length);
  return fields.toSorted((a, b) => place(a) - place(b));
}

export function defaultsOf(schema) {
  const rules = Object.entries(schema.properties);
  return Object.fromEntries(
    rules.filter(([, rule]) => "default" in rule).map(([name, rule]) => [name, rule.default]),
  );
}

function fieldOf(name, rule, isCommon) {
  const [, meaning, unit] = /^(.*?)(?:(?:; |^)unit: (.+))?$/s.exec(rule.description ?? "");
  return { name, label: name, unit: unit ?? "", meaning, isCommon, ...typeOf(rule), rule };
}

function typeOf(rule) {
  if (rule.enum) return { type: "choice", choices: rule.enum };
  if (rule.type === "boolean") return { type: "flag" };
  if (rule.type === "number" || rule.type === "integer") return { type: rule.type, bounds: rule };
  if (rule.anyOf?.length === 2 && rule.anyOf.some((one) => one.type === "null")) {
    const bounds = rule.anyOf.find((one) => one.type !== "null");
    if (bounds.type === "number" || bounds.type === "integer") {
      return { type: bounds.type, bounds, mayBeEmpty: true };
    }
  }
  if (rule.type === "array" && rule.items?.type === "number") {
    return { type: "numbers", bounds: rule.items };
  }
  if (rule.type === "array" && rule.items?.type === "string") return { type: "words" };
  return { type: "json" };
}

export function textOf(field, value) {
  if (field.type === "json") return JSON.stringify(value);
  if (value === null || value === undefined) return "";
  return Array.isArray(value) ? value.join(", ") : String(value);
}

// The value of a text; an Error says what is wrong with it.
export function valueOf(field, text) {
  const words = text.split(",").map((one) => one.trim()).filter((one) => one);
  switch (field.type) {
    case "number":
    case "integer":
      if (!text.trim() && field.mayBeEmpty) return null;
      return numberOf(text, field);
    case "numbers":
      return words.map((word) => numberOf(word, field));
    case "words":
      return words;
    case "json":
      try {
        return JSON.parse(text);
      } catch {
        throw new Error(`'${text}' is no JSON`);
      }
    default:
      return text;
  }
}

function numberOf(text, { type, bounds }) {
  const value = Number(text.trim() || NaN);
  const above = bounds.minimum ?? bounds.exclusiveMinimum;
  const wrong = !Number.isFinite(value)
    || (type === "integer" && !Number.isInteger(value))
    || value < above || value > bounds.maximum
    || value === bounds.exclusiveMinimum;
  if (!wrong) return value;
  const what = type === "integer" ? "a whole number" : "a number";
  const from = "exclusiveMinimum" in bounds ? `above ${above}` : `from ${above}`;
  throw new Error(`'${text.trim()}': expected ${what} ${from}, up to ${bounds.maximum}`);
}
