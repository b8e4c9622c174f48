"""The timeline and the sheet of identity switches, of tracks whose switches are known."""

from dataclasses import replace

import numpy as np
import pytest

from streamvis.datasets.motchallenge import read_sequences, rows
from streamvis.errors import DataError
from streamvis.evaluation import identities
from streamvis.runners.sheets import tracking as sheets
from streamvis.runners.tracker_inputs import Cues
from streamvis.runners.tracking import TrackerRun, TrackingResult
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence

FRAMES = 10


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    scene = SyntheticScene(seed=3, people=1, size=(160, 120), fps=5, seconds=FRAMES / 5)
    (one,) = read_sequences(write_sequence(tmp_path_factory.mktemp("s") / "street", scene))
    walk = np.arange(1, FRAMES + 1)
    boxes = [[40 + n, 20, 60 + n, 80] for n in walk]
    return replace(one, layout="MOT15", truth=rows(walk, np.full(FRAMES, 3), boxes))


def result_of(sequence, found: dict[int, list[int]], strays: int = 0) -> TrackingResult:
    """Tracks (id -> frames) on the one person, and false boxes aside."""
    frames = [frame for seen in found.values() for frame in seen]
    ids = [track for track, seen in found.items() for _ in seen]
    boxes = [sequence.truth.boxes[frame - 1].tolist() for frame in frames]
    frames += list(range(1, strays + 1))
    ids += [99] * strays
    boxes += [[120, 20, 140, 80]] * strays
    return TrackingResult(sequence, TrackerRun(rows(frames, ids, boxes), FRAMES, 1.0), Cues())


def traces_of(*results):
    return [identities.follow(one.sequence, one.run.rows, "image") for one in results]


def test_a_timeline_counts_what_the_trace_has(sequence):
    result = result_of(sequence, {5: [1, 2, 3], 9: [6, 7, 8]}, strays=2)
    traces = traces_of(result)
    (panel,) = sheets.timeline_panels([result], traces)
    assert (panel.title, panel.frames, panel.fps) == ("street", FRAMES, 5)
    assert panel.note == "1 people, 3 tracks; of 10 boxes 4 missed, 2 false, 1 switch"
    assert panel.lives == traces[0].lives()
    assert panel.strays == traces[0].strays()


@pytest.mark.parametrize(
    ("found", "gap"),
    [
        ({5: [1, 2, 3], 9: [4, 5, 6]}, "at once"),
        ({5: [1, 2, 3], 9: [5, 6]}, "lost for 1 frame, 0.2 s"),
        ({5: [1, 2, 3], 9: [6, 7, 8]}, "lost for 2 frames, 0.4 s"),
    ],
)
def test_a_switch_is_shown_by_its_last_and_first_frame(found, gap, sequence, monkeypatch):
    taken = []
    monkeypatch.setattr(sheets, "switch_page", lambda title, pairs: taken.append((title, pairs)))
    result = result_of(sequence, found)
    sheets.switch_sheet([result], traces_of(result))
    ((title, (pair,)),) = taken
    assert title == "street: 1 id switch"
    assert pair.lines == ("street, person 3: track 5 -> 9", gap)
    assert pair.before.shape == pair.after.shape
    assert not np.array_equal(pair.before, pair.after)


def test_an_old_track_that_went_elsewhere_is_said(sequence, monkeypatch):
    taken = []
    monkeypatch.setattr(sheets, "switch_page", lambda title, pairs: taken.extend(pairs))
    result = result_of(sequence, {99: [4, 5, 6], 9: [7, 8]}, strays=0)
    away = rows([7], [99], [[120, 20, 140, 80]])
    both = rows(
        np.append(result.run.rows.frames, away.frames),
        np.append(result.run.rows.ids, away.ids),
        np.vstack([result.run.rows.boxes, away.boxes]),
    )
    result = replace(result, run=result.run._replace(rows=both))
    sheets.switch_sheet([result], traces_of(result))
    assert [pair.lines[1] for pair in taken] == ["at once; track 99 is elsewhere"]


def test_a_page_has_as_many_switches_as_fit_and_says_so(sequence, monkeypatch):
    monkeypatch.setattr(sheets, "MOST_SWITCHES", 2)
    taken = []
    monkeypatch.setattr(sheets, "switch_page", lambda title, pairs: taken.append((title, pairs)))
    result = result_of(sequence, {n: [n] for n in range(1, 6)})
    sheets.switch_sheet([result], traces_of(result))
    ((title, pairs),) = taken
    assert title == "street: 4 id switches, the first 2 of them"
    assert len(pairs) == 2


def test_without_switches_a_page_is_drawn_and_a_short_video_is_refused(sequence):
    calm = result_of(sequence, {5: list(range(1, 11))})
    assert sheets.switch_sheet([calm], traces_of(calm)).dtype == np.uint8
    truth = rows([1, FRAMES + 3], [3, 3], [[40, 20, 60, 80]] * 2)
    longer = replace(sequence, truth=truth, length=FRAMES + 3)
    found = rows([1, FRAMES + 3], [5, 9], truth.boxes)
    late = TrackingResult(longer, TrackerRun(found, FRAMES + 3, 1.0), Cues())
    with pytest.raises(DataError, match=r"street: the video ends before frame 13$"):
        sheets.switch_sheet([late], traces_of(late))
