"""A network of one's own as a stage: the same parts as of the built-in detector."""

from itertools import islice

import numpy as np
import pytest
from factories import packet, source
from onnx_files import onnx_file, yolov8_columns, yolox_rows
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.config import MaskRcnn, Yolox, load_pipeline
from streamvis.datasets import motchallenge
from streamvis.errors import ConfigError
from streamvis.events.log import LogReader
from streamvis.geometry import iou
from streamvis.runtime import inline
from streamvis.runtime.host import build_stage
from streamvis.sources import open_source, resolve
from streamvis.stages import event_codec
from streamvis.stages.detect.stage import PersonDetector
from streamvis.stages.overlay import Drawing
from streamvis.stages.protocol import Site
from streamvis.stages.record.picture import drawn, framed, overlays_of

SIZE = (96, 128)
BOXES = [(20, 10, 40, 60, 0.9), (70, 40, 90, 80, 0.86), (100, 5, 110, 25, 0.8)]
PIPELINE = """
stages:
  - {{name: detect, run: {{kind: yolox, weights: {weights}{more}}}}}
  - {{name: track, after: [detect], run: {{kind: jipda}}}}
  - {{name: publish, after: [track], run: {{kind: publish, bind: null}}}}
"""


def found(folder, pixels, **settings):
    """The part of one frame, and the packet with it."""
    given = {"weights": str(onnx_file(folder / "a.onnx", yolox_rows(SIZE, BOXES), size=SIZE))}
    site = Site(device="cpu", pixels=lambda frame: pixels)
    stage = Yolox(**{**given, "precision": "fp32", **settings}).build(site)
    frame = packet(0, size=(pixels.shape[1], pixels.shape[0]))
    (part,) = stage([frame])
    stage.close()
    return part, packet(0, part, size=(pixels.shape[1], pixels.shape[0]))


def grey(height=96, width=128):
    pixels = np.full((height, width, 3), 128, np.uint8)
    pixels.flags.writeable = False  # as a slot is
    return pixels


def test_the_part_is_that_of_the_built_in_detector_without_masks(tmp_path):
    part, _ = found(tmp_path, grey())
    (own,) = PersonDetector(MaskRcnn(short_side=64, masks=False), "cpu")([grey()])
    for name in ("boxes", "scores", "labels", "masks"):
        theirs, ours = getattr(part, name), getattr(own, name)
        assert (theirs.dtype, theirs.ndim) == (ours.dtype, ours.ndim)
        assert theirs.shape[1:] == ours.shape[1:]
    part.check()
    np.testing.assert_allclose(part.boxes, [box[:4] for box in BOXES], atol=1e-3)
    np.testing.assert_allclose(part.scores, [box[4] for box in BOXES], atol=1e-5)


def test_region_height_and_score_keep_what_they_say(tmp_path):
    left = [[(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]]
    twice = grey(192, 256)
    assert found(tmp_path, twice, region=left)[0].boxes.tolist() == [[40, 20, 80, 120]]
    assert len(found(tmp_path, twice, min_height=60)[0].boxes) == 2
    assert len(found(tmp_path, twice, min_score=0.88)[0].boxes) == 1
    with pytest.raises(ValueError, match="encloses no area"):
        Yolox(weights="a.onnx", region=[[(0, 0), (0.5, 0.5), (1, 1)]])


def test_detections_without_masks_are_drawn(tmp_path):
    _, packet_ = found(tmp_path, grey())
    info = source("a", size=(128, 96))
    overlays = overlays_of([Yolox(weights="a.onnx")], Drawing(source=info))
    picture = framed(drawn(overlays, packet_, grey()))
    changed = (picture[:96, :128] != 128).any(axis=2)
    assert changed[10:60, 20].mean() > 0.9  # the left side of the first box


def written(folder, weights, more=""):
    path = folder / "mine.yaml"
    path.write_text(PIPELINE.format(weights=weights, more=more))
    return path


@pytest.mark.parametrize("layout", ["yolox", "yolov8"])
def test_a_pipeline_tracks_what_the_network_finds(tmp_path, layout):
    rows = yolox_rows(SIZE, BOXES) if layout == "yolox" else yolov8_columns(BOXES)
    weights = onnx_file(tmp_path / "a.onnx", rows, size=SIZE)
    path = written(tmp_path, weights, f", layout: {layout}")
    specs = resolve(["a=synthetic:walkers?people=1&seconds=2&fps=10&size=128x96&seed=5"])
    inline.run(load_pipeline(path), specs, build=build_stage, out=tmp_path / "out")
    with LogReader(tmp_path / "out" / "events.db") as log:
        events = [event_codec().decode(row.payload) for row in log.events()]
    assert sum(event.type == "track.begin" for event in events) == len(BOXES)


def test_weights_are_required_and_values_are_checked(tmp_path):
    path = tmp_path / "p.yaml"
    for settings, text in [
        ("", "required field `weights`"),
        (", weights: a.onnx, layout: yolov5", "Allowed: auto, yolov8, yolox"),
        (", weights: a.onnx, classes: []", "length >= 1"),
        (", weights: a.onnx, classes: [-1]", ">= 0"),
    ]:
        path.write_text(f"stages: [{{name: detect, run: {{kind: yolox{settings}}}}}]")
        with pytest.raises(ConfigError, match=text):
            load_pipeline(path)


def check(path):
    result = CliRunner().invoke(app, ["check", str(path)])
    assert result.exit_code == 0 or result.output.count("\n") == 1
    return result.exit_code, result.output


def test_check_reads_the_file_before_a_run_does(tmp_path):
    code, text = check(written(tmp_path, tmp_path / "absent.onnx"))
    assert code == 4
    assert f"stage 'detect': there is no file {tmp_path}/absent.onnx; expected an .onnx" in text
    weights = onnx_file(tmp_path / "a.onnx", yolox_rows(SIZE, BOXES), size=SIZE)
    code, text = check(written(tmp_path, weights))
    assert code == 0
    assert f"detect: {weights}: layout yolox, input 128×96, classes: 3, engine " in text
    code, text = check(written(tmp_path, weights, ", layout: yolov8"))
    assert code == 4
    assert "it fits `layout: yolox`" in text
    (tmp_path / "a.onnx").write_text("hello")
    assert "is not an ONNX file that can be read" in check(written(tmp_path, weights))[1]


def test_people_of_a_street_are_found_by_a_published_network(data):
    """Of people in full view of PETS09-S2L1 at least nine in ten have a box on them (IoU > 0.5)."""
    weights = data / "teachers/yolox_nano_416.onnx"
    if not weights.is_file():
        pytest.skip(f"no {weights}; any YOLOX-nano of 416×416 px exported by its authors' script")
    sequence = motchallenge.read_sequence(data / "mot/pets09-s2l1")
    (spec,) = resolve([str(sequence.video)])
    with_pixels = {}
    site = Site(device="cpu", pixels=lambda frame: with_pixels[frame.n])
    stage = Yolox(weights=str(weights), min_score=0.25).build(site)
    source, hits, people = open_source(spec), 0, 0
    try:
        for picture in islice(source, 0, 200, 20):
            with_pixels[picture.n] = picture.pixels
            (part,) = stage([packet(picture.n, n=picture.n, size=(768, 576))])
            truth = sequence.truth.boxes[sequence.truth.frames == picture.n + 1]
            hits += int((iou(truth, part.boxes).max(1, initial=0) > 0.5).sum())
            people += len(truth)
    finally:
        source.close()
    assert people > 40
    assert hits / people > 0.9
