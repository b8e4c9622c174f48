"""Settings of simulated street scenes for trials of the tracker: nine groups of four scenes.

    for setup in SCENES: scene = simulate(setup)  # streamvis.synthetic.street_simulation

The groups differ in the camera, the number of people, their clothes and the ways out of view;
within a group the frame rate goes from 5 to 30 frames/s.
"""

import math
from dataclasses import dataclass
from typing import Any

from streamvis.synthetic.scene import Camera


@dataclass(frozen=True, kw_only=True)
class StreetSetup:
    """What a simulated scene is made of; the seed decides the rest."""

    name: str
    group: str
    seed: int
    fps: float
    seconds: float
    camera: Camera
    people: int  # in the scene at any time
    plane: bool = True  # whether the tracker is given the ground plane
    things: int = 1  # that stand in the way and hide people
    alike: float = 0.0  # share of the clothes that people of one of three groups have in common
    hidden_exits: float = 0.1  # share of ways in and out that lie behind things
    near_exits: float = 0.15  # share that cross the lower edge of the picture
    pan: float = 0.0  # px/s, one sigma of the camera's motion, as a share of the width
    p_detect: float = 0.93  # of a person in full view
    noise: float = 0.025  # one sigma of a box edge, as a share of the height
    clutter: float = 0.3  # expected false detections in a frame, beside those at fixed places
    variation: float = 0.7  # of the appearance of one person over time; 1: the most measured

    @property
    def frames(self) -> int:
        return round(self.fps * self.seconds)


WIDE, SMALL = (1280, 720), (640, 480)
RATES = ((5.0, 36.0), (10.0, 24.0), (15.0, 18.0), (30.0, 12.0))  # frames/s, seconds
VARIATIONS = (0.4, 0.7, 1.0, 0.7)


def _camera(size: tuple[int, int], height: float, pitch_degrees: float) -> Camera:
    return Camera(*size, height=height, pitch=math.radians(pitch_degrees))


HIGH, HIGH_SMALL = _camera(WIDE, 7.0, 28), _camera(SMALL, 6.0, 26)
MIDDLE = _camera(WIDE, 4.2, 17)
LOW, LOW_SMALL = _camera(WIDE, 1.7, 3), _camera(SMALL, 2.0, 5)

# What the four scenes of a group share, and where they differ: cameras and numbers of people.
GROUPS: tuple[tuple[str, dict[str, Any], tuple[Camera, ...], tuple[int, ...]], ...] = (
    ("high camera, ground plane", {}, (HIGH, HIGH_SMALL), (6, 10)),
    ("high camera, image", {"plane": False}, (HIGH, HIGH_SMALL), (6, 10)),
    ("low camera, ground plane", {}, (LOW, LOW_SMALL), (5, 8)),
    ("low camera, image", {"plane": False}, (LOW, LOW_SMALL), (5, 8)),
    ("sparse, many misses", {"plane": False, "p_detect": 0.75, "noise": 0.04}, (MIDDLE,), (2, 4)),
    ("crowded", {"plane": False, "clutter": 1.0}, (HIGH, MIDDLE), (20, 28)),
    ("similar clothes", {"plane": False, "alike": 0.7}, (MIDDLE, HIGH), (8, 12)),
    (
        "exits at edges and behind things",
        {"plane": False, "things": 3, "hidden_exits": 0.5, "near_exits": 0.3},
        (MIDDLE, LOW),
        (6, 9),
    ),
    ("moving camera", {"plane": False, "pan": 0.06}, (MIDDLE, LOW), (6, 9)),
)


def _setups() -> tuple[StreetSetup, ...]:
    setups = []
    for g, (group, shared, cameras, people) in enumerate(GROUPS):
        for i, (fps, seconds) in enumerate(RATES):
            setup = StreetSetup(
                name=f"{group}, {fps:g} fps",
                group=group,
                seed=100 * g + i,
                fps=fps,
                seconds=seconds,
                camera=cameras[i % len(cameras)],
                people=people[(i // 2) % len(people)],
                variation=VARIATIONS[i],
                **shared,
            )
            setups.append(setup)
    return tuple(setups)


SCENES = _setups()
