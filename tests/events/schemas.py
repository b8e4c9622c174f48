"""JSON Schemas of events: validators, and what one version of the feed promises to clients."""

import json
from functools import cache
from pathlib import Path

from jsonschema import Draft202012Validator

FIRST = json.loads((Path(__file__).parent / "fixtures" / "first_release.json").read_bytes())
PROSE = ("title", "description", "default")
NAMES = ("properties", "$defs")  # their keys are names, not words of JSON Schema


def validator(schema):
    return Draft202012Validator(schema)


def definition(schema, name):
    """Return the schema of one of its definitions."""
    return {"$ref": f"#/$defs/{name}", "$defs": schema["$defs"]}


def bare(rule):
    """Return the rule without titles, descriptions and defaults, which accept nothing less."""
    if isinstance(rule, list):
        return [bare(one) for one in rule]
    if not isinstance(rule, dict):
        return rule
    return {
        word: {name: bare(one) for name, one in value.items()} if word in NAMES else bare(value)
        for word, value in rule.items()
        if word not in PROSE
    }


def compact(schema):
    """Return JSON with one line for each definition, so that a difference shows which changed."""
    parts = [
        f'"{name}": {json.dumps(rule, sort_keys=True)}'
        for name, rule in sorted(schema["$defs"].items())
    ]
    rest = json.dumps({k: rule for k, rule in schema.items() if k != "$defs"}, sort_keys=True)
    return '{"$defs": {\n' + ",\n".join(parts) + "\n},\n" + rest[1:] + "\n"


def members_of(schema):
    """Return what each event type promises: by `type/member.member[]`, types, values, presence."""
    return dict(_promises(json.dumps(schema)))


@cache
def _promises(text):
    schema = json.loads(text)
    envelope, bodies = schema["allOf"]
    found = {}
    for body in bodies["anyOf"]:
        rule = _resolved(body, schema)
        (name,) = rule["properties"]["type"]["enum"]
        found[name] = {"types": {"object"}, "values": None, "required": True}
        for part in (_resolved(envelope, schema), rule):
            found |= _inner(name + "/", part, schema)
    return found


def _inner(prefix, rule, schema):
    found = {}
    required = rule.get("required", ())
    for name, one in rule.get("properties", {}).items():
        found |= _member(f"{prefix}{name}", one, schema, name in required)
    return found


def _member(path, rule, schema, required):
    """Return what a member promises, and all that is within it."""
    forms = [_resolved(one, schema) for one in rule.get("anyOf", [rule])]
    values = [value for form in forms for value in form.get("enum", ())]
    types = {_type(form) for form in forms}
    found = {path: {"types": types, "values": values or None, "required": required}}
    for form in forms:
        found |= _inner(f"{path}.", form, schema)
        items = [*form.get("prefixItems", ()), *([form["items"]] if form.get("items") else [])]
        for number, item in enumerate(items):
            found |= _member(f"{path}[{number}]", item, schema, required=True)
        if form.get("additionalProperties"):
            found |= _member(f"{path}{{}}", form["additionalProperties"], schema, required=True)
    return found


def _resolved(rule, schema):
    return schema["$defs"][rule["$ref"].rpartition("/")[2]] if "$ref" in rule else rule


def _type(rule):
    return rule.get("type") or type(rule["enum"][0]).__name__.replace("str", "string")


def mismatch(old, new):
    """Return why a client that relies on `old` cannot read `new`; None: it can."""
    if new is None:
        return "it is gone"
    if not new["types"] <= old["types"] | ({"integer"} if "number" in old["types"] else set()):
        return f"found {new['types']}, expected {old['types']}"
    if old["values"] and not {*(new["values"] or ["anything"])} <= {*old["values"]}:
        return f"found {new['values']}, expected {old['values']}"
    if old["required"] and not new["required"]:
        return "it may be absent"
    return None
