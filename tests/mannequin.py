"""Mannequins that walk, fall, sit, crouch and raise their hands, with the COCO keypoints of each.

World: metres, Z up, as in `streamvis.synthetic.scene`. A body is drawn, and its keypoints are
projected, by the same camera.
"""

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from streamvis.synthetic import body as limbs_of
from streamvis.synthetic.body import Body, Limb, keypoints, pose
from streamvis.synthetic.drawing import draw
from streamvis.synthetic.scene import Camera, Person, dress

HEAD_M = limbs_of.HEAD  # radius, per metre of body height
UP = np.array([0.0, 0.0, 1.0])
CAMERA = Camera(640, 480)


class Posed(NamedTuple):
    """A body, its keypoints in the world (17, 3), and who it is."""

    person: Person
    body: Body
    joints: np.ndarray


def person(seed: int = 0) -> Person:
    return dress(np.random.default_rng(seed), 1)


def joints_of(who: Person, body: Body) -> np.ndarray:
    """Return the 17 keypoints (17, 3) of a body that may lie: the face turns with it."""
    radius = HEAD_M * who.height
    up = body.head - body.neck
    up = up / np.linalg.norm(up)
    left = body.hips[0] - body.hips[1]
    left = left - (left @ up) * up
    left /= np.linalg.norm(left)
    forward = np.cross(left, up)
    face = [
        body.head + radius * (forward - 0.1 * up),
        *(body.head + radius * (0.85 * forward + s * 0.4 * left + 0.25 * up) for s in (1, -1)),
        *(body.head + radius * s * left for s in (1, -1)),
    ]
    return np.stack([*face, *keypoints(who, body)[len(face) :]])


def posed(who: Person, body: Body) -> Posed:
    return Posed(who, body, joints_of(who, body))


def standing(who: Person, x: float = 0.0, y: float = 9.0, heading: float = 0.0) -> Posed:
    return posed(who, pose(who, np.array([x, y, heading, 0.3, 0.0])))


def fallen(
    who: Person,
    share: float = 1.0,
    *,
    towards: float = 0.0,
    x: float = 0.0,
    y: float = 9.0,
    heading: float = 0.0,
) -> Posed:
    """A body that has turned about its feet by `share` of 90 degrees, towards a direction (rad)."""
    upright = standing(who, x, y, heading).body
    axis = np.array([-np.sin(towards), np.cos(towards), 0.0])  # UP turns towards (cos, sin)
    turn, _ = cv2.Rodrigues(axis * share * np.pi / 2)
    about = np.array([x, y, 0.0])
    lift = share * 0.1 * UP  # half of its thickness

    def move(points: np.ndarray) -> np.ndarray:
        return (points - about) @ turn.T + about + lift

    return posed(who, _moved(upright, move, turn @ upright.forward))


def sitting(who: Person, *, heading: float = 0.0, x: float = 0.0, y: float = 9.0) -> Posed:
    """On a chair: thighs level, shins and trunk upright."""
    return _bent(who, heading, x, y, thigh=0.0, shin=np.pi / 2, lean=0.1)


def crouching(who: Person, *, heading: float = 0.0, x: float = 0.0, y: float = 9.0) -> Posed:
    """On the heels: knees forward and above the hips, trunk leaning forward."""
    return _bent(who, heading, x, y, thigh=0.35, shin=np.pi / 2 - 0.6, lean=0.45)


def bending(who: Person, *, heading: float = 0.0, x: float = 0.0, y: float = 9.0) -> Posed:
    """Legs straight, trunk level: no posture."""
    return _bent(who, heading, x, y, thigh=-np.pi / 2 + 0.05, shin=np.pi / 2, lean=np.pi / 2)


