"""The recorder: which files it leaves, what is in them, and what a successor does with them."""

import os
import shutil

import av
import msgspec
import numpy as np
import pytest
from factories import packet as packet_of
from factories import source as source_of

from streamvis.calibration.ground_plane import from_view
from streamvis.errors import ConfigError
from streamvis.geometry import to_ground
from streamvis.messages import (
    Detections,
    Forecast,
    HorizonForecast,
    Packet,
    Receipt,
    Score,
    Segmentation,
    Tracks,
)
from streamvis.stages.detect import MaskRcnn
from streamvis.stages.forecast import Forecaster
from streamvis.stages.protocol import LogPosition, Site
from streamvis.stages.record import Record
from streamvis.stages.record.stage import RecordStage
from streamvis.stages.segment import Segment
from streamvis.stages.track import Jipda
from streamvis.viz.scene import palette_of
from streamvis.viz.style import colour_of

WIDTH, HEIGHT = 128, 96


def grey(frame):
    pixels = np.full((frame.height, frame.width, 3), 90, np.uint8)
    pixels.flags.writeable = False
    return pixels


ABOVE = (MaskRcnn(), Jipda(), Segment(), Forecaster())


def recorder(out, above=ABOVE, **config):
    return RecordStage(Record(**config), Site(device="cpu", pixels=grey, out=out, above=above))


def source(id_="cam1", epoch=1, **fields):
    return source_of(id_, size=(WIDTH, HEIGHT), epoch=epoch, **fields)


def packet(seq, id_="cam1", epoch=1, media_us=None, x=None, size=(WIDTH, HEIGHT), track=1):
    """A frame with one person whose box starts at x; None: stages above were skipped."""
    parts = [] if x is None else [found(x), followed(x, track)]
    media_us = 100_000 * seq if media_us is None else media_us
    return packet_of(seq, *parts, source=id_, media_us=media_us, size=size, epoch=epoch)


def found(x):
    return Detections(
        boxes=np.array([[x, 20, x + 20, 70]], np.float32),
        scores=np.ones(1, np.float32),
        labels=np.ones(1, np.int32),
        masks=np.full((1, 28, 28), 255, np.uint8),
    )


def followed(x, track):
    one = np.ones(1, np.float32)
    return Tracks(
        ids=np.array([track]),
        boxes=np.array([[x, 20, x + 20, 70]], np.float32),
        scores=one,
        existence=one,
        velocity=np.zeros((1, 2), np.float32),
        covariance=np.ones((1, 4), np.float32),
        ground=np.full((1, 2), np.nan, np.float32),
        entropy=np.zeros(1, np.float32),
        gated=np.ones(1, np.int32),
        detection=np.zeros(1, np.int32),
        first_seen_us=np.zeros(1, np.int64),
        ended=np.zeros(0, np.int64),
    )


