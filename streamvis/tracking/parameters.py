"""The constants of the tracker, in seconds, metres and box heights, never in frames or pixels."""

from typing import Literal, Protocol

import msgspec


class TrackerSettings(Protocol):
    """The settings of a tracker, which `stages.track.Jipda` describes."""

    @property
    def mode(self) -> Literal["auto", "jipda", "jipda_embed", "gnn_embed"]: ...
    @property
    def camera(self) -> Literal["auto", "fixed", "moving"]: ...
    @property
    def space(self) -> Literal["auto", "image", "ground"]: ...
    @property
    def birth_score(self) -> float: ...
    @property
    def p_detect(self) -> float: ...
    @property
    def memory_s(self) -> float: ...
    @property
    def remember_s(self) -> float: ...
    @property
    def refresh_s(self) -> float: ...
    @property
    def reentry(self) -> bool: ...
    @property
    def clutter(self) -> float | None: ...


class TrackerParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Motion, detection, existence and appearance models of people."""

    # motion; a body is the height of the box, or 1.7 m on the ground
    speed: float = 0.8  # bodies/s, one sigma of a new track's velocity
    acceleration: float = 0.2  # bodies/s^1.5, root of its spectral density
    foreshortening: float = 0.5  # share of both that is seen down the image of a fixed camera
    moving_acceleration: float = 0.25  # in the image of a moving camera, which adds its own
    still_s: float = 0.1  # time constant of the velocity of people in a picture without movement
    still_speed: float = 0.2  # bodies/s, one sigma of their velocity when they set out
    still_drift: float = 0.05  # bodies/√s, of their position
    size_drift: float = 0.3  # nats/√s, random walk of log width and log height in the image
    ground_size_drift: tuple[float, float] = (0.25, 0.2)  # on the ground, beside the perspective:
    # of log width, which changes with each step, and of log height

    # detection
    p_gate: float = 0.999
    open_share: tuple[float, float] = (0.1, 0.6)  # visible share at which P_D is 0, and full
    size_range: float = 2.0  # nats over which sizes of false boxes spread
    score_slope: float = 1.5  # log odds of a person per log odds of the score
    score_limit: float = 3.0  # nats, limit of the evidence of one score

    # existence
    lifetime_s: float = 20.0  # mean time that a person stays in view
    leave_s: float = 0.2  # mean lifetime of a track outside of the frame, at the `pace`
    pace: float = 0.25  # bodies/s over the border
    partly: float = 0.8  # share of a detected box inside, below which the person may be leaving
    evidence_s: float = 0.15  # correlation time of detector errors
    hide_s: float = 4.0  # mean time until a person in view becomes undetectable
    appear_s: float = 0.7  # mean time until an undetectable person becomes detectable
    novelty: float = 2.5  # nats, limit of the evidence of repeated hits for a tentative track ...
    lost_view: float = 0.3  # ... or a confirmed one with a lower r: it is lost from view
    birth: float = 0.5  # r of a new track, for a score of 1
    confirm: float = 0.8  # r at which a track becomes confirmed
    follow_across: float = 0.5  # share of the way across the picture, from a track's box to its
    # detection, that the reported box is moved
    show: float = 0.3  # r below which a confirmed track inside the frame is not reported
    show_leaving: float = 0.5  # and one that crosses the edge of the frame
    r_max: float = 0.98
    r_min: float = 0.01  # r below which a track is dropped
    r_hidden: float = 0.1  # least r of a confirmed track in view, for `memory_s`

    # duplicate tracks of one person
    twin_birth_iou: float = 0.25  # IoU with a track above which no track is born
    twin_birth_inside: float = 0.6  # or share of the box that lies inside a track's box
    twin_iou: tuple[float, float] = (0.5, 0.8)  # IoU: possible, certain duplicate
    twin_s: float = 0.3  # mean lifetime of a certain duplicate
    apart_s: float = 0.5  # a track seen apart for so long is no duplicate

    clutter_s: float = 20.0  # time constant of the clutter estimate

    # appearance
    appearance_limit: float = 5.0  # nats, limit of the evidence of one embedding
    appearance_against: float = 3.0  # nats, and against a person: the crop may be spoilt
    embed_limit: float = 0.35  # largest embedding distance of a match in `gnn_embed`
    embed_gap_s: float = 0.1  # gap up to which a track's box and its detection must overlap
    sought_s: float = 0.3  # a track undetected for so long may be re-identified elsewhere
    wander: float = 0.5  # bodies/s, growth of the position uncertainty of lost people
