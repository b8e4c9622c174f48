"""The log goes to stderr, one line for each entry, without credentials."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from streamvis import logs
from streamvis.logs import log, redacted, warn

ROOT = Path(__file__).parents[1]
URL = "rtsp://joe:p%40ss@10.0.0.7:554/live"


@pytest.fixture(params=["console", "json"])
def written(request, monkeypatch, capsys):
    """Log an entry and return its line."""
    monkeypatch.setenv(logs.FORMAT, request.param)

    def entry(level, event, **fields):
        log(level, event, **fields)
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err

    return entry


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
    warn("image skipped", source="gate", why=f"no answer of {URL}")
    expected = {"event": "image skipped", "source": "gate"}
    expected["why"] = "no answer of rtsp://10.0.0.7:554/live"
    assert entries == [("warning", expected)]


def test_json_has_the_time_in_utc_the_level_the_event_and_the_fields(monkeypatch, capsys):
    monkeypatch.setenv(logs.FORMAT, "json")
    fields = {"source": "gate", "attempts": 3, "offset_s": float("nan"), "path": Path("/a b")}
    log("error", "source offline", **fields, skipped=None, of=("a", "b"), at={"n": 1.5})
    entry = json.loads(capsys.readouterr().err)
    assert list(entry)[:3] == ["timestamp", "level", "event"]
    at = datetime.fromisoformat(entry.pop("timestamp"))
    assert at.utcoffset() == timedelta(0)
    assert abs(at - datetime.now(UTC)) < timedelta(minutes=1)
    assert entry == {
        "level": "error",
        "event": "source offline",
        "source": "gate",
        "attempts": 3,
        "offset_s": None,
        "path": "/a b",
        "skipped": None,
        "of": ["a", "b"],
        "at": {"n": 1.5},
    }


@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_every_level_is_written(written, level):
    assert level in written(level, "worker ready", stage="detect")


def test_the_console_has_no_colours_in_a_pipe(monkeypatch, capsys):
    monkeypatch.delenv(logs.FORMAT, raising=False)
    log("info", "source online", source="gate")
    line = capsys.readouterr().err
    assert "\x1b" not in line
    assert line.split()[0].endswith("Z")


def test_no_field_shows_a_password(written):
    said = {"reason": f"Connection to {URL} refused", "all": [URL, {"deep": URL}]}
    line = written("warning", f"lost {URL}", **said, password="p@ss", error=OSError(f"no {URL}"))
    assert "ss@" not in line
    assert "p%40ss" not in line
    assert "p@ss" not in line
    assert "joe" not in line
    assert line.count("rtsp://10.0.0.7:554/live") == 5


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://joe:a/b@c@host/live: refused", "rtsp://host/live: refused"),
        ("cannot open 'http://h/x?user=joe&pwd=1'", "cannot open 'http://h/x?…"),
        ("http://h/user=joe/password=1 is gone", "http://h/… is gone"),
        ("rtsp://a:b@h1,rtsp://c:d@h2", "rtsp://h2"),
        ("feed at tcp://127.0.0.1:5560", "feed at tcp://127.0.0.1:5560"),
        ("mail joe@host about it", "mail joe@host about it"),
        ("one\nforged 2026-01-01", "one\\nforged 2026-01-01"),
        ("\x1b[31mred\x9b", "\\x1b[31mred\\x9b"),
        (os.fsdecode(b"caf\xe9.mp4"), "caf\\udce9.mp4"),
    ],
)
def test_addresses_lose_their_credentials_and_text_its_line_ends(text, shown):
    assert redacted(text) == shown


@given(
    st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1),
    st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1),
)
def test_nothing_between_scheme_and_the_last_at_sign_is_shown(user, password):
    assert redacted(f"no rtsp://{user}:{password}@host/live now") == "no rtsp://host/live now"


@given(st.text())
def test_an_entry_is_one_line(text):
    assert len(redacted(text).encode().splitlines()) <= 1


def test_processes_of_the_run_inherit_the_format(monkeypatch):
    monkeypatch.setenv(logs.FORMAT, "console")
    logs.configure("json")
    code = [sys.executable, "-c", "from streamvis.logs import warn; warn('gone', n=1)"]
    done = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stderr)["n"] == 1
    assert done.stdout == ""


def test_a_log_that_nobody_reads_is_no_reason_to_stop():
    code = "import os; from streamvis.logs import warn\nwarn('a'); print('went on', flush=True)"
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-c", code + "; os._exit(0)"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=writer, check=True)
    finally:
        os.close(writer)
    assert done.stdout == b"went on\n"


def test_without_a_free_descriptor_nothing_is_logged_and_the_process_goes_on():
    code = (
        "import os, resource; from streamvis.logs import warn\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); held = []\n"
        "try:\n    while True: held.append(os.open('/dev/null', os.O_RDONLY))\n"
        "except OSError: pass\n"
        "warn('first')  # modules of structlog cannot be read\n"
        "for fd in held: os.close(fd)\n"
        "warn('second')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert "second" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_line_starts_without_structlog():
    code = "import sys, streamvis.logs, streamvis.cli.main; print('structlog' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b"False\n"
