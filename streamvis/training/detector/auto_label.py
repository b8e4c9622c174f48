"""Automatic annotation of one source: choose pictures, detect people, write both into a folder."""

import math
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from streamvis.errors import UsageError
from streamvis.messages import Array, Detections, SourceInfo
from streamvis.sources import Picture, SourceSpec, open_source, whole
from streamvis.training.detector.annotation import CocoImage, LabelPlan, annotate, chosen
from streamvis.training.detector.coco_folder import CocoFolder
from streamvis.training.progress import progress

Detect = Callable[[Array], Detections]  # pixels (H, W, 3) uint8 RGB -> people
AT_ONCE = 0.001  # seconds between pictures: all of a folder whose pictures have no times


def label_source(
    spec: SourceSpec, folder: CocoFolder, detect: Detect, plan: LabelPlan, limit: int | None
) -> None:
    """Annotate at most `limit` pictures of a source; those in the folder already are kept."""
    source = open_source(spec)
    try:
        if source.info.live:
            raise UsageError(
                f"source '{spec.label}' is live and cannot be read again: record it first, and "
                "label the recording"
            )
        timed = spec.kind != "images" or spec.fps is not None
        every = plan.every if timed else AT_ONCE
        for picture in _shown(islice(chosen(whole(source), every), limit), source.info, every):
            if plan.most is not None and len(folder) >= plan.most:
                break
            name = file_name(spec.id, picture, timed=timed)
            if name in folder:
                continue
            pixels = np.ascontiguousarray(picture.pixels)
            image = CocoImage(
                id=folder.next_image,
                file_name=name,
                width=pixels.shape[1],
                height=pixels.shape[0],
                source=spec.id,
                media_us=picture.media_us,
            )
            folder.add(pixels, image, annotate(detect(pixels), image, folder.next_annotation, plan))
    finally:
        source.close()


def file_name(source: str, picture: Picture, *, timed: bool) -> str:
    """Return a name such as `monday_00h01m23s456.jpg`, or the number where there are no times.

    The only dot is the last: annotation tools cut names at dots.
    """
    if not timed:
        return f"{source}_{picture.n:06}.jpg"
    seconds, ms = divmod(picture.media_us // 1000, 1000)
    return f"{source}_{seconds // 3600:02}h{seconds // 60 % 60:02}m{seconds % 60:02}s{ms:03}.jpg"


def _shown(pictures: Iterator[Picture], info: SourceInfo, every: float) -> Iterator[Picture]:
    """Pass the pictures on with a progress bar; its total ignores that still ones are skipped."""
    seconds = info.frames / info.fps if info.frames and info.fps else 0
    total = math.ceil(seconds / every) or None if every > AT_ONCE else info.frames
    return progress(pictures, info.id, total)
