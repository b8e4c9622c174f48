"""The constants of the tracker, in seconds, metres and box heights: never in frames or pixels."""

import msgspec


class TrackerParameters(msgspec.Struct, frozen=True, kw_only=True):
    """How people move and appear, and how far a detector can be believed."""

    # motion; a body is the height of the box, or 1.7 m on the ground
    speed: float = 0.8  # bodies/s, one sigma of a new track's velocity
    acceleration: float = 0.25  # bodies/s^1.5, root of its spectral density
    size_drift: float = 0.3  # nats/√s, random walk of log width and log height

    # detection
    p_gate: float = 0.999
    open_share: tuple[float, float] = (0.1, 0.6)  # visible share at which P_D is nil, and full
    size_range: float = 2.0  # nats over which sizes of false boxes spread
    score_slope: float = 1.5  # log odds of a person per log odds of the score
    score_limit: float = 3.0  # nats: the most that one score can say

    # existence
    lifetime_s: float = 20.0  # mean stay of a person in view
    leave_s: float = 0.2  # mean stay outside of the picture
    evidence_s: float = 0.15  # detector errors persist about so long: faster frames say less
    novelty: float = 2.5  # nats: the most that a repeated place says for a tentative track
    birth: float = 0.5  # r of a new track, for a score of 1
    confirm: float = 0.8  # r at which a track becomes confirmed
    show: float = 0.5  # r below which a confirmed track is not reported
    r_max: float = 0.98
    r_min: float = 0.01  # r below which a track is dropped
    r_hidden: float = 0.1  # a confirmed track in view keeps at least this, for `memory_s`

    # two tracks on one person
    twin_birth_iou: float = 0.25  # no birth where a track overlaps more than this
    twin_birth_inside: float = 0.6  # nor where so much of the box lies inside a track's
    twin_iou: tuple[float, float] = (0.5, 0.8)  # overlap at which the younger begins, is sure to go
    twin_s: float = 0.3  # mean stay of a sure twin
    apart_s: float = 0.5  # who was seen for so long apart from the older ones is no twin

    clutter_s: float = 20.0  # memory of the clutter estimate

    # looks
    look_power: float = 1.0  # of the ratio of densities: looks in successive frames are alike
    look_limit: float = 3.0  # nats that the looks of one detection say
    embed_limit: float = 0.35  # distance of looks that are still the same, without kinematics
    embed_gap_s: float = 0.1  # for so long a track's box and its detection must overlap
    sought_s: float = 0.3  # who was not seen for so long may be whoever appears elsewhere
    wander: float = 0.5  # bodies/s: how far people get from their course while nobody sees them