def film(path):
    """Times in ms and RGB pictures."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        times = [round(float(1000 * frame.pts * stream.time_base)) for frame in frames]
        return times, [frame.to_ndarray(format="rgb24") for frame in frames]


def names(out):
    return sorted(path.name for path in out.iterdir())


def test_a_run_of_one_source_leaves_annotated_mp4(tmp_path):
    stage = recorder(tmp_path / "out")
    stage.begin(source(), None)
    assert stage([packet(i, x=5 * i) for i in range(6)]) == [Receipt(written=1)] * 6
    stage.finish("cam1", "eof")
    stage.close()
    assert names(tmp_path / "out") == ["annotated.mp4"]
    times, images = film(tmp_path / "out/annotated.mp4")
    assert times == [0, 100, 200, 300, 400, 500]
    assert np.abs(images[4][70, 25:35].astype(int) - colour_of(1)).mean() < 40  # the box's edge


def test_several_sources_leave_a_film_each(tmp_path):
    stage = recorder(tmp_path)
    stage.begin(source("cam1"), None)
    stage([packet(0)])
    stage.begin(source("cam2"), None)
    stage([packet(0, "cam2"), packet(1), packet(1, "cam2"), packet(2)])
    stage.finish("cam2", "eof")
    stage.close()
    assert names(tmp_path) == ["annotated-cam1.mp4", "annotated-cam2.mp4"]
    assert len(film(tmp_path / "annotated-cam1.mp4")[0]) == 3
    assert len(film(tmp_path / "annotated-cam2.mp4")[0]) == 2


def test_sources_one_after_another_leave_a_film_each(tmp_path):
    stage = recorder(tmp_path)
    for id_ in ("cam1", "cam2"):
        stage.begin(source(id_), None)
        stage([packet(0, id_)])
        stage.finish(id_, "eof")
    stage.close()
    assert names(tmp_path) == ["annotated-cam1.mp4", "annotated-cam2.mp4"]


def test_media_times_are_kept(tmp_path):
    stage = recorder(tmp_path)
    stage.begin(source(), None)
    stage([packet(i, media_us=us) for i, us in enumerate([0, 33_000, 500_000, 510_000])])
    stage.close()
    assert film(tmp_path / "annotated.mp4")[0] == [0, 33, 500, 510]


def test_the_first_second_has_a_legend(tmp_path):
    stage = recorder(tmp_path)
    stage.begin(source(), None)
    stage([packet(i, x=200, size=(320, 240)) for i in range(3, 16)])
    stage.close()
    times, images = film(tmp_path / "annotated.mp4")
    dark = [bool((image[160:210, 5:150] < 60).mean() > 0.3) for image in images]
    assert dark == [time < times[0] + 1000 for time in times]


def test_a_successor_goes_on_in_the_next_part_with_the_trails(tmp_path):
    first = recorder(tmp_path)
    first.begin(source(), None)
    first([packet(i, x=4 * i) for i in range(15)])
    state = first.state("cam1")  # and then: kill -9
    before = (tmp_path / "annotated-cam1.mp4").read_bytes()

    second = recorder(tmp_path)
    second.begin(source(), state)
    second([packet(15, x=60)])
    assert (tmp_path / "annotated-cam1.mp4").read_bytes() == before
    second.finish("cam1", "eof")
    second.close()
    assert names(tmp_path) == ["annotated.1.mp4", "annotated.mp4"]
    assert len(film(tmp_path / "annotated.mp4")[0]) >= 10
    (picture,) = film(tmp_path / "annotated.1.mp4")[1]
    trail = np.abs(picture[70, 40:56].astype(int) - 90).max(axis=1)  # left of the box
    assert (trail > 25).mean() > 0.8
    first.close()


def test_a_successor_answers_as_its_predecessor_would_have(tmp_path):
    one, other = recorder(tmp_path / "a"), recorder(tmp_path / "b")
    for stage in (one, other):
        stage.begin(source(), None)
        stage([packet(i, x=4 * i) for i in range(5)])
    resumed = recorder(tmp_path / "b")
    resumed.begin(source(), other.state("cam1"))
    one([packet(5, x=30)])
    resumed([packet(5, x=30)])
    undisturbed, after = (msgspec.msgpack.decode(s.state("cam1")) for s in (one, resumed))
    for stage in (one, other, resumed):
        stage.close()
    assert after[0] == undisturbed[0] + 1  # the part
    np.testing.assert_equal(after[1:], undisturbed[1:])  # NaN equals NaN here


def test_each_crash_starts_its_own_part(tmp_path):
    state, stages = None, []
    for crash in range(3):
        stage = recorder(tmp_path)
        stage.begin(source(), state)
        stage([packet(crash)])
        state = stage.state("cam1")
        stages.append(stage)
    assert names(tmp_path) == [
        "annotated-cam1.1.mp4",
        "annotated-cam1.2.mp4",
        "annotated-cam1.mp4",
    ]
    for stage in stages[:2]:  # what the kernel does to the dead
        for recording in stage.recordings.values():
            recording.close()
    stages[2].close()
    assert names(tmp_path) == ["annotated.1.mp4", "annotated.2.mp4", "annotated.mp4"]


def test_a_successor_knows_that_the_run_had_other_sources(tmp_path):
    first = recorder(tmp_path)
    first.begin(source("cam1"), None)
    first.begin(source("cam2"), None)
    first([packet(0, "cam1"), packet(0, "cam2")])
    second = recorder(tmp_path)
    second.begin(source("cam2"), first.state("cam2"))
    second([packet(1, "cam2")])
    second.close()
    assert "annotated-cam2.1.mp4" in names(tmp_path)
    for recording in first.recordings.values():
        recording.close()


def test_a_reconnect_goes_on_in_the_same_film(tmp_path):
    stage = recorder(tmp_path)
    stage.begin(source(), None)
    stage([packet(i, x=4 * i) for i in range(3)])
    stage([packet(3 + i, epoch=2, media_us=50_000 * i, x=90) for i in range(3)])
    stage.close()
    times, pictures = film(tmp_path / "annotated.mp4")
    assert times == [0, 100, 200, 300, 350, 400]
    old_trail = pictures[3][69:72, 10:60].astype(int)
    assert np.abs(old_trail - 90).max() < 30  # ids start anew, so the old trails are gone


def test_trails_last_as_long_in_media_time_as_asked(tmp_path):
    pictures = {}
    for trail_s in (0.0, 0.5, 3.0):
        stage = recorder(tmp_path / str(trail_s), trail_s=trail_s, masks=False)
        stage.begin(source(), None)
        stage([packet(i, x=8 * i) for i in range(11)])
        stage.close()
        pictures[trail_s] = film(tmp_path / str(trail_s) / "annotated.mp4")[1][-1].astype(int)
    width = {
        trail_s: int((np.abs(picture[69:72, :78] - 90).max(axis=(0, 2)) > 25).sum())
        for trail_s, picture in pictures.items()
    }
    assert width[0.0] == 0
    assert 0 < width[0.5] < 45 < width[3.0]


def two(seq, left, right, split=None):
    """A frame with two people, at x 10 and 90, by these ids."""
    tracks = msgspec.structs.replace(
        joined(followed(10, left), followed(90, right)),
        split=None if split is None else np.array(split),
    )
    return Packet(frame=packet(seq).frame, parts=[tracks])


def joined(one, other):
    by_id = sorted((one, other), key=lambda tracks: tracks.ids[0])
    return msgspec.structs.replace(
        one,
        **{
            name: np.concatenate([getattr(tracks, name) for tracks in by_id])
            for name in one.__struct_fields__
            if isinstance(getattr(one, name), np.ndarray)
        },
    )


def test_a_swap_that_was_found_out_draws_no_line_across(tmp_path):
    inked = {}
    for name, split in (("mixed up", None), ("found out", [[1, 2, 500_000], [2, 1, 500_000]])):
        stage = recorder(tmp_path / name)
        stage.begin(source(), None)
        stage([two(seq, 1, 2) for seq in range(5)])
        stage([two(seq, 2, 1) for seq in range(5, 10)])
        stage([two(10, 1, 2, split)])
        stage.close()
        last = film(tmp_path / name / "annotated.mp4")[1][-1].astype(int)
        inked[name] = (np.abs(last[69:72, 40:80] - 90).max(axis=2) > 25).mean()
    assert inked["mixed up"] > 0.3
    assert inked["found out"] == 0


def test_frames_whose_stages_were_skipped_are_recorded_bare(tmp_path):
    stage = recorder(tmp_path)
    stage.begin(source(), None)
    stage([packet(0, x=10), packet(1), packet(2, x=20)])
    stage.close()
    assert len(film(tmp_path / "annotated.mp4")[0]) == 3


def test_a_change_of_size_is_letterboxed(tmp_path):
    stage = recorder(tmp_path)
    stage.begin(source(), None)
    stage([packet(0), packet(1, size=(61, 201)), packet(2, size=(WIDTH, HEIGHT))])
    stage.close()
    assert [image.shape for image in film(tmp_path / "annotated.mp4")[1]] == [(96, 128, 3)] * 3


H = from_view(4, 25, 120, (WIDTH, HEIGHT))
PLANE = tuple(H.ravel())


def on_the_ground(x):
    """What the tracker says of the same person when it works in metres."""
    place, _ = to_ground(H, np.array([[x + 10.0, 70.0]]))
    return msgspec.structs.replace(
        followed(x, 1),
        ground=place.astype(np.float32),
        space="ground",
        ground_velocity=np.zeros((1, 2), np.float32),
        ground_covariance=np.full((1, 2, 2), 0.1, np.float32) * np.eye(2, dtype=np.float32),
    )


def grounded(seq, x):
    return Packet(frame=packet(seq).frame, parts=[found(x), on_the_ground(x)])


def test_the_map_lies_beside_the_picture_and_covers_none_of_it(tmp_path):
    films = {}
    for name, plane in (("bare", None), ("mapped", PLANE)):
        stage = recorder(tmp_path / name)
        stage.begin(source(ground_plane=plane), None)
        stage([grounded(i, 10 + 5 * i) for i in range(4)])
        stage.close()
        films[name] = film(tmp_path / name / "annotated.mp4")[1]
    bare, mapped = (films[name][3].astype(int) for name in ("bare", "mapped"))
    assert bare.shape == (HEIGHT, WIDTH, 3)
    assert mapped.shape[0] == HEIGHT
    assert 1.25 * WIDTH < mapped.shape[1] < 1.65 * WIDTH
    assert np.abs(mapped[:, :WIDTH] - bare).mean() < 4
    dots = np.abs(mapped[:, WIDTH:] - colour_of(1)).max(axis=2) < 70
    assert dots.any()


def test_the_map_is_there_before_and_without_people_and_goes_on_after_a_change_of_size(tmp_path):
    stage = recorder(tmp_path)
    stage.begin(source(ground_plane=PLANE), None)
    stage([packet(0), packet(1, x=20), grounded(2, 20), packet(3, x=30, size=(2 * WIDTH, HEIGHT))])
    stage.close()
    sizes = {image.shape for image in film(tmp_path / "annotated.mp4")[1]}
    assert len(sizes) == 1


LABELS = ("road", "car")
HORIZONS_US = (200_000, 600_000)


def street(seq, x=None, epoch=1, sampled=True):
    """A frame of a street of which a car is forecast everywhere, or of one between two samples."""
    frame = packet(seq, x=x, epoch=epoch)
    came = [
        Score(made_us=made, horizon_us=horizon, miou=0.5, accuracy=0.5)
        for horizon in HORIZONS_US
        if (made := 100_000 * seq - horizon) >= 0
    ]
    classes = np.zeros((24, 32), np.uint8)
    horizons = tuple(
        HorizonForecast(horizon_us=horizon, classes=classes + 1) for horizon in HORIZONS_US
    )
    if sampled:
        unknown = np.full((6, 8), 250, np.uint8)
        frame.parts.append(Segmentation(labels=LABELS, classes=classes, unknown=unknown))
        frame.parts.append(Forecast(labels=LABELS, horizons=horizons, scores=tuple(came)))
    return frame


def test_the_scene_and_its_future_are_drawn_around_the_picture(tmp_path):
    stage = recorder(tmp_path)
    stage.begin(source(), None)
    stage([street(i, x=5 * i, sampled=i % 2 == 0) for i in range(12)])
    stage.close()
    times, pictures = film(tmp_path / "annotated.mp4")
    assert len(times) == 12
    (size,) = {picture.shape for picture in pictures}
    assert size[1] == 2 * WIDTH
    assert size[0] > 2 * HEIGHT
    road, car = (0.4 * 90 + 0.6 * np.array(colour) for colour in palette_of(LABELS))
    inside = np.s_[30 : HEIGHT - 8, 8 : WIDTH - 8]
    for picture in pictures[:6]:
        assert np.abs(picture[HEIGHT : 2 * HEIGHT, :WIDTH][inside] - road).mean() < 12
        assert picture[HEIGHT : 2 * HEIGHT, WIDTH:][inside].mean() < 30  # it has not come yet
    for picture in pictures[6:]:
        assert np.abs(picture[HEIGHT : 2 * HEIGHT, WIDTH:][inside] - car).mean() < 12
    glow = pictures[4][:HEIGHT, :WIDTH][inside].astype(int)
    assert (glow[..., 1] - glow[..., 0]).mean() > 60  # cyan


def test_the_horizon_that_is_wanted_comes_sooner(tmp_path):
    stage = recorder(tmp_path, horizon_s=0.2)
    stage.begin(source(), None)
    stage([street(i) for i in range(3)])
    assert stage.recordings["cam1"].overlays["forecast"].came is not None
    stage.close()


def test_a_successor_has_the_same_panels_and_sees_the_rest_anew(tmp_path):
    stage = recorder(tmp_path / "a")
    stage.begin(source(), None)
    stage([street(i) for i in range(30)])
    state = stage.state("cam1")
    assert len(state) < 500  # pictures of forecasts are not in it
    stage.close()
    heir = recorder(tmp_path / "b")
    heir.begin(source(), state)
    heir([street(30, sampled=False), street(31)])
    heir.close()
    (_, last), (first, second) = (
        film(tmp_path / part)[1][-2:] for part in ("a/annotated.mp4", "b/annotated.1.mp4")
    )
    assert first.shape == second.shape == last.shape
    assert first[:HEIGHT, WIDTH:][30:].mean() < 30
    assert np.abs(second[:HEIGHT, WIDTH:].astype(int) - last[:HEIGHT, WIDTH:]).mean() < 6


def test_a_reconnect_forgets_what_was_to_come(tmp_path):
    stage = recorder(tmp_path)
    stage.begin(source(), None)
    stage([street(i) for i in range(8)])
    stage([street(8, epoch=2, sampled=False)])
    overlays = stage.recordings["cam1"].overlays
    assert overlays["segmentation"].panel is None
    assert overlays["forecast"].ahead is None
    assert not overlays["forecast"].made
    stage.close()
    assert len({picture.shape for picture in film(tmp_path / "annotated.mp4")[1]}) == 1


def test_a_full_disk_ends_the_film_and_not_the_watching(tmp_path, capsys):
    (tmp_path / "annotated-cam1.mp4").symlink_to("/dev/full")
    stage = recorder(tmp_path)
    stage.begin(source(), None)
    receipts = stage([packet(i, x=i) for i in range(30)])
    assert receipts[-1] == Receipt(written=0)
    assert capsys.readouterr().err.count("recording stopped") == 1
    stage.finish("cam1", "eof")
    (tmp_path / "annotated-cam1.mp4").unlink()
    stage.close()


def test_a_film_goes_on_in_its_next_part_once_there_is_room(tmp_path, monkeypatch, capsys):
    (tmp_path / "annotated-cam1.mp4").symlink_to("/dev/full")
    free = {"now": 0}
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free["now"]))
    stage = recorder(tmp_path)
    stage.begin(source(), None)
    stage([packet(i) for i in range(30)])
    assert stage([packet(300)]) == [Receipt(written=0)]
    free["now"] = usage.total
    assert stage([packet(i) for i in range(301, 311)]) == [Receipt(written=1)] * 10
    stage.finish("cam1", "eof")
    (tmp_path / "annotated-cam1.mp4").unlink()
    stage.close()
    assert names(tmp_path) == ["annotated.1.mp4"]
    assert len(film(tmp_path / "annotated.1.mp4")[1]) == 10
    told = capsys.readouterr().err
    assert (told.count("recording stopped"), told.count("recording goes on")) == (1, 1)


def test_a_film_that_fails_again_and_again_is_tried_ever_more_rarely(tmp_path, capsys):
    for part in range(20):
        (tmp_path / f"annotated-cam1{f'.{part}' if part else ''}.mp4").symlink_to("/dev/full")
    stage = recorder(tmp_path)
    stage.begin(source(), None)
    for i in range(3600):  # an hour
        stage([packet(10 * i)])
    assert 5 <= capsys.readouterr().err.count("recording stopped") <= 12
    stage.close()


def test_state_stays_small(tmp_path):
    stage = recorder(tmp_path)
    stage.begin(source(), None)
    stage([packet(i, media_us=10_000 * i, x=i % 90) for i in range(300)])
    assert len(stage.state("cam1")) < 2000
    stage.close()


def test_a_source_without_frames_leaves_no_file(tmp_path):
    stage = recorder(tmp_path)
    stage.begin(source(), None)
    stage.finish("cam1", "failed")
    stage.close()
    assert os.listdir(tmp_path) == []


def test_without_a_place_to_write_it_cannot_be_built():
    with pytest.raises(ConfigError, match="--out DIR"):
        RecordStage(Record(), Site(device="cpu", pixels=grey))


def test_a_resumed_run_goes_on_in_the_next_part_and_overwrites_none(tmp_path):
    """The run was killed, resumed and ended, and is resumed again: each time without a state."""
    killed = recorder(tmp_path)
    killed.begin(source(), None)
    killed([packet(0), packet(1)])
    killed.recordings["cam1"].film.close()  # as much of it as the disk has
    stage = recorder(tmp_path)
    stage.begin(source(), None)
    stage([packet(1), packet(2)])
    stage.finish("cam1", "drained")
    stage.close()
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    assert sorted(before) == ["annotated.1.mp4", "annotated.mp4"]
    stage = recorder(tmp_path)
    stage.begin(source(epoch=2), None)
    stage([packet(3, epoch=2)])
    stage.finish("cam1", "eof")
    stage.close()
    assert set(names(tmp_path)) == {*before, "annotated.2.mp4"}
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_resumed_run_of_several_sources_names_the_film_of_the_last_one_after_it(tmp_path):
    logged = {"cam1": LogPosition(5, 1, 3), "cam2": LogPosition(7, 1, 4)}
    site = Site(device="cpu", pixels=grey, out=tmp_path, logged=logged)
    stage = RecordStage(Record(), site)
    stage.begin(source(), None)
    stage([packet(0)])
    stage.finish("cam1", "eof")
    stage.close()
    assert names(tmp_path) == ["annotated-cam1.mp4"]
