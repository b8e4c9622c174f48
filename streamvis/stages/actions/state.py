"""The state of the action stage for one source: sampling clock, subjects and their samples.

A subject is a tracked person, or the whole frame under the id WHOLE. The networks fill in an
`ActionSample` later, for all sources of a call at once. The last sample of a subject has its
probabilities.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from streamvis.messages import Array, Frame, Tracks
from streamvis.stages.actions import OffActions
from streamvis.tracking.tubelets import Tubelet, watched

WHOLE = 0  # tracks count from 1
WARM = 7  # pairs, or the window if that is less
EARLY = 0.05  # of the time between samples: containers round time stamps
APART = 3.0  # sampling intervals: samples further apart are no pair


class SamplingPlan(NamedTuple):
    """Which subjects are sampled, when and at what size, by weights and configuration."""

    every_us: int
    window: int  # pairs
    size: tuple[int, int]  # of what the networks take, height and width
    whole: bool
    people: int  # at most, 0: none
    min_height: float  # px
    context: float

    @classmethod
    def of(
        cls, config: OffActions, every_s: float, window: int, size: tuple[int, int]
    ) -> "SamplingPlan":
        return cls(
            every_us=round(every_s * 1e6),
            window=window,
            size=size,
            whole=config.scope != "people",
            people=0 if config.scope == "frame" else config.people,
            min_height=config.min_height,
            context=config.context,
        )


class ActionSample:
    """One sample of a subject; its results are filled in by the networks."""

    def __init__(self, media_us: int, box: Array, previous: "ActionSample | None") -> None:
        self.media_us = media_us
        self.box = box  # (4,) xyxy px of the crop
        self.previous = previous  # the sample it is paired with, until the next pair is done
        self.paired = previous is not None
        self.first_us = media_us  # of the window that ends with it
        self.warm = False
        self.window: tuple[ActionSample, ...] = ()  # until the probabilities are known
        self.features: Any = None  # of the networks, until two pairs have used them
        self.frame: Array | None = None  # (K,) logits
        self.levels: Array | None = None  # (L, K) logits of the pair; None: no pair
        self.probabilities: Array | None = None  # (K,)

    @property
    def second_previous(self) -> "ActionSample | None":
        """The sample before the previous one; the previous one itself when there is none."""
        return self.previous and (self.previous.previous or self.previous)

    def release_pair(self) -> None:
        """Release the features of the previous sample."""
        if self.previous:
            self.previous.features = self.previous.previous = None
            self.previous = None


class SubjectRow(NamedTuple):
    """The last sample of a subject, and whether it was taken in this frame."""

    id: int
    sample: ActionSample
    sampled: bool  # in this frame


class Subject:
    """The samples of a subject in a sliding window."""

    def __init__(self, window: int, tubelet: Tubelet | None = None) -> None:
        self.tubelet = tubelet  # None: the whole frame
        self.samples: deque[ActionSample] = deque(maxlen=window + 1)  # these make so many pairs
        self.paused = True  # the next sample makes no pair

    def sample_at(self, media_us: int, box: Array, every_us: int) -> ActionSample:
        """Add a sample, paired with the previous one unless that is too long ago."""
        most = self.samples.maxlen or 1
        if self.samples and media_us - self.samples[-1].media_us > APART * every_us:
            self.pause()
            if media_us - self.samples[-1].media_us > most * every_us:
                self.samples.clear()
        sample = ActionSample(media_us, box, None if self.paused else self.samples[-1])
        self.samples.append(sample)
        self.paused = False
        sample.first_us = self.samples[0].media_us
        sample.window = tuple(self.samples)
        pairs = sum(one.paired for one in sample.window[1:])
        sample.warm = sample.paired and pairs >= min(WARM, most - 1)
        return sample

    def pause(self) -> None:
        """Stop sampling for a while: release the features kept for pairs."""
        self.paused = True
        if self.samples:
            self.samples[-1].features = None
            self.samples[-1].release_pair()


class ActionState:
    """The subjects of one source, which `observe` returns for every frame in order."""

    def __init__(self, plan: SamplingPlan, labels: int) -> None:
        self.plan = plan
        self.labels = labels  # number of actions
        self.restart()

    def restart(self) -> None:
        """Forget all subjects; the next frame is sampled."""
        self.next_us: int | None = None  # when the next sample is due; None: at once
        self.subjects: dict[int, Subject] = {}

    def resize(self, width: int, height: int) -> None:
        """Forget all subjects: boxes of another size are in other places."""
        self.restart()

    def observe(self, frame: Frame, tracks: Tracks | None) -> list[SubjectRow]:
        """The rows of all subjects, with new samples for those sampled in this frame."""
        if self.plan.people and tracks is not None:
            self._correct(tracks)
            self._follow(frame.media_us, tracks)
        complete = tracks is not None or not self.plan.people  # the stage has all that it reads
        sampled = self._take_samples(frame) if complete and self._due(frame.media_us) else set()
        return [
            SubjectRow(id_, subject.samples[-1], id_ in sampled)
            for id_, subject in sorted(self.subjects.items())
            if subject.samples
        ]

    def _due(self, media_us: int) -> bool:
        """Whether to sample: at the first frame at or after each due time, without drift."""
        every = self.plan.every_us
        if self.next_us is None:
            self.next_us = media_us
        if media_us < self.next_us - EARLY * every:
            return False
        late = media_us - self.next_us
        self.next_us = media_us + every if late >= every else self.next_us + every
        return True

    def _correct(self, tracks: Tracks) -> None:
        """Apply splits, which drop both subjects, then merges, which keep one."""
        for id_, other, _ in [] if tracks.split is None else tracks.split.tolist():
            for one in (id_, other):
                self.subjects.pop(one, None)
        for gone, kept in [] if tracks.merged is None else tracks.merged.tolist():
            if gone != kept and (subject := self.subjects.pop(gone, None)) is not None:
                self.subjects.setdefault(kept, subject)

    def _follow(self, media_us: int, tracks: Tracks) -> None:
        """Move the crop windows along; drop subjects whose track is not in the frame."""
        previous, self.subjects = self.subjects, {}
        if WHOLE in previous:
            self.subjects[WHOLE] = previous[WHOLE]
        for id_, box in zip(tracks.ids.tolist(), tracks.boxes, strict=True):
            if not (np.isfinite(box).all() and (box[:2] < box[2:]).all()):
                continue
            subject = previous.get(id_)
            if subject is None or subject.tubelet is None:
                subject = Subject(self.plan.window, Tubelet(box, media_us))
            else:
                subject.tubelet.follow(box, media_us)
            self.subjects[id_] = subject

    def _take_samples(self, frame: Frame) -> set[int]:
        if self.plan.whole:
            self.subjects.setdefault(WHOLE, Subject(self.plan.window))
        tubelets = {id_: s.tubelet for id_, s in self.subjects.items() if s.tubelet is not None}
        heights = {id_: tubelet.height for id_, tubelet in tubelets.items()}
        already = {id_ for id_ in tubelets if not self.subjects[id_].paused}
        chosen = watched(heights, already, self.plan.people, self.plan.min_height)
        for id_, subject in self.subjects.items():
            if subject.tubelet is None:
                box = np.array([0, 0, frame.width, frame.height], np.float64)
            elif id_ in chosen:
                box = subject.tubelet.window(
                    self.plan.context, self.plan.size, (frame.width, frame.height)
                )
            else:
                subject.pause()
                subject.samples.clear()
                continue
            subject.sample_at(frame.media_us, box, self.plan.every_us)
        return {WHOLE} & self.subjects.keys() | chosen

    def state(self) -> bytes:
        """Encode the means of each window, without features: a successor is not warm at once."""
        summaries = [
            _Summary.of(id_, subject)
            for id_, subject in self.subjects.items()
            if subject.samples or subject.tubelet
        ]
        return _encoder.encode(_StoredActions(self.next_us, summaries))

    def restore(self, state: bytes) -> None:
        """Continue from `state`; ValueError or DecodeError on anything else."""
        was = _decoder.decode(state)
        self.next_us = was.next_us
        self.subjects = {one.id: one.subject(self.plan, self.labels) for one in was.subjects}


class _Summary(msgspec.Struct, array_like=True):
    """The means of a subject's window, as it is stored."""

    id: int
    tubelet: tuple[int, list[float]] | None  # media µs and its state
    times: tuple[int, int]  # media µs of the first and the last sample
    samples: int = 0
    pairs: int = 0
    frame: list[float] = []  # mean logits of samples
    levels: list[list[float]] = []  # of pairs
    probabilities: list[float] = []

    @classmethod
    def of(cls, id_: int, subject: Subject) -> "_Summary":
        smoothed = subject.tubelet
        tubelet = None if smoothed is None else (smoothed.at_us, smoothed.state())
        samples = [one for one in subject.samples if one.frame is not None]
        if not samples:
            return cls(id_, tubelet, (0, 0))
        last = samples[-1]
        frames = [one.frame for one in samples if one.frame is not None]
        levels = [one.levels for one in samples[1:] if one.levels is not None]
        return cls(
            id_,
            tubelet,
            (samples[0].media_us, last.media_us),
            len(samples),
            sum(one.paired for one in samples[1:]),
            _mean(frames).tolist(),
            _mean(levels).tolist() if levels else [],
            [] if last.probabilities is None else last.probabilities.tolist(),
        )

    def subject(self, plan: SamplingPlan, labels: int) -> Subject:
        """Equal samples with the stored means; the last one is not warm."""
        tubelet = self.tubelet and Tubelet.resume(self.tubelet[1], self.tubelet[0])
        made = Subject(plan.window, tubelet)
        frame = np.array(self.frame, np.float32)
        levels = np.array(self.levels, np.float32)
        known = np.array(self.probabilities, np.float32)
        if not self.samples:
            return made
        fits = frame.shape == known.shape == (labels,) and len(levels.T) in (0, labels)
        if not (fits and 0 <= self.pairs <= self.samples <= plan.window + 1):
            raise ValueError(
                f"subject {self.id} has {self.samples} samples of {len(frame)} actions; expected "
                f"at most {plan.window + 1} of {labels}, the actions of the weights"
            )
        for at_us in np.linspace(*self.times, self.samples).round().astype(int).tolist():
            sample = ActionSample(at_us, np.zeros(4), None)
            sample.frame, sample.probabilities = frame, known
            sample.paired = len(made.samples) >= self.samples - self.pairs
            sample.levels = levels if sample.paired and len(levels) else None
            sample.first_us = self.times[0]
            made.samples.append(sample)
        return made


class _StoredActions(msgspec.Struct, array_like=True):
    next_us: int | None
    subjects: list[_Summary]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_StoredActions)


def means(window: Sequence[ActionSample]) -> tuple[Array, Array | None]:
    """Mean logits of a window's samples (K,) and of the levels of its pairs (L, K).

    The pair of the first sample lies outside the window.
    """
    frames = [one.frame for one in window if one.frame is not None]
    levels = [one.levels for one in window[1:] if one.levels is not None]
    return _mean(frames), _mean(levels) if levels else None


def _mean(logits: list[Array]) -> Array:
    return np.asarray(np.mean(logits, 0, np.float64).astype(np.float32))
