"""What `streamvis events` says of corrections."""

import pytest
from typer.testing import CliRunner

from streamvis.cli import events
from streamvis.cli.main import app
from streamvis.events import schema
from streamvis.events.log import Cursor, LogWriter, Row


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (
            schema.TrackMerge(schema.Merge(gone="a:1:5", kept="a:1:2")),
            "track.merge   a:1:5 is a:1:2",
        ),
        (
            schema.TrackSplit(
                (
                    schema.Split(id="a:1:5", other="a:1:2", since_us=1_250_000),
                    schema.Split(id="a:1:2", other="a:1:5", since_us=1_300_000),
                )
            ),
            "a:1:5 was a:1:2 from 1.250 s on, a:1:2 was a:1:5 from 1.300 s on",
        ),
    ],
)
def test_a_correction_for_people(what, words):
    told = events.line(event_of(what))
    assert words in told
    assert "\n" not in told


def event_of(what, offset=0):
    return schema.Event(
        id="",
        source="a",
        epoch="e",
        tseq=offset + 1,
        offset=offset,
        time=schema.Time(media_us=40_000 * offset),
        frame=schema.FrameRef(n=offset, seq=offset, w=640, h=480, stream_epoch=1),
        what=what,
    )


def seen(number):
    return schema.TrackBegin(
        schema.Track(
            id=f"a:1:{number}",
            box_px=(0.0, 0.0, 10.0, 20.0),
            box_from="update",
            score=0.8,
            vel_px_s=(0.0, 0.0),
            cov_diag=(1.0, 1.0, 1.0, 1.0),
            p_exist=0.75,
            assoc=schema.Association(),
            first_seen_us=0,
            age_s=0.0,
        )
    )


@pytest.mark.parametrize(("options", "ids"), [([], "22"), (["--as-told"], "52")])
@pytest.mark.parametrize("to_file", [False, True])
def test_tracks_are_exported_put_right_or_as_told(tmp_path, options, ids, to_file):
    merge = schema.TrackMerge(schema.Merge(gone="a:1:5", kept="a:1:2"))
    whats = [seen(5), merge, seen(2)]
    log = LogWriter(tmp_path / "events.db")
    rows = [
        Row("a", event.offset, event.tseq, event.type, event.time.media_us, schema.encode(event))
        for event in map(event_of, whats, range(3))
    ]
    log.commit(rows, [Cursor("a", "e", 0, 3, "eof", b"")])
    log.close()
    out = ["--out", str(tmp_path)] if to_file else []
    result = CliRunner().invoke(
        app, ["events", "export", str(tmp_path), "--format", "mot", *out, *options]
    )
    assert result.exit_code == 0, result.output
    text = (tmp_path / "tracks.txt").read_text() if to_file else result.stdout
    assert "".join(line.split(",")[1] for line in text.splitlines()) == ids
