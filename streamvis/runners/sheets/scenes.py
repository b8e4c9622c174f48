"""Sheets of segmentation and forecasting: pictures with their classes, in rows."""

from collections.abc import Sequence

from streamvis.datasets.classes import VOID, Classes
from streamvis.evaluation.segmentation import Confusion
from streamvis.messages import Array
from streamvis.runners.forecasts import COPY, ORACLE, ForecastResult, Horizon, SampledTarget
from streamvis.runners.outliers import OutlierResult, with_objects
from streamvis.runners.progress import Progress, silent
from streamvis.runners.scene_networks import SceneNetwork
from streamvis.runners.segmentation import SegmentationResult, StreetScenes
from streamvis.training.scenes.outlier_synthesis import OutlierObject, PastedImage
from streamvis.viz.numbers import decimals
from streamvis.viz.scene import Panel, Row, blended, heat, outlined, palette_of, strips

WORST = 8  # pictures of a sheet
EDGE = (255, 220, 0)  # RGB, around the pasted object


def segmentation_sheet(
    data: StreetScenes, result: SegmentationResult, network: SceneNetwork, name: str
) -> Array:
    """Draw the pictures with the lowest mIoU, (H, W, 3) RGB."""
    rows = [_segmented(data, i, result.per_picture[i], network) for i in result.worst(WORST)]
    title = f"{name}: the worst {len(rows)} of {len(data.scenes)} pictures of {data.name}"
    return strips(title, rows, data.classes.names)


def _segmented(data: StreetScenes, index: int, miou: float | None, network: SceneNetwork) -> Row:
    scene, palette = data.scenes[index], palette_of(data.classes.names)
    pixels, truth = data.read(scene)
    panels = [
        Panel("picture", pixels),
        Panel("truth", blended(pixels, truth, palette)),
        Panel("ours", blended(pixels, network.segment(pixels).labels, palette)),
    ]
    return Row(f"{scene.name}: mIoU {decimals(miou)}", panels)


def outlier_sheet(
    data: StreetScenes,
    objects: Sequence[OutlierObject],
    seed: int,
    result: OutlierResult,
    network: SceneNetwork,
    name: str,
    progress: Progress = silent,
) -> Array:
    """Draw the pictures whose object was found worst, (H, W, 3) RGB."""
    order = result.worst(WORST)
    pictures = progress(with_objects(data, objects, seed), data.name, len(data.scenes))
    shown = {i: one for i, (_, _, one) in enumerate(pictures) if i in order}
    rows = [
        _with_object(data.scenes[i].name, shown[i], result.per_picture[i], network) for i in order
    ]
    title = f"{name}: of {len(data.scenes)} pictures of {data.name}, those with the worst AP"
    return strips(title, rows, data.classes.names)


def _with_object(scene: str, one: PastedImage, ap: float | None, network: SceneNetwork) -> Row:
    picture = network.segment(one.pixels)
    palette = palette_of(network.names)
    unknown = heat(one.pixels, network.unknown(picture))
    panels = [
        Panel("pasted object", outlined(one.pixels, one.unknown, EDGE)),
        Panel("unknown", outlined(unknown, one.unknown, EDGE)),
        Panel("classes", blended(one.pixels, picture.labels, palette)),
    ]
    return Row(f"{scene}: AP {decimals(ap)}", panels)


def forecast_sheet(result: ForecastResult, segmenter: str) -> Array:
    """Draw some targets of each horizon, each with all its forecasts, (H, W, 3) RGB."""
    classes = result.video.classes
    rows = [
        _forecast(target, horizon, classes)
        for horizon in result.horizons
        for target in horizon.samples.items
    ]
    title = f"{result.video.name}: forecasts from {segmenter}, over the future picture"
    return strips(title, rows, classes.names)


def _forecast(target: SampledTarget, horizon: Horizon, classes: Classes) -> Row:
    palette = palette_of(classes.names)
    truth = target.target.truth
    panels = [Panel("last picture", target.last.pixels)]
    for method in (ORACLE, COPY, *(method.label for method in horizon.methods)):
        one = Confusion(classes.names, VOID)
        one.add(target.labels[method], target.labels[ORACLE] if truth is None else truth)
        name = "oracle" if method == ORACLE else method
        miou = "" if truth is None and method == ORACLE else f" {decimals(one.miou())}"
        labels = blended(target.target.pixels, target.labels[method], palette)
        panels.append(Panel(f"{name}{miou}", labels))
    if truth is not None:
        panels.append(Panel("truth", blended(target.target.pixels, truth, palette)))
    at = target.target.media_us / 1e6
    return Row(f"{horizon.us / 1e6:g} s ahead, at {at:.2f} s", panels)
