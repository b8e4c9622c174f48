"""Derive the events of a scene, and of out-of-distribution objects in it. Pure.

`scene.update` is sampled. Out-of-distribution objects begin and end by hysteresis in the area of
the largest region and in media time.
"""

import cv2
import msgspec
import numpy as np

from streamvis.events.deriver import Draft, FrameEvents, PublishPolicy, rounded
from streamvis.events.envelope import EventBody, Reason
from streamvis.events.mask_attachments import mask_attachment
from streamvis.messages import Findings, Frame, Packet, Segmentation, SourceInfo, class_shares
from streamvis.stages.hysteresis import Hysteresis
from streamvis.stages.segment import Alarm
from streamvis.stages.segment.events import (
    EndedSighting,
    Region,
    Scene,
    SceneUpdate,
    Sighting,
    SightingReason,
    Unknown,
    UnknownBegin,
    UnknownEnd,
)

END_SHARE = 0.5  # of the area at which an object begins: below this share of it, it ends


class OpenUnknown(msgspec.Struct):
    """An out-of-distribution object that may begin, is open, or may end."""

    hysteresis: Hysteresis
    region: Region  # the last that was large enough
    share_max: float


class SceneState(msgspec.Struct):
    """The state of one source's scene events."""

    published_us: int | None = None  # of the last `scene.update`
    unknown: OpenUnknown | None = None
    begun: int | None = None  # how often an object began; None: the weights do not detect it


class SceneDeriver:
    """Derives the events of one source's segmentation."""

    def __init__(
        self, alarm: Alarm, source: SourceInfo, policy: PublishPolicy, state: bytes | None
    ) -> None:
        self.alarm = alarm
        self.policy = policy
        self._state = (
            SceneState() if state is None else msgspec.msgpack.decode(state, type=SceneState)
        )

    def derive(self, packet: Packet) -> FrameEvents:
        """Return begin or end of an out-of-distribution object, then the scene if it is due."""
        state, frame, segmentation = self._state, packet.frame, packet.part(Segmentation)
        if segmentation is None:
            return FrameEvents()
        drafts: list[Draft] = []
        unknown = _unknown(frame, segmentation, self.alarm.p)
        if unknown is not None:
            state.begun = state.begun or 0
            drafts += map(Draft, self._step(unknown.largest, frame.media_us))
        if (
            state.published_us is None
            or frame.media_us - state.published_us >= self.policy.every_us
        ):
            state.published_us = frame.media_us
            mask, attachments = mask_attachment(
                segmentation.labels, segmentation.classes, self.policy
            )
            classes = class_shares(segmentation.labels, segmentation.classes)
            scene = Scene(classes=classes, unknown=unknown, mask=mask)
            drafts.append(Draft(SceneUpdate(scene), attachments))
        return FrameEvents(drafts=drafts)

    def close(self, reason: Reason) -> list[EventBody]:
        """End the open out-of-distribution object."""
        ends = self._end(reason)
        if reason == "epoch":
            self._state.published_us = None
        return ends

    def findings(self, so_far: Findings) -> Findings:
        """Return the findings with the number of out-of-distribution objects."""
        if self._state.begun is None:
            return so_far
        return msgspec.structs.replace(so_far, unknown=self._state.begun)

    def state(self) -> bytes:
        """Return the open object, its count and the time of the last scene."""
        return msgspec.msgpack.encode(self._state)

    def _step(self, region: Region | None, media_us: int) -> list[EventBody]:
        state, rule = self._state, self.alarm
        share = region.share if region else 0.0
        if region and share >= rule.area and state.unknown is None:
            state.unknown = OpenUnknown(Hysteresis(media_us), region, share)
        if state.unknown is None:
            return []
        unknown = state.unknown
        if region and share >= END_SHARE * rule.area:
            unknown.region, unknown.share_max = region, max(share, unknown.share_max)
        match unknown.hysteresis.step(
            media_us,
            round(rule.min_s * 1e6),
            begins=share >= rule.area,
            ends=share < END_SHARE * rule.area,
        ):
            case "dropped":
                state.unknown = None
            case "begin":
                state.begun = (state.begun or 0) + 1
                return [UnknownBegin(_sighting(unknown))]
            case "end":
                return self._end("over")
        return []

    def _end(self, reason: SightingReason) -> list[EventBody]:
        unknown, self._state.unknown = self._state.unknown, None
        return [_ended(unknown, reason)] if unknown and unknown.hysteresis.begun else []


def _unknown(frame: Frame, segmentation: Segmentation, p: float) -> Unknown | None:
    """The pixels whose probability is at least `p`; None with weights that do not detect them."""
    if not segmentation.unknown.size:
        return None
    height, width = segmentation.unknown.shape
    likely = (segmentation.unknown >= 255 * p).astype(np.uint8)
    share = rounded(likely.mean(), 5)
    count, places, stats, _ = cv2.connectedComponentsWithStats(likely, connectivity=8)
    if count == 1:  # the rest of the picture, which is not a region
        return Unknown(share=share)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y, w, h, area = stats[largest].tolist()
    sx, sy = frame.width / width, frame.height / height
    region = Region(
        share=rounded(area / likely.size, 5),
        box_px=(
            *(round(x * sx, 2), round(y * sy, 2)),
            *(round((x + w) * sx, 2), round((y + h) * sy, 2)),
        ),
        p=rounded(segmentation.unknown[places == largest].mean() / 255, 4),
    )
    return Unknown(share=share, largest=region)


def _sighting(unknown: OpenUnknown) -> Sighting:
    region = unknown.region
    return Sighting(
        share=region.share,
        box_px=region.box_px,
        p=region.p,
        since_us=unknown.hysteresis.since_us,
    )


def _ended(unknown: OpenUnknown, reason: SightingReason) -> UnknownEnd:
    region = unknown.region
    return UnknownEnd(
        EndedSighting(
            share=region.share,
            box_px=region.box_px,
            p=region.p,
            since_us=unknown.hysteresis.since_us,
            share_max=unknown.share_max,
            reason=reason,
        )
    )
