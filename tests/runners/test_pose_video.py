"""Jitter of poses on a video: by the command, and of keypoints that are placed by hand."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner
from walkers import DETECTOR, SCENE

from streamvis.cli.main import app
from streamvis.errors import DataError
from streamvis.evaluation.pose_jitter import Jitter
from streamvis.runners import pose_video
from streamvis.stages.pose import PoseEstimation
from streamvis.synthetic.sequence import write_sequence

NOISE_PX = 2.0


class StandIn:
    """Places all keypoints along the middle of the box, with noise."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def estimate(self, images, boxes):
        return [self._answer(np.asarray(one, np.float64)) for one in boxes]

    def _answer(self, boxes):
        n, down = len(boxes), np.linspace(0.1, 0.9, 17)[None, :, None]
        points = (1 - down) * boxes[:, None, :2] + down * boxes[:, None, 2:]
        points += NOISE_PX * self.rng.normal(size=points.shape)
        covariances = np.broadcast_to(NOISE_PX**2 * np.eye(2), (n, 17, 2, 2))
        return points, np.full((n, 17), 0.9), covariances


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    folder = write_sequence(tmp_path_factory.mktemp("clip") / "walkers", SCENE)
    return str(folder / "video.mp4")


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr(pose_video.PoseNetwork, "load", lambda *_: StandIn())


CONFIG = PoseEstimation(min_height=20)
SETTINGS = {f"detect.{name}": value for name, value in DETECTOR.items()}


@pytest.mark.usefixtures("stand_in", "one_thread")
def test_smoothing_takes_away_a_part_of_the_noise(video):
    found = pose_video.measure(video, CONFIG, settings=SETTINGS)
    assert found.before.samples.sum() > 100
    assert 0 < found.after.mean < 0.9 * found.before.mean


@pytest.mark.usefixtures("stand_in", "one_thread")
def test_a_video_in_which_nobody_is_tall_enough(video):
    with pytest.raises(DataError, match=r"of 0 people nobody was estimated three times"):
        pose_video.measure(video, PoseEstimation(min_height=400), settings=SETTINGS)


def test_the_command_prints_each_keypoint(monkeypatch):
    asked = {}

    def measure(video, config, **settings):
        asked[video] = config.interval_s, config.min_height, settings["seconds"]
        samples = np.array([0] + [4] * 16)
        return pose_video.VideoJitter(*(Jitter(samples * mean, samples) for mean in (2.0, 1.5)))

    monkeypatch.setattr(pose_video, "measure", measure)
    given = ("a.mp4", "b.mp4", "--interval", "0.5", "--min-height", "20", "--seconds", "9")
    printed = CliRunner().invoke(app, ["eval", "pose-video", *given])
    assert printed.exit_code == 0, printed.stderr
    assert "left_ankle" in printed.stdout
    assert asked == dict.fromkeys(("a.mp4", "b.mp4"), (0.5, 20, 9))
    result = CliRunner().invoke(app, ["eval", "pose-video", *given, "--json"])
    scores = json.loads(result.stdout)["b.mp4"]
    assert (scores["samples"], scores["before"], scores["after"]) == (64, 2.0, 1.5)
    assert scores["keypoints"]["nose"] == {"before": None, "after": None}
    assert scores["keypoints"]["left_eye"] == {"before": 2.0, "after": 1.5}
