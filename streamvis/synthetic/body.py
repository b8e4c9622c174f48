"""The limbs of a walking person in world coordinates, from gait phase and heading."""

import math
from dataclasses import dataclass

import numpy as np

from streamvis.messages import Array
from streamvis.synthetic.scene import Person

# lengths as parts of body height (Drillis and Contini, 1966)
THIGH, SHIN, FOOT, ANKLE = 0.245, 0.246, 0.152, 0.039
UPPER_ARM, FOREARM, HAND = 0.186, 0.146, 0.06
HIP, SHOULDER = 0.05, 0.115  # half widths
TRUNK, NECK, HEAD = 0.288, 0.052, 0.065  # hip to shoulder, its stump, radius of the head


@dataclass(frozen=True)
class Limb:
    """A tapered capsule from `a` to `b`, and the cloth that covers it."""

    a: Array  # (3,) metres
    b: Array
    radius_a: float
    radius_b: float
    cloth: str  # skin, shirt, trousers or shoes


@dataclass(frozen=True)
class Body:
    """The limbs of one person, and the points of the trunk that clothes are drawn on."""

    limbs: list[Limb]  # arms and legs
    hips: Array  # (2, 3) left and right
    shoulders: Array  # (2, 3)
    neck: Array  # (3,)
    head: Array  # (3,) its centre
    forward: Array  # (3,) unit vector


def pose(person: Person, state: Array) -> Body:
    """Return the body of a person whose state is x, y, heading, gait phase, speed."""
    x, y, heading, phase, speed = state
    h = person.height
    forward = np.array([math.cos(heading), math.sin(heading), 0.0])
    left = np.array([-forward[1], forward[0], 0.0])
    up = np.array([0.0, 0.0, 1.0])
    swing = 0.45 * min(speed / 1.3, 1.2)  # amplitude of the thigh, radians
    lean = 0.02 + 0.05 * min(speed, 1.5)
    sway = 0.012 * h * math.cos(phase) * min(speed, 1)
    pelvis = np.array([x, y, 0.0]) + sway * left

    legs = [
        _leg(person, pelvis + s * HIP * h * left, forward, up, swing, phase + (s < 0) * math.pi)
        for s in (1, -1)
    ]
    # the lower sole stands on the ground, which also makes the body bob
    lift = -min(_lowest(limb) for leg in legs for limb in leg) * up
    pelvis = pelvis + lift
    limbs = [_moved(limb, lift) for leg in legs for limb in leg]

    spine = math.cos(lean) * up + math.sin(lean) * forward
    twist = 0.25 * swing / 0.45 * math.sin(phase)  # shoulders turn against the hips
    across = math.cos(twist) * left - math.sin(twist) * forward
    chest = pelvis + TRUNK * h * spine
    wide = SHOULDER * h * person.girth**0.5
    for s in (1, -1):
        angle = -0.85 * swing * math.sin(phase + (s < 0) * math.pi)
        limbs += _arm(person, chest + s * wide * across, forward, up, angle)
    neck = chest + NECK * h * spine
    return Body(
        limbs=limbs,
        hips=np.stack([pelvis + HIP * h * left, pelvis - HIP * h * left]),
        shoulders=np.stack([chest + wide * across, chest - wide * across]),
        neck=neck,
        head=neck + (HEAD + 0.012) * h * up + 0.015 * h * forward,
        forward=forward,
    )


def keypoints(person: Person, body: Body) -> Array:
    """Return COCO's keypoints (17, 3) of a body: metres in the world."""
    r = HEAD * person.height
    left = np.cross([0.0, 0.0, 1.0], body.forward)
    up = np.array([0.0, 0.0, 1.0])
    face = [r * body.forward]
    face += [r * (0.85 * body.forward + s * 0.4 * left + 0.35 * up) for s in (1, -1)]
    face += [s * r * left for s in (1, -1)]
    # limbs: foot, shin and thigh of either leg, then hand, forearm and upper arm of either arm
    legs, arms = (body.limbs[0:3], body.limbs[3:6]), (body.limbs[6:9], body.limbs[9:12])
    return np.array(
        [
            *(body.head + part for part in face),
            *body.shoulders,
            *(upper.b for _, _, upper in arms),
            *(forearm.b for _, forearm, _ in arms),
            *body.hips,
            *(thigh.b for _, _, thigh in legs),
            *(shin.b for _, shin, _ in legs),
        ]
    )


def _leg(
    person: Person, hip: Array, forward: Array, up: Array, swing: float, phase: float
) -> list[Limb]:
    h, g = person.height, person.girth
    thigh = swing * math.sin(phase) + 0.08 * swing
    bend = 0.06 + 2.2 * swing * max(0.0, math.cos(phase - 0.35)) ** 2  # the knee, in the swing
    shin = thigh - bend
    foot = shin + 0.12 * swing - 0.3 * swing * max(0.0, -math.sin(phase - 0.4))
    knee = hip + THIGH * h * (math.sin(thigh) * forward - math.cos(thigh) * up)
    ankle = knee + SHIN * h * (math.sin(shin) * forward - math.cos(shin) * up)
    sole = math.cos(foot) * forward + math.sin(foot) * up
    heel = ankle - 0.25 * FOOT * h * sole - 0.6 * ANKLE * h * up
    toe = heel + 0.9 * FOOT * h * sole
    below = {"long": "trousers", "shorts": "skin", "skirt": "skin"}[person.legs]
    return [
        Limb(heel, toe, 0.024 * h, 0.018 * h, "shoes"),
        Limb(knee, ankle, 0.032 * h * g, 0.022 * h * g, below),
        Limb(hip, knee, 0.050 * h * g, 0.034 * h * g, "trousers"),
    ]


def _arm(person: Person, shoulder: Array, forward: Array, up: Array, angle: float) -> list[Limb]:
    h, g = person.height, person.girth**0.5
    bend = 0.25 + 0.5 * max(0.0, angle)
    lower = angle + bend
    elbow = shoulder + UPPER_ARM * h * (math.sin(angle) * forward - math.cos(angle) * up)
    along = math.sin(lower) * forward - math.cos(lower) * up
    wrist = elbow + FOREARM * h * along
    sleeve = "shirt" if person.sleeves == "long" else "skin"
    return [
        Limb(wrist, wrist + HAND * h * along, 0.017 * h, 0.015 * h, "skin"),
        Limb(elbow, wrist, 0.024 * h * g, 0.018 * h * g, sleeve),
        Limb(shoulder, elbow, 0.031 * h * g, 0.025 * h * g, "shirt"),
    ]


def _lowest(limb: Limb) -> float:
    """Return the height of a limb's lowest point in metres."""
    return float(min(limb.a[2] - limb.radius_a, limb.b[2] - limb.radius_b))


def _moved(limb: Limb, by: Array) -> Limb:
    return Limb(limb.a + by, limb.b + by, limb.radius_a, limb.radius_b, limb.cloth)
