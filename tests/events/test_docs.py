"""The examples and tables of the pages about events are those of the code."""

import json
import re
import textwrap
from pathlib import Path

import pytest
from events.event_tables import BLOCK, filled

from streamvis.events.envelope import Event, encode
from streamvis.events.export import columns_of
from streamvis.stages import event_codec

DOCS = Path(__file__).parents[2] / "docs"
PATHS = [DOCS / "events.md", DOCS / "zone-events.md"]
PATHS += [DOCS / "density.md", DOCS / "poses.md"]
PAGE = "".join(path.read_text() for path in PATHS)
GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: json.loads(text)["type"])
def test_an_example_is_what_is_encoded(text):
    value = json.loads(text)
    event = event_codec().decode(text.encode())
    assert json.loads(encode(event)) == value
    assert json.loads((GOLDEN / f"{event.type}.json").read_bytes()) == value


def test_each_family_has_an_example():
    types = {json.loads(text)["type"] for text in EXAMPLES}
    assert {name.partition(".")[0] for name in types} == set(event_codec().families)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_tables_are_those_of_the_types(path, golden):
    golden(path, filled(path.read_text()))


def test_each_family_has_a_table():
    tables = {word for words in BLOCK.findall(PAGE) for word in words[1].split()}
    assert {*event_codec().families} <= tables


def test_each_type_and_envelope_member_is_described():
    for kind in event_codec().types:
        assert str(kind.__struct_config__.tag) in PAGE
    envelope = {*Event.__struct_fields__} - {"attachments", "what"}
    assert envelope <= set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))


def test_the_csv_table_lists_the_columns_in_order():
    table = PAGE.partition("## CSV")[2].partition("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == columns_of(event_codec())


@pytest.mark.parametrize("text", re.findall(r" *```python\n(.*?)```", PAGE, re.DOTALL))
def test_python_snippets_compile(text):
    compile(textwrap.dedent(text), "docs", "exec")
