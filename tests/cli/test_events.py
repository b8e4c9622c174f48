"""What `streamvis events` says of corrections and scenes."""

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


BOX = {"share": 0.1, "box_px": (0.0, 1.0, 64.0, 480.0), "p": 0.9, "since_us": 5}
SHARES = {"sky": 0.25, "road": 0.4, "car": 0.05, "tree": 0.3}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (
            schema.SceneUpdate(schema.Scene(classes=SHARES, unknown=schema.Unknown(share=0.0125))),
            "scene.update  road 40%, tree 30%, sky 25%; unknown 1.2%",
        ),
        (schema.SceneUpdate(schema.Scene(classes={"sky": 1.0})), "scene.update  sky 100%"),
        (schema.UnknownBegin(schema.Sighting(**BOX)), "0.0     1.0    64.0   480.0  p=0.90"),
        (
            schema.UnknownEnd(schema.EndedSighting(**BOX, share_max=0.2, reason="over")),
            "480.0  p=0.90 (over)",
        ),
        (
            schema.ForecastSegmentation(
                schema.Outlook(
                    horizon_us=600_000,
                    target_us=700_000,
                    classes=SHARES,
                    zones=(schema.ZoneForecast(zone="crossing", p=0.8),),
                )
            ),
            "in 0.6 s: road 40%, tree 30%, sky 25%; crossing p=0.80",
        ),
        (
            schema.ForecastScored(
                schema.Score(made_us=1, horizon_us=200_000, miou=0.617, accuracy=0.9)
            ),
            "made 0.2 s ago: mIoU 0.62",
        ),
    ],
)
def test_a_scene_for_people(what, words):
    assert events.line(event_of(what)).endswith(words)


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
