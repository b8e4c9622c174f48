"""Settings of single sources, files of sources, and any text with settings."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamvis.errors import SourceError, UsageError
from streamvis.sources.options import OWN, SETTINGS
from streamvis.sources.spec import SourceSpec, resolve


def only(text: str) -> SourceSpec:
    (spec,) = resolve([text])
    return spec


def refused(text: str) -> str:
    with pytest.raises((UsageError, SourceError)) as error:
        resolve([text])
    return str(error.value)


def test_settings_of_a_connection_have_fields_and_defaults():
    spec = only("rtsp://h/a")
    assert (spec.open_s, spec.read_s, spec.stall_s, spec.retry_s) == (10.0, 5.0, None, 30.0)
    assert (spec.hwaccel, spec.options, spec.reconnects) == (None, {}, True)
    spec = only("rtsp://h/a#open_s=3&read_s=8&stall_s=7.5&retry_s=0&transport=udp&hwaccel=cuda")
    assert (spec.open_s, spec.read_s, spec.stall_s, spec.retry_s) == (3.0, 8.0, 7.5, 0.0)
    assert (spec.hwaccel, spec.options) == ("cuda", {"rtsp_transport": "udp"})
    assert not spec.reconnects
    assert only("0#stall_s=2&hwaccel=auto").hwaccel == "auto"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rtsp://h/a#retry_s=-1", "retry_s=-1, expected a number of at least 0"),
        ("rtsp://h/a#read_s=0", "read_s=0, expected a number above 0"),
        ("rtsp://h/a#read_s=1e6", "below 1000000"),
        ("rtsp://h/a#read_s=5M", "read_s=5M, expected a number above 0"),
        ("rtsp://h/a#read_s=nan", "read_s=nan, expected"),
        ("rtsp://h/a#stall_s=5", "stall_s=5, expected less than read_s=5"),
        ("rtsp://h/a#read_s=2&stall_s=3", "stall_s=3, expected less than read_s=2"),
        ("rtsp://h/a#transport=tcp&rtsp_transport=tcp", "has both transport and rtsp_transport"),
        ("rtsp://h/a#user=joe&password=geheim&password_file=x", "has both password and password_"),
        ("rtsp://h/a#user=joe&password_file=absent", "password_file absent: No such file"),
        ("rtsp://h/a#user=joe&password=gehe@im", "%23 for #, %2F for /, %3F for ?, %40 for @"),
        ("rtsp://h/a#user=joe&password=geheim#x", "what follows '#' is not made of settings"),
        ("rtsp://joe:geheim@h/a#user=jim", "has a user in its address"),
        ("rtsp:/joe:geheim@h/a", "is none of"),
        ("a.b=rtsp://joe:geheim@h/a", "no such file"),
        ("0#user=joe", "has no setting 'user'"),
        ("synthetic:#hwaccel=auto", "has no setting 'hwaccel'"),
        ("http://h/a#transport=tcp", "has no setting 'transport'"),
        ("http://h/a#user_agent=\udcff", "user_agent has bytes that are not UTF-8"),
        ("rtsp://joe:geheim\udcff@h/\udcff", "the name has bytes that are not UTF-8"),
    ],
)
def test_what_cannot_be_meant_is_refused_without_the_password(text, message):
    error = refused(text)
    assert message in error
    assert "heim" not in error
    assert "gehe" not in error


def test_a_file_of_sources_stands_for_its_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"x")
    lines = ["# cameras", "", "gate=rtsp://joe:pw@h/a#read_s=2", " 0 ", "#", "a.mp4", "#1"]
    (tmp_path / "#1").write_bytes(b"x")  # only `# ` begins a comment
    path = tmp_path / "list"
    path.write_text("\r\n".join(lines))
    path.chmod(0o600)
    specs = resolve(["synthetic:", "@list"])
    assert [spec.id for spec in specs] == ["synthetic", "gate", "camera-0", "a", "1"]
    assert (specs[1].uri, specs[1].read_s) == ("rtsp://joe:pw@h/a", 2.0)
    assert capsys.readouterr().err == ""
    path.chmod(0o644)
    resolve(["@list"])
    assert "list holds a password and has the mode 0644" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "absent: No such file"),
        ("", "has no sources"),
        ("# a\n\n#\n", "has no sources"),
        ("0\n@list\n", "names a file of sources in a line"),
        ("gopher://joe:geheim@h", "'gopher:' is none of"),
        ("gate=0\ngate=1", "two sources have the id 'gate'"),
    ],
)
def test_a_file_of_sources_that_cannot_be_used_is_refused(tmp_path, content, words):
    path = tmp_path / ("absent" if content is None else "list")
    if content is not None:
        path.write_text(content)
    error = refused(f"@{path}")
    assert words in error
    assert "heim" not in error


def test_a_file_whose_name_begins_with_an_at_sign_is_a_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("@a.mp4").write_bytes(b"x")
    assert only("@a.mp4").uri == "@a.mp4"


HEADS = ["rtsp://h/a", "http://j:p@h/a", "0", "synthetic:", "a.mp4", "gate=rtsps://h", "rtsp://h/#"]
NAMES = sorted({*OWN, *(name for known in SETTINGS.values() for name in known)})
TEXTS = st.text(st.characters(), max_size=20) | st.sampled_from(["0", "5", "tcp", "auto", "1e400"])


@given(
    st.sampled_from(HEADS) | TEXTS,
    st.lists(st.tuples(st.sampled_from(NAMES) | TEXTS, TEXTS), max_size=4),
)
@example("0", [("user", "/\ud800")])
def test_any_settings_are_accepted_or_refused(head, settings):
    tail = "&".join("=".join(setting) for setting in settings)
    with suppress(UsageError, SourceError):
        for spec in resolve([f"{head}#{tail}"]):
            assert spec.label.encode()
            assert spec.retry_s >= 0
            assert min(spec.open_s, spec.read_s, spec.stall_s or 1) > 0


@pytest.mark.parametrize(
    ("text", "live"),
    [
        ("rtsp://camera/main", True),
        ("http://camera/mjpeg", True),  # or a file: known once it is open
        ("0", True),
        ("synthetic:walkers?live=true", True),
        ("synthetic:walkers", False),
    ],
)
def test_which_sources_may_be_live(text, live):
    (spec,) = resolve([text])
    assert spec.may_be_live == live


def test_a_scene_that_only_another_opener_knows_is_not_taken_as_live():
    assert not SourceSpec(id="a", uri="synthetic:blanks", kind="synthetic").may_be_live
