"""Zones and tracks have the same colours in the annotated video and on all pages."""

import re
from importlib import resources

import pytest

from streamvis.viz.style import PALETTE

STATIC = resources.files("streamvis.web") / "static"


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("overlay.js", r"PALETTE = \[(.*?)\]"),
        ("zones.css", r"((?:\.colour-\d+ \{ --shape: #\w{6}; \}\n)+)"),
    ],
)
def test_the_palette_is_that_of_the_annotated_video(name, pattern):
    text = (STATIC / name).read_text()
    found = re.findall(r"#(\w{6})", re.search(pattern, text, re.DOTALL)[1])
    assert [tuple(bytes.fromhex(one)) for one in found] == list(PALETTE)


def test_the_zones_page_uses_all_of_them():
    for name in ("zone_canvas.js", "zone_panel.js"):
        assert f"const COLOURS = {len(PALETTE)};" in (STATIC / name).read_text()
