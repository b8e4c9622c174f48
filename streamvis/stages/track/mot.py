"""Export the tracks of an event log as MOTChallenge text."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from streamvis.events.codec import Codec
from streamvis.events.export import replacing
from streamvis.events.log import LogReader, Row
from streamvis.stages.track.corrections import Corrections, corrected_tracks
from streamvis.stages.track.events import TRACK_EVENTS, Track

EPOCH_STRIDE = 1_000_000  # track 7 of stream epoch 3 is number 2 000 007 in MOTChallenge text

_codec = Codec([TRACK_EVENTS])


def write_tracks(
    log_path: Path, out_dir: Path, source: str | None = None, *, as_published: bool = False
) -> list[Path]:
    """MOTChallenge text of the latest run in the log; returns the files written.

    `source`: of this one alone. A log of one source gives `tracks.txt`, one of several
    `tracks-<source>.txt`. With `update_every_s` set, the files have only the published frames.
    Corrections in the log are applied, unless `as_published`: tracks as first published, to score
    an online tracker.
    """
    with LogReader(log_path) as log:
        sources = log.sources()
        written = []
        for one in sources if source is None else [source]:
            path = out_dir / ("tracks.txt" if len(sources) == 1 else f"tracks-{one}.txt")
            rows = log.latest(one, types=["track"])
            corrections = Corrections() if as_published else corrections_of(log, one)
            with replacing(path) as file:
                file.writelines(mot_lines(rows, corrections))
            written.append(path)
    return written


def corrections_of(log: LogReader, source: str | None = None) -> Corrections:
    """The corrections of the latest run in a log."""
    rows = log.latest(source, types=["track.split", "track.merge"])
    return Corrections(_codec.decode(row.payload) for row in rows)


def mot_lines(rows: Iterable[Row], corrections: Corrections) -> Iterator[str]:
    """`frame,id,left,top,width,height,p_exist,x,y,z`: frames from 1, metres or -1."""
    events = (_codec.decode(row.payload) for row in rows)
    for event, track in corrected_tracks(events, corrections):
        if event.frame:
            yield _mot_line(event.frame.n + 1, track)


def _mot_line(frame: int, track: Track) -> str:
    _, epoch, number = track.id.split(":")
    left, top, right, bottom = track.box_px
    name = int(number) + EPOCH_STRIDE * (int(epoch) - 1)
    where = f"{track.ground_m[0]:.3f},{track.ground_m[1]:.3f},0" if track.ground_m else "-1,-1,-1"
    return (
        f"{frame},{name},{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f},"
        f"{track.p_exist:.4f},{where}\n"
    )
