"""What the benchmark of decoding measures; how fast is for `make bench` to say."""

import shutil

import numpy as np
import pytest
from factories import video

from streamvis.benchmarks import decode
from streamvis.errors import DataError, UsageError


def test_all_pictures_after_the_first_count(tmp_path):
    if shutil.which("ffmpeg") is None:
        pytest.skip(f"ffmpeg is not installed: {decode.INSTALL}")
    report = decode.measure(str(video(tmp_path / "a.mp4", frames=80)), rounds=1)
    assert (report.width, report.height, report.pictures) == (64, 48, 80 - decode.WARM_UP)
    assert report.source.core_ms > 0
    assert report.into_slots.pictures_per_s > 0
    assert report.ffmpeg is not None
    assert report.left_out == ""


def test_without_the_program_its_numbers_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    report = decode.measure(str(video(tmp_path / "a.mp4", frames=60)), rounds=1)
    assert (report.ffmpeg, report.rate_over_ffmpeg) == (None, None)
    assert report.left_out == "ffmpeg: apt-get install ffmpeg"


def test_a_recording_has_to_be_a_file_of_enough_pictures(tmp_path):
    with pytest.raises(DataError, match="has 20 pictures; expected 60 or more"):
        decode.measure(str(video(tmp_path / "a.mp4", frames=20)), rounds=1)
    with pytest.raises(DataError, match="is not a video file"):
        decode.measure("synthetic:walkers?seconds=1", rounds=1)
    with pytest.raises(UsageError, match="is live"):
        decode.measure("synthetic:walkers?live=true&seconds=1", rounds=1)


def test_the_clip_without_a_source_moves(monkeypatch):
    monkeypatch.setattr(decode, "SHAPE", (32, 64, 3))
    first, second, *_ = decode.moving_noise(3)
    assert first.shape == second.shape == (32, 64, 3)
    difference = first[:, 4:].astype(int) - second[:, :-4]
    assert np.abs(difference).max() < 8  # the noise
    assert np.abs(first.astype(int) - second).max() > 8
