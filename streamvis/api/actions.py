"""The recogniser of actions of one video."""

from pathlib import Path
from typing import Unpack

from streamvis.api.checks import (
    FrameClock,
    check_device,
    check_picture,
    check_tracks,
    check_weights,
    configured,
)
from streamvis.api.settings import ActionSettings
from streamvis.errors import UsageError
from streamvis.messages import Actions, Array, Frame, Packet, Part, SourceInfo, Tracks
from streamvis.stages.actions import OffActions
from streamvis.stages.actions.stage import ActStage
from streamvis.stages.protocol import Site

WHERE = "ActionRecogniser"
SOURCE = "video"


class ActionRecogniser:
    """Recognises actions of tracked people, or of the whole frame, frame after frame of one video.

    weights: a shipped name, or a path; they determine which frames are sampled. fps: frames per
    second, unless each call has its `time_s`. Settings are those of `off` (docs/settings.md).
    """

    def __init__(
        self,
        weights: str | Path = "fight-off",
        fps: float | None = None,
        *,
        device: str = "cpu",
        **settings: Unpack[ActionSettings],
    ) -> None:
        given = {"weights": check_weights(weights, WHERE), **settings}
        self.config = configured(OffActions, WHERE, given)
        self._clock = FrameClock(fps, WHERE)
        self._pixels: dict[int, Array] = {}  # by number of the frame, while it is processed
        site = Site(device=check_device(device, WHERE), pixels=lambda frame: self._pixels[frame.n])
        self._stage = ActStage(self.config, site)
        self._frames = 0

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the actions."""
        return self._stage.labels

    def __call__(
        self, picture: Array, tracks: Tracks | None = None, *, time_s: float | None = None
    ) -> Actions:
        """Return the probabilities of the actions in the next frame (H, W, 3) uint8 RGB.

        tracks: of this frame, unless scope is `frame`. time_s: media time, increasing.
        """
        check_picture(picture, WHERE)
        if tracks is not None:
            check_tracks(tracks, WHERE)
        elif self.config.scope != "frame":
            raise UsageError(
                f"{WHERE}: scope {self.config.scope!r} needs the tracks of the frame: "
                "recognise(rgb, tracks); or classify whole frames: scope='frame'"
            )
        media_us = self._clock.at(time_s)
        height, width = picture.shape[:2]
        if not self._frames:
            self._stage.begin(_source(width, height, self._clock.fps), None)
        n = self._frames
        frame = Frame(source=SOURCE, seq=n, n=n, media_us=media_us, width=width, height=height)
        parts: list[Part] = [] if tracks is None else [tracks]
        self._clock.advance(media_us, given=time_s is not None)
        self._frames += 1
        self._pixels[n] = picture
        try:
            (actions,) = self._stage([Packet(frame=frame, parts=parts)])
        finally:
            del self._pixels[n]
        return actions

    def __repr__(self) -> str:
        return f"ActionRecogniser({self.config.weights!r}, scope={self.config.scope!r})"


def _source(width: int, height: int, fps: float | None) -> SourceInfo:
    return SourceInfo(id=SOURCE, label=SOURCE, width=width, height=height, fps=fps or 0, live=False)
