"""The coordinates in which people are associated: on the ground, or in the image.

Both predict and gate alike on a plane that is seen from above. The flatter it is seen, the deeper
is a pixel: a foot point is uncertain by σ·s along the view, where σ is 0.035 of the person's height
and s the depth of a pixel in metres. The gate of a track then holds its neighbours, while in the
image their heads are still apart. So the ground is used where its gates are smaller than the ground
that each person has where people walk freely.
"""

import math
from typing import Literal, NamedTuple

import numpy as np

from streamvis.errors import ConfigError
from streamvis.geometry import to_ground
from streamvis.messages import Array, SourceInfo
from streamvis.tracking import gating
from streamvis.tracking.parameters import TrackerParameters
from streamvis.tracking.state_space import BODY_M, PLANE_M, GroundSpace, ImageSpace, StateSpace

Space = Literal["image", "ground"]

MOST_GATE_M2 = 5.6  # a person's ground in free flow, level A of the Highway Capacity Manual
SMALLEST, LARGEST = 1 / 20, 1.0  # height of people who are looked for, shares of the frame's height
FARTHEST = 1e6  # metres per pixel, on the horizon
CELLS = 32  # of the grid of foot points, in each direction


class SpaceChoice(NamedTuple):
    """The space of a source's tracks, and the size of gates on the ground that decided it."""

    space: Space
    gate_m2: float | None = None  # median over the ground in view; None: it did not decide

    @property
    def text(self) -> str:
        """The choice with its reason, for the status and the log."""
        if self.gate_m2 is None:
            return self.space
        size = "beyond the horizon" if math.isinf(self.gate_m2) else f"{self.gate_m2:.1f} m²"
        than = "at most" if self.space == "ground" else "more than"
        return f"{self.space}: gates on the ground are {size}, {than} {MOST_GATE_M2:g} m²"


def choose_space(source: SourceInfo, setting: Literal["auto", "image", "ground"]) -> SpaceChoice:
    """Return the space of a source's tracks by the setting, or by its ground plane if `auto`.

    It depends on the plane and the size of the frames alone. Raises ConfigError for `ground`
    without a plane.
    """
    if source.ground_plane is None and setting == "ground":
        raise ConfigError(
            f"source {source.id}: the tracker's `space` is ground, but the source has no ground "
            "plane. Give the source its homography, or set `space` to auto or image."
        )
    if source.ground_plane is None or setting == "image":
        return SpaceChoice("image")
    if setting == "ground":
        return SpaceChoice("ground")
    size = gate_size(np.array(source.ground_plane).reshape(3, 3), source.width, source.height)
    return SpaceChoice("image" if size > MOST_GATE_M2 else "ground", size)


def make_space(
    source: SourceInfo, name: Space, size: tuple[int, int], *, metric: bool, fixed: bool
) -> StateSpace:
    """Return the state space of a source for frames of this size.

    metric: in the image, too, tracks have positions on the source's ground plane.
    fixed: the camera does not move.
    """
    if source.ground_plane is None or (name == "image" and not metric):
        return ImageSpace(fixed=fixed)
    back = np.diag([source.width / size[0], source.height / size[1], 1])
    plane = GroundSpace(np.array(source.ground_plane).reshape(3, 3) @ back, *size)
    return plane if name == "ground" else ImageSpace(plane, fixed=fixed)


def gate_size(homography: Array, width: int, height: int) -> float:
    """Return the median area in m², over the ground in view, of the gate of a person in full view.

    Infinite where most of it is too near the horizon to be measured; 0 if nobody could be seen.
    """
    space = GroundSpace(homography, width, height)
    feet, ground, tall = _places(space, width, height)
    if len(feet) == 0:
        return 0.0
    half = tall / 6
    boxes = np.column_stack([feet[:, 0] - half, feet[:, 1] - tall, feet[:, 0] + half, feet[:, 1]])
    at = space.measure(boxes, np.zeros(len(boxes)))
    gate = gating.threshold(TrackerParameters().p_gate, at.z.shape[1])
    spread = at.R[:, :2, :2] + PLANE_M**2 * np.eye(2)
    area = np.pi * gate * np.sqrt(np.linalg.det(spread))
    area[~at.usable] = np.inf
    order = np.argsort(area, kind="stable")
    share = np.cumsum(ground[order])
    return float(area[order][np.searchsorted(share, share[-1] / 2)])


def _places(space: GroundSpace, width: int, height: int) -> tuple[Array, Array, Array]:
    """Return foot points (N, 2) of people in view, ground per px² (N,) and their heights (N,) px.

    A person is as tall as BODY_M across the view at the foot point: exact for a camera that looks
    along the ground, too much for one that looks down, where gates are small.
    """
    steps = (np.arange(CELLS) + 0.5) / CELLS
    feet = np.stack(np.meshgrid(steps * width, steps * height), axis=-1).reshape(-1, 2)
    feet = feet[feet @ space.H[2, :2] + space.H[2, 2] > 0]
    _, J = to_ground(space.H, feet)
    fair = (np.abs(J) < FARTHEST).all(axis=(1, 2)) & (np.abs(np.linalg.det(J)) > FARTHEST**-2)
    feet, J = feet[fair], J[fair]
    depth, across = np.linalg.svd(J, compute_uv=False).T  # metres per pixel
    unseen = np.full_like(across, np.inf)  # where ground has no width
    tall = np.divide(BODY_M, across, out=unseen, where=across > FARTHEST**-2)
    seen = (tall >= SMALLEST * height) & (tall <= LARGEST * height)
    return feet[seen], (depth * across)[seen], tall[seen]
