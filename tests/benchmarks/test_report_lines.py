"""Reports as lines: every value under the names of the mappings around it."""

from streamvis.benchmarks.report_lines import lines_of


def test_every_value_is_a_line_under_its_names():
    report = {"fps": 9.5, "parts": {"decode": {"ms": 1, "share": None}, "track": 2}, "none": {}}
    name, *values = lines_of({"pipeline": report})
    assert name == "pipeline"
    assert [line.rsplit(None, 1) for line in values] == [
        ["  fps", "9.5"],
        ["  parts: decode: ms", "1"],
        ["  parts: decode: share", "None"],
        ["  parts: track", "2"],
    ]
    assert list(lines_of({"a": {}, "b": {}})) == ["a", "b"]
