"""Samples of clips against the videos' own frame times and motion."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from factories import tracks
from hypothesis import given
from hypothesis import strategies as st
from labelled_clips import SIZE, write_clips

from streamvis.datasets.clips import Clip, read_clips
from streamvis.datasets.motchallenge import rows, write_results
from streamvis.errors import DataError
from streamvis.messages import Frame
from streamvis.models.crops import crop
from streamvis.stages.actions import OffActions
from streamvis.stages.actions.state import ActionState, SamplingPlan
from streamvis.training.actions.clip_sampling import (
    ClipSampling,
    gather,
    sample_clip,
    sample_indexes,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"))


@given(st.floats(5, 60), st.floats(0.05, 0.5), st.integers(2, 80))
def test_moments_are_the_first_pictures_that_are_not_before_them(fps, every_s, frames):
    times = np.arange(frames) * 1e6 / fps
    at = sample_indexes(times, every_s)
    wanted = np.arange(len(at)) * every_s * 1e6
    assert at[0] == 0
    assert (times[at] >= wanted - 1000).all()
    assert (times[np.maximum(at - 1, 0)] < wanted - 1000)[at > 0].all()
    assert wanted[-1] <= times[-1] + 1000 < wanted[-1] + every_s * 1e6 + 1


def test_a_clip_between_two_times(folder):
    whole = Clip(folder / "moving/0.avi", "moving", "0")
    part = Clip(whole.path, "moving", "0", 0.3, 0.65)
    sampling = ClipSampling(size=SIZE, every_s=0.1)
    np.testing.assert_array_equal(sample_clip(part, sampling), sample_clip(whole, sampling)[3:7])


def test_moments_lie_in_a_file_that_is_made_once(folder, tmp_path):
    clips = read_clips(folder)[:3]
    sampling = ClipSampling(size=SIZE, every_s=0.2)
    moments = gather(clips, sampling, tmp_path)
    assert moments.first.tolist() == [0, 5, 10, 15]
    for i, clip in enumerate(clips):
        np.testing.assert_array_equal(moments.of(i), sample_clip(clip, sampling))
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    gather(clips, sampling, tmp_path)
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


@pytest.mark.parametrize("fps", [10, 20])
@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_flow_is_the_same_at_every_frame_rate(tmp_path, fps, method):
    """A texture that goes 60 px/s to the right and 40 down, in steps of 0.04 s."""
    random = np.random.default_rng(0)
    texture = cv2.GaussianBlur(random.integers(0, 255, (300, 300, 3), np.uint8), (0, 0), 2)
    path = tmp_path / "moving.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuvj444p"
        for n in range(fps):
            x, y = 100 - round(60 * n / fps), 100 - round(40 * n / fps)
            picture = np.ascontiguousarray(texture[y : y + 96, x : x + 128])
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    sampling = ClipSampling(size=(96, 128), every_s=0.2, modality="flow", method=method)
    flow = sample_clip(Clip(path, "a", "b"), sampling)
    assert flow.shape == (5, 96, 128, 10)
    px = (np.median(flow[:4, 20:-20, 20:-20], (0, 1, 2)) - 128) * 20 / 127
    np.testing.assert_allclose(px[::2], 60 * 0.04, atol=0.7)
    np.testing.assert_allclose(px[1::2], 40 * 0.04, atol=0.7)


def test_pictures_of_a_moment_for_differences(folder):
    clip = Clip(folder / "moving/1.avi", "moving", "1")
    sampling = ClipSampling(size=SIZE, every_s=0.1, modality="diff", step_s=0.1)
    six = sample_clip(clip, sampling).reshape(10, *SIZE, 6, 3)
    rgb = sample_clip(clip, ClipSampling(size=SIZE, every_s=0.1))
    for step in range(6):
        np.testing.assert_array_equal(six[0, ..., step, :], rgb[step])
        np.testing.assert_array_equal(six[-1, ..., step, :], rgb[-1])


def test_a_clip_without_pictures_in_its_time_is_refused_by_its_time(folder):
    late = Clip(folder / "moving/0.avi", "moving", "0", 5.0, 6.5)
    with pytest.raises(DataError, match=r"moving/0\.avi has no picture from 5 to 6\.5 s"):
        sample_clip(late, ClipSampling(size=SIZE, every_s=0.1))


def test_a_single_picture_has_no_flow(folder):
    one = Clip(folder / "moving/0.avi", "moving", "0", 0.0, 0.05)
    flow = sample_clip(one, ClipSampling(size=SIZE, every_s=0.1, modality="flow"))
    assert flow.shape == (1, *SIZE, 10)
    assert (flow == 128).all()


def test_another_sampling_is_decoded_into_a_file_of_its_own(folder, tmp_path):
    clips = read_clips(folder)[:2]
    slow, fast = (ClipSampling(size=SIZE, every_s=every_s) for every_s in (0.5, 0.1))
    assert gather(clips, slow, tmp_path).first.tolist() == [0, 2, 4]
    assert gather(clips, fast, tmp_path).first.tolist() == [0, 10, 20]
    assert (
        gather(clips[::-1], slow, tmp_path).of(0).tolist() == sample_clip(clips[1], slow).tolist()
    )
    assert {path.suffix for path in tmp_path.iterdir()} == {".npy"}


def test_crops_along_a_track_are_those_of_the_stage(folder, tmp_path):
    """The stage samples the same frames, with the same windows; the person comes in frame 3."""
    clip = Clip(folder / "moving/0.avi", "moving", "0", 0.0, 0.95, tmp_path / "a.txt", 7)
    numbers = np.arange(3, 11)
    boxes = np.stack(
        [40 + 2.5 * numbers, 20 - numbers, 58 + 3 * numbers, 75 + numbers], 1
    )  # exact in float32
    write_results(tmp_path / "a.txt", rows(numbers, np.full(8, 7), boxes))
    pictures = sample_clip(Clip(clip.path, "moving", "0"), ClipSampling(size=(96, 96), every_s=0.1))
    state = ActionState(SamplingPlan.of(OffActions(), 0.2, 16, (48, 64)), 2)
    expected = []
    for number, box in zip(numbers, boxes, strict=True):
        frame = Frame(
            source="a",
            seq=0,
            n=int(number),
            media_us=int(number - 1) * 100_000,
            width=96,
            height=96,
        )
        for row in state.observe(frame, tracks([7], box)):
            if row.sampled:
                expected.append(crop(pictures[number - 1], row.sample.box[None], (48, 64))[0])
    found = sample_clip(clip, ClipSampling(size=(48, 64), every_s=0.2))
    np.testing.assert_array_equal(found, np.stack(expected))


def test_people_of_one_video_have_caches_of_their_own(folder, tmp_path):
    path, boxes = tmp_path / "a.txt", np.array([[10.0, 10, 15, 20], [70, 60, 75, 70]] * 10)
    write_results(path, rows(np.repeat(np.arange(1, 11), 2), np.tile([1, 2], 10), boxes))
    video, sampling = folder / "moving/0.avi", ClipSampling(size=SIZE, every_s=0.2)
    people = [Clip(video, "moving", "0", tracks=path, track=track) for track in (1, 2)]
    one, two = (gather([clip], sampling, tmp_path).of(0) for clip in people)
    assert one.shape == two.shape == (5, *SIZE, 3)
    assert (one != two).any()
    with pytest.raises(DataError, match=r"a\.txt has no track 3; expected one of its tracks: 1, 2"):
        sample_clip(Clip(video, "moving", "0", tracks=path, track=3), sampling)
