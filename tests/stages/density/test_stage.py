"""Density: cells against a count by hand, intervals, and successors that continue exactly."""

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from factories import packet, source, tracks
from hypothesis import given
from hypothesis import strategies as st

from streamvis.config import load_pipeline
from streamvis.errors import ConfigError, DataError
from streamvis.messages import decode_part, encode_part
from streamvis.stages.density import DensityMap
from streamvis.stages.density.stage import DensityStage

INTERVAL_S = 0.5  # five frames


def stage_of(**settings):
    stage = DensityStage(DensityMap(**{"interval_s": INTERVAL_S, **settings}))
    stage.begin(source("a", ground_plane=(1, 0, 0, 0, 1, 0, 0, 0, 1)), None)
    return stage


def people_at(feet, **changes):
    """Tracks with these foot points."""
    boxes = [(x - 5, y - 40, x + 5, y) for x, y in feet]
    return tracks(range(1, len(feet) + 1), np.reshape(boxes, (-1, 4)), **changes)


feet = st.lists(st.tuples(st.integers(-30, 670), st.integers(-30, 510)), max_size=8)


@given(st.lists(st.none() | feet, min_size=6, max_size=30), st.sampled_from([40, 64, 100]))
def test_the_means_of_an_interval_are_those_counted_by_hand(frames, cell):
    """None: the tracker skipped the frame. 40 px divide the frame evenly, 64 and 100 do not."""
    packets = [packet(k, None if f is None else people_at(f)) for k, f in enumerate(frames)]
    ended = [part for part in stage_of(cell_px=cell)(packets) if part.frames]
    expected = []
    for first in range(0, len(frames) - 5, 5):  # its means come with the next interval's frame
        tracked = [f for f in frames[first : first + 5] if f is not None]
        inside = [(x, y) for f in tracked for x, y in f if 0 <= x < 640 and 0 <= y < 480]
        counts = Counter((x // cell, y // cell) for x, y in inside)
        if tracked:
            means = {at: n / len(tracked) for at, n in counts.items()}
            expected.append((first * 100_000, len(tracked), means))
    assert [(part.start_us, part.frames) for part in ended] == [one[:2] for one in expected]
    for part, (_, _, means) in zip(ended, expected, strict=True):
        counted = dict(zip(map(tuple, part.cells.tolist()), part.people.tolist(), strict=True))
        assert counted == pytest.approx(means)
        assert part.end_us - part.start_us == 500_000


@given(st.lists(feet, min_size=1, max_size=20), st.integers(0, 19), st.data())
def test_a_successor_continues_exactly(frames, cut, data):
    epochs = np.cumsum(data.draw(st.lists(st.integers(0, 9), min_size=20, max_size=20))) // 9
    packets = [packet(k, people_at(f), epoch=1 + int(epochs[k])) for k, f in enumerate(frames)]
    one, other = stage_of(), stage_of()
    parts = [*one(packets)]
    first = [*other(packets[:cut])]
    heir = DensityStage(other.config)
    heir.begin(source("a"), other.state("a"))
    assert list(map(encode_part, [*first, *heir(packets[cut:])])) == list(map(encode_part, parts))


def test_a_new_stream_epoch_or_size_begins_a_new_interval():
    stage = stage_of()
    before = [packet(k, people_at([(10, 10)])) for k in range(4)]
    after = [packet(k, people_at([(10, 10)]), epoch=2) for k in range(6)]
    assert [part.frames for part in stage([*before, *after])] == [0] * 9 + [5]
    smaller = [packet(k, people_at([(10, 10)]), epoch=2, size=(320, 240)) for k in range(6, 12)]
    assert [part.frames for part in stage(smaller)] == [0] * 5 + [5]


def test_an_interval_without_frames_is_left_out():
    parts = [*stage_of()([packet(k, people_at([(10, 10)])) for k in (0, 1, 30, 31)])]
    assert [(part.start_us, part.frames) for part in parts] == [
        *((0, 0), (0, 0)),
        *((0, 2), (3_000_000, 0)),
    ]


def test_on_the_ground_plane_cells_are_metres():
    ground = np.array([(-0.5, 3.9), (1.2, 4.1), (np.nan, np.nan), (1e30, 0)], np.float32)
    people = msgspec.structs.replace(
        people_at([(10, 10), (20, 20), (30, 30), (40, 40)]), ground=ground
    )
    parts = [*stage_of(cell_m=2.0)([packet(k, people) for k in range(6)])]
    assert parts[-1].cells.tolist() == [[-1, 1], [0, 2]]
    assert parts[-1].people.tolist() == [1.0, 1.0]
    assert (parts[-1].cell, parts[-1].unit) == (2.0, "m")
    assert encode_part(decode_part(encode_part(parts[-1]))) == encode_part(parts[-1])


def test_metres_without_a_ground_plane_are_refused():
    with pytest.raises(
        ConfigError, match=r"source a: density has cell_m 2, but .* no ground plane"
    ):
        DensityStage(DensityMap(cell_m=2)).begin(source("a"), None)


def test_a_state_of_something_else_is_refused():
    with pytest.raises(DataError, match="source a: not the state of a stage of kind density"):
        DensityStage(DensityMap()).begin(source("a"), b"no")


def test_its_pipeline_loads():
    pipeline = load_pipeline(Path("density"), {"density.cell_m": "2"})
    assert pipeline.stage("density").run == DensityMap(cell_px=64, cell_m=2, interval_s=10)
