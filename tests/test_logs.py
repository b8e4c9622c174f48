"""Warnings go to stderr: standard output is data's."""

import structlog

from streamvis.logs import warn


def test_a_warning_leaves_standard_output_alone(capsys):
    warn("image skipped", source="gate", number=7)
    out, err = capsys.readouterr()
    assert out == ""
    assert all(piece in err for piece in ("image skipped", "gate", "7", "warning"))


def test_warnings_go_to_a_configured_structlog():
    entries = []

    def keep(_, name, entry):
        entries.append((name, dict(entry)))
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    warn("image skipped", source="gate")
    assert entries == [("warning", {"event": "image skipped", "source": "gate"})]
