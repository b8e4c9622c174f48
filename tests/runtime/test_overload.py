"""What a live decoder skips, by how many of ten pictures a second the stages take."""

import pytest

from streamvis.runtime.overload import SkipPolicy


class Stages:
    """Stages that take `fps` of a camera's ten pictures a second, two seconds at a time."""

    def __init__(self, key_fps=1.0):
        self.now, self.key_fps = 0.0, key_fps
        self.policy = SkipPolicy(self.now)

    def take(self, fps, seconds=2):
        """The level after each two seconds."""
        return [self._take(fps) for _ in range(seconds // 2)]

    def _take(self, fps):
        decoded = {"none": 20, "nonref": 20, "nonkey": round(2 * self.key_fps)}[self.policy.level]
        for n in range(decoded):
            self.policy.add(replaced=n >= 2 * fps)
        self.now += 2.0
        return self.policy.update(self.now, self.key_fps)


@pytest.mark.parametrize(
    ("fps", "key_fps", "levels"),
    [
        (5, 1.0, ["none", "none", "none"]),
        (4, 1.0, ["nonref", "nonref", "nonref"]),  # key frames would be fewer than are taken
        (0.5, 1.0, ["nonref", "nonkey", "nonkey"]),
        (1, 1.0, ["nonref", "nonref", "nonref"]),
        (0, 1.0, ["none", "none", "none"]),  # none is ready
    ],
)
def test_more_is_skipped_while_more_than_half_was_decoded_in_vain(fps, key_fps, levels):
    assert Stages(key_fps).take(fps, 6) == levels


def test_a_camera_is_decoded_in_full_ten_seconds_after_a_slow_beginning():
    stages = Stages()
    assert stages.take(0, 20)[-1] == "none"
    assert stages.take(0.5, 4) == ["nonref", "nonkey"]
    assert stages.take(10, 20) == ["nonkey"] * 4 + ["nonref"] * 5 + ["none"]


def test_a_level_that_was_left_too_early_is_kept_twice_as_long():
    stages = Stages(key_fps=0.0)
    assert stages.take(1) == ["nonref"]
    assert stages.take(10, 10) == ["nonref"] * 4 + ["none"]
    assert stages.take(1) == ["nonref"]
    assert stages.take(10, 20) == ["nonref"] * 9 + ["none"]
