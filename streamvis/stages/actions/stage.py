"""The action recognition stage.

Frames between two samples repeat the last probabilities, at no cost. A sample costs one pass of the
trunk and one of OFF for each observed subject; those of all sources of a call form one batch.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch

from streamvis.errors import ConfigError, ModelError
from streamvis.messages import (
    Actions,
    ActionThresholds,
    Array,
    Ending,
    Frame,
    Packet,
    SourceInfo,
    Tracks,
)
from streamvis.models.crops import crop
from streamvis.models.inference.actions import accelerate_actions
from streamvis.models.off import LEVELS
from streamvis.models.weights import load_actions
from streamvis.stages.actions import OffActions
from streamvis.stages.actions.state import (
    WHOLE,
    ActionSample,
    ActionState,
    SamplingPlan,
    SubjectRow,
    means,
)
from streamvis.stages.per_source import PerSource
from streamvis.stages.protocol import Site, StatefulStage

MAX_BATCH = 32  # subjects


class ActStage(StatefulStage):
    """Classify actions of tracks and of the whole frame, for each source on its own clock."""

    def __init__(self, config: OffActions, site: Site) -> None:
        self.pixels = site.pixels
        model = load_actions(config.weights, site.device)
        about = model.architecture
        if about.modality != "rgb":
            raise ModelError(
                f"weights '{config.weights}' have modality {about.modality}, expected rgb: "
                "a stage of kind off reads pixels only. Choose weights of modality rgb"
            )
        if set(about.actions) <= set(config.ignore):
            raise ConfigError(
                f"stage kind off: `ignore` lists all actions of '{config.weights}' "
                f"({', '.join(about.actions)}); leave at least one out"
            )
        self.labels = about.actions
        self.calibration = model.calibration
        self.plan = SamplingPlan.of(config, about.every_s, about.window, about.size)
        self.thresholds = ActionThresholds(
            begin=config.begin,
            end=config.end,
            min_us=round(config.min_s * 1e6),
            ignore=tuple(config.ignore),
        )
        self.network = accelerate_actions(model, site.device, config.precision, config.engine)
        self.sources: PerSource[ActionState] = PerSource("off")

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start or resume a source; a resumed one is not warm, since its state has no features."""
        self.sources.begin(source, ActionState(self.plan, len(self.labels)), state)

    def state(self, source: str) -> bytes:
        """Return a few numbers for each person."""
        return self.sources.state(source)

    def finish(self, source: str, ending: Ending) -> None:
        """Forget a source that has ended."""
        self.sources.finish(source)

    @torch.inference_mode()
    def __call__(self, packets: Sequence[Packet]) -> Iterator[Actions]:
        seen: list[list[SubjectRow]] = []
        samples: list[ActionSample] = []  # new ones, each after the sample it is paired with
        crops: list[Array] = []
        for packet in packets:
            frame = packet.frame
            rows = self.sources.at(frame).observe(frame, packet.part(Tracks))
            new = [row for row in rows if row.sampled]
            if new:
                crops += self._cut(frame, new)
                samples += [row.sample for row in new]
            seen.append(rows)
        for i in range(0, len(samples), MAX_BATCH):
            self._project(samples[i : i + MAX_BATCH], np.stack(crops[i : i + MAX_BATCH]))
        pairs = [sample for sample in samples if sample.previous is not None]
        for i in range(0, len(pairs), MAX_BATCH):
            self._pair(pairs[i : i + MAX_BATCH])
        for sample in samples:
            self._classify(sample)
        return map(self._as_actions, seen)

    def _cut(self, frame: Frame, rows: Sequence[SubjectRow]) -> list[Array]:
        """Crops (h, w, 3) of people, and the whole frame resized as in training."""
        pixels, (height, width) = self.pixels(frame), self.plan.size
        people = np.array([row.sample.box for row in rows if row.id != WHOLE]).reshape(-1, 4)
        crops = list(crop(pixels, people, self.plan.size))
        if any(row.id == WHOLE for row in rows):  # it is the first
            shrinks = pixels.shape[0] > height
            how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            crops.insert(0, cv2.resize(pixels, (width, height), interpolation=how))
        return crops

    def _project(self, samples: Sequence[ActionSample], crops: Array) -> None:
        for sample, features in zip(samples, self.network.project(crops), strict=True):
            sample.features = features
            sample.frame = features.frame[0].float().cpu().numpy()

    def _pair(self, samples: Sequence[ActionSample]) -> None:
        """Compute the OFF levels of these samples and release features no longer needed."""
        previous = [sample.previous.features for sample in samples if sample.previous]
        second_previous = [
            sample.second_previous.features for sample in samples if sample.second_previous
        ]
        levels = self.network.pair(
            previous, [sample.features for sample in samples], second_previous
        ).numpy()
        for sample, found in zip(samples, levels, strict=False):  # there may be none
            sample.levels = found.copy()
        for sample in samples:
            if sample.previous:
                sample.previous.release_pair()

    def _classify(self, sample: ActionSample) -> None:
        """Compute the calibrated probabilities of the window that ends with this sample."""
        frame, levels = means(sample.window)
        streams = {"frame": torch.from_numpy(frame)}
        if levels is not None:
            streams |= dict(zip(LEVELS, torch.from_numpy(levels), strict=True))
        sample.probabilities = self.calibration.probabilities(streams).numpy()
        sample.window = ()

    def _as_actions(self, rows: Sequence[SubjectRow]) -> Actions:
        samples = [row.sample for row in rows]
        known = [m.probabilities for m in samples if m.probabilities is not None]
        return Actions(
            labels=self.labels,
            ids=np.array([row.id for row in rows], np.int64),
            probabilities=np.array(known, np.float32).reshape(len(rows), len(self.labels)),
            warm=np.array([sample.warm for sample in samples], bool),
            window_us=np.array([m.media_us - m.first_us for m in samples], np.int64),
            sampled=np.array([row.sampled for row in rows], bool),
            thresholds=self.thresholds,
        )
