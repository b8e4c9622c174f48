"""The event types of poses and postures, and how they are shown in `events tail` and in CSV."""

from typing import Literal, assert_never

import msgspec

from streamvis.datasets.keypoints import NAMES
from streamvis.events.family import Cells, EventTypes, members
from streamvis.stages.pose.keypoints import Posture

PostureReason = Literal["over", "lost", "epoch", "eof", "drained", "failed"]


class Keypoints(msgspec.Struct, frozen=True, kw_only=True):
    """The smoothed keypoints of a tracked person, in the order of COCO.

    Nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles; left before right.
    """

    track: str  # track id
    points_px: tuple[tuple[float, float], ...]  # x and y of the 17 keypoints, pixels of the frame
    scores: tuple[float, ...]  # confidence in each, 0 to 1; it fades while a keypoint is hidden
    sigma_px: tuple[float, ...]  # standard deviation of each, root mean square of x and y


class OpenPosture(msgspec.Struct, frozen=True, kw_only=True):
    """A posture that a tracked person has."""

    label: Posture  # name of the posture
    clear: float  # how clear it is, 0 to 1
    since_us: int  # media time when it became as clear as the threshold `begin`
    track: str  # track id


class EndedPosture(msgspec.Struct, frozen=True, kw_only=True):
    """A posture that is over, or of which nothing is known any more."""

    label: Posture  # name of the posture
    clear: float  # how clear it was last, 0 to 1
    clear_max: float  # how clear it was at most since it began
    since_us: int  # media time when it became as clear as the threshold `begin`
    reason: (
        PostureReason  # over: less clear than the threshold `end`; lost: no longer observed;
        # otherwise as of tracks
    )
    track: str  # track id


class PoseUpdate(msgspec.Struct, frozen=True, tag_field="type", tag="pose.update"):
    """The keypoints of a track, at most once in `pose.update_s`."""

    pose: Keypoints  # whose, and where they are


class PostureBegin(msgspec.Struct, frozen=True, tag_field="type", tag="posture.begin"):
    """A posture has been clear for long enough."""

    posture: OpenPosture  # which, and whose


class PostureEnd(msgspec.Struct, frozen=True, tag_field="type", tag="posture.end"):
    """A posture is over; it precedes the `track.end` of the same frame."""

    posture: EndedPosture  # which, and whose


PoseBody = PoseUpdate | PostureBegin | PostureEnd


def line(what: PoseBody) -> str:
    """Return the line of `events tail`, after the type."""
    match what:
        case PoseUpdate(pose):
            sure = sum(score >= 0.3 for score in pose.scores)
            return f"{pose.track:<16} {sure} of {len(pose.scores)} keypoints"
        case PostureBegin(posture):
            return f"{posture.track:<16} {posture.label} {posture.clear:.2f}"
        case PostureEnd(ended):
            return f"{ended.track:<16} {ended.label} ({ended.reason})"
        case _:
            assert_never(what)


def csv_rows(what: PoseBody) -> list[Cells]:
    """Return a row for each keypoint, or the row of a posture."""
    match what:
        case PoseUpdate(pose):
            rows = zip(NAMES, pose.points_px, pose.scores, pose.sigma_px, strict=True)
            columns = ("track", "label", "score", "x_px", "y_px", "sigma_px")
            return [
                dict(zip(columns, (pose.track, name, score, x, y, sigma), strict=True))
                for name, (x, y), score, sigma in rows
            ]
        case PostureBegin(posture):
            return [members(posture, "track", "label", "since_us", "clear")]
        case PostureEnd(ended):
            return [members(ended, "track", "label", "since_us", "clear", "clear_max", "reason")]
        case _:
            assert_never(what)


POSE_EVENTS = EventTypes(
    (PoseUpdate, PostureBegin, PostureEnd),
    line,
    csv_rows,
    columns=("x_px", "y_px", "sigma_px", "clear", "clear_max"),
    identity=("track", "label"),
)