def hands_up(who: Person, *, heading: float = 0.0, x: float = 0.0, y: float = 9.0) -> Posed:
    """Both arms upwards."""
    body, h = standing(who, x, y, heading).body, who.height
    limbs = list(body.limbs)
    for side, shoulder in enumerate(body.shoulders):
        out = shoulder - body.shoulders[1 - side]
        along = UP + 0.25 * out / np.linalg.norm(out)
        along /= np.linalg.norm(along)
        elbow = shoulder + limbs_of.UPPER_ARM * h * along
        wrist = elbow + limbs_of.FOREARM * h * UP
        at = 6 + 3 * side
        ends = ((wrist, wrist + limbs_of.HAND * h * UP), (elbow, wrist), (shoulder, elbow))
        for i, (a, b) in enumerate(ends):
            limbs[at + i] = replace(limbs[at + i], a=a, b=b)
    return posed(who, replace(body, limbs=limbs))


def _bent(
    who: Person, heading: float, x: float, y: float, *, thigh: float, shin: float, lean: float
) -> Posed:
    """A body with its ankles at the ground: angles of thigh and shin above level, of the trunk
    from upright, in radians.
    """
    upright, h = standing(who, x, y, heading).body, who.height
    forward = upright.forward
    shinwards = np.cos(shin) * forward + np.sin(shin) * UP  # from the ankle to the knee
    thighwards = np.cos(thigh) * forward + np.sin(thigh) * UP  # from the hip to the knee
    legs: list[Limb] = []
    hips = []
    for side in (0, 1):
        foot, below, above = upright.limbs[3 * side : 3 * side + 3]
        ankle = np.array([*foot.a[:2], limbs_of.ANKLE * h])
        knee = ankle + limbs_of.SHIN * h * shinwards
        hip = knee - limbs_of.THIGH * h * thighwards
        heel = ankle - 0.6 * limbs_of.ANKLE * h * UP
        legs.append(replace(foot, a=heel, b=heel + 0.9 * limbs_of.FOOT * h * forward))
        legs += [replace(below, a=knee, b=ankle), replace(above, a=hip, b=knee)]
        hips.append(hip)
    turn, _ = cv2.Rodrigues(lean * np.cross(UP, forward))
    about, to = upright.hips.mean(axis=0), np.mean(hips, axis=0)

    def move(points: np.ndarray) -> np.ndarray:
        return (points - about) @ turn.T + to

    moved = _moved(upright, move, forward)
    return posed(who, replace(moved, limbs=[*legs, *moved.limbs[6:]], hips=np.stack(hips)))


def _moved(body: Body, move, forward: np.ndarray) -> Body:
    return replace(
        body,
        limbs=[replace(one, a=move(one.a), b=move(one.b)) for one in body.limbs],
        hips=move(body.hips),
        shoulders=move(body.shoulders),
        neck=move(body.neck),
        head=move(body.head),
        forward=forward,
    )


def projected(who: Posed, camera: Camera = CAMERA) -> np.ndarray:
    """The keypoints (17, 2) in pixels."""
    return camera.project(who.joints)[0]


def box_of(who: Posed, camera: Camera = CAMERA) -> np.ndarray:
    """A box (4,) xyxy around the limbs and the head."""
    ends = [
        (end, r)
        for one in who.body.limbs
        for end, r in ((one.a, one.radius_a), (one.b, one.radius_b))
    ]
    ends.append((who.body.head, HEAD_M * who.person.height * 1.3))
    at, depth = camera.project(np.array([end for end, _ in ends]))
    radius = np.array([r for _, r in ends]) * camera.focal / depth
    return np.concatenate([(at - radius[:, None]).min(0), (at + radius[:, None]).max(0)])


def drawn(
    people: list[Posed], camera: Camera = CAMERA, picture: np.ndarray | None = None
) -> np.ndarray:
    """A picture (H, W, 3) uint8 RGB of these people, far ones first."""
    from streamvis.synthetic.render import _lay

    if picture is None:
        picture = np.full((camera.height_px, camera.width, 3), 128, np.uint8)
    picture = np.array(picture)
    ids = np.zeros(picture.shape[:2], np.int32)
    for one in sorted(people, key=lambda p: -camera.project(p.joints.mean(0)[None])[1][0]):
        _lay(draw(camera, one.person, one.body), one.person.id, picture, ids)
    return picture
