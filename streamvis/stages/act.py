"""The stage that names what people do.

Frames between two samples cost nothing: they repeat what is known. A sample costs a pass of the
trunk and one of OFF for each person looked at, all people and sources of a call in one batch.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch

from streamvis.config import OffActions
from streamvis.errors import ConfigError, ModelError
from streamvis.messages import (
    Actions,
    Array,
    Ending,
    Frame,
    Judgement,
    Notice,
    Packet,
    Site,
    SourceInfo,
    Tracks,
)
from streamvis.models.crops import crop
from streamvis.models.inference.actions import accelerate_actions
from streamvis.models.off import LEVELS
from streamvis.models.weights import load_actions
from streamvis.stages.action_state import WHOLE, Moment, Plan, Row, Watch, means

MOST = 32  # subjects in one batch


class ActStage:
    """Watch every source on its own clock; what the weights call an action is told for each."""

    def __init__(self, config: OffActions, site: Site) -> None:
        self.pixels = site.pixels
        model = load_actions(config.weights, site.device)
        about = model.architecture
        if about.modality != "rgb":
            raise ModelError(
                f"weights '{config.weights}' take {about.modality}; a stage 'off' has pictures "
                "only: use weights of modality rgb"
            )
        if set(about.actions) <= set(config.ignore):
            raise ConfigError(
                f"stage kind off: `ignore` holds all actions of '{config.weights}', which are "
                f"{', '.join(about.actions)}; leave at least one to be told"
            )
        self.labels = about.actions
        self.calibration = model.calibration
        self.plan = Plan.of(config, about.every_s, about.window, about.size)
        self.judgement = Judgement(
            begin=config.begin,
            end=config.end,
            min_us=round(config.min_s * 1e6),
            ignore=tuple(config.ignore),
        )
        self.network = accelerate_actions(model, site.device, config.precision, config.engine)
        self.watches: dict[str, Watch] = {}

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start a source, or resume it: not warm, since maps are too large to be handed on."""
        self.watches[source.id] = (
            Watch(self.plan, source.epoch)
            if state is None
            else Watch.resume(self.plan, source.id, state, len(self.labels))
        )

    def state(self, source: str) -> bytes:
        """A few numbers for each person."""
        return self.watches[source].state()

    def notice(self, notice: Notice) -> None:
        """Frames carry all that matters here: their time and their stream epoch."""

    def finish(self, source: str, ending: Ending) -> None:
        """Forget a source that has ended."""
        self.watches.pop(source, None)

    def close(self) -> None:
        """Nothing is held but memory."""

    @torch.inference_mode()
    def __call__(self, packets: Sequence[Packet]) -> Iterator[Actions]:
        seen: list[list[Row]] = []
        moments: list[Moment] = []  # new ones, each after the one that it makes a pair with
        crops: list[Array] = []
        for packet in packets:
            frame = packet.frame
            rows = self.watches[frame.source].see(frame, packet.part(Tracks))
            new = [row for row in rows if row.sampled]
            if new:
                crops += self._cut(frame, new)
                moments += [row.moment for row in new]
            seen.append(rows)
        for i in range(0, len(moments), MOST):
            self._project(moments[i : i + MOST], np.stack(crops[i : i + MOST]))
        pairs = [moment for moment in moments if moment.before is not None]
        for i in range(0, len(pairs), MOST):
            self._pair(pairs[i : i + MOST])
        for moment in moments:
            self._judge(moment)
        return map(self._told, seen)

    def _cut(self, frame: Frame, rows: Sequence[Row]) -> list[Array]:
        """What is looked at (h, w, 3): people cut out, the whole frame squashed as in training."""
        pixels, (height, width) = self.pixels(frame), self.plan.size
        people = np.array([row.moment.box for row in rows if row.id != WHOLE]).reshape(-1, 4)
        crops = list(crop(pixels, people, self.plan.size))
        if any(row.id == WHOLE for row in rows):  # it is the first
            shrinks = pixels.shape[0] > height
            how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            crops.insert(0, cv2.resize(pixels, (width, height), interpolation=how))
        return crops

    def _project(self, moments: Sequence[Moment], crops: Array) -> None:
        for moment, kept in zip(moments, self.network.project(crops), strict=True):
            moment.kept = kept
            moment.frame = kept.frame[0].float().cpu().numpy()

    def _pair(self, moments: Sequence[Moment]) -> None:
        """Fill in the levels of these and give back what only they needed."""
        before = [moment.before.kept for moment in moments if moment.before]
        earlier = [moment.earlier.kept for moment in moments if moment.earlier]
        levels = self.network.pair(before, [moment.kept for moment in moments], earlier).numpy()
        for moment, found in zip(moments, levels, strict=False):  # there may be none
            moment.levels = found.copy()
        for moment in moments:
            if moment.before:
                moment.before.let_go()

    def _judge(self, moment: Moment) -> None:
        """The calibrated probabilities of the window that ends with this moment."""
        frame, levels = means(moment.window)
        streams = {"frame": torch.from_numpy(frame)}
        if levels is not None:
            streams |= dict(zip(LEVELS, torch.from_numpy(levels), strict=True))
        moment.probabilities = self.calibration.probabilities(streams).numpy()
        moment.window = ()

    def _told(self, rows: Sequence[Row]) -> Actions:
        moments = [row.moment for row in rows]
        known = [m.probabilities for m in moments if m.probabilities is not None]
        return Actions(
            labels=self.labels,
            ids=np.array([row.id for row in rows], np.int64),
            probabilities=np.array(known, np.float32).reshape(len(rows), len(self.labels)),
            warm=np.array([moment.warm for moment in moments], bool),
            window_us=np.array([m.media_us - m.first_us for m in moments], np.int64),
            sampled=np.array([row.sampled for row in rows], bool),
            judgement=self.judgement,
        )
