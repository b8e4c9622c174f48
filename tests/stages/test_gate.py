"""Which frames are looked at: those with movement, however slow, and one each second."""

from contextlib import closing
from functools import partial
from itertools import islice

import cv2
import numpy as np
import pytest
from factories import packet, source
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_files import onnx_file, yolox_rows

from streamvis.config import MaskRcnn, Yolox
from streamvis.datasets import motchallenge
from streamvis.messages import Detections
from streamvis.sources import open_source, resolve
from streamvis.stages import gate
from streamvis.stages.gate import LookGate, block_changes, same_people
from streamvis.stages.protocol import Site
from streamvis.synthetic.render import SyntheticScene

WIDTH, HEIGHT, FPS = 640, 360, 25
NOISE = 3.0  # standard deviation, grey levels


def place(seed: int = 0) -> np.ndarray:
    """An empty place with coarse and fine texture, grey levels as float."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(
        rng.uniform(50, 190, (9, 16)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    return coarse + cv2.GaussianBlur(rng.normal(0, 40, (HEIGHT, WIDTH)), (0, 0), 2)


PLACE = place()
SHIFTS = 64  # px by which pictures differ in their noise, at most
GRAIN = np.random.default_rng(0).standard_normal((HEIGHT + SHIFTS, WIDTH + SHIFTS), np.float32)


def shown(grey: np.ndarray, n: int, noise: float = NOISE) -> np.ndarray:
    """Picture n of a camera that sees these grey levels, RGB."""
    y, x = np.random.default_rng(n).integers(SHIFTS, size=2)
    seen = grey + noise * GRAIN[y : y + HEIGHT, x : x + WIDTH]
    return cv2.cvtColor(np.clip(seen, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)


def person(x: float, y: int = 150, height: int = 60, contrast: float = 40) -> np.ndarray:
    """The place with a person in it: a box that is darker by `contrast`, to a part of a pixel."""
    width = height * 0.4
    across = np.clip(np.arange(WIDTH) + 1 - x, 0, 1) - np.clip(
        np.arange(WIDTH) + 1 - x - width, 0, 1
    )
    seen = PLACE.copy()
    seen[y : y + height] -= contrast * across
    return seen


def looks(pictures, fps: float = FPS, gated: LookGate | None = None) -> list[bool]:
    gated = gated or LookGate()
    return [gated.looks(one, round(n * 1e6 / fps)) for n, one in enumerate(pictures)]


@pytest.mark.parametrize("fps", [5, 7, 25, 30])
def test_a_place_in_which_nothing_moves_is_looked_at_each_second(fps):
    seen = looks((shown(PLACE, n) for n in range(6 * fps)), fps)
    when = np.flatnonzero(seen) / fps
    assert when[0] == 0
    assert np.diff(when).max() <= 1 + 1e-6
    assert len(when) == pytest.approx(6, abs=1)


@pytest.mark.parametrize("noise", [0, 2, 4, 7])
@pytest.mark.parametrize(
    "light",
    [
        lambda s: (1 + 0.2 * np.sin(2 * s), 0),
        lambda s: (1 - 0.3 * (s > 2), 0),  # the exposure jumps
        lambda s: (1, 10 * np.sin(3 * s)),
    ],
)
def test_noise_and_changes_of_the_light_are_no_movement(noise, light):
    pictures = []
    for n in range(4 * FPS):
        gain, offset = light(n / FPS)
        pictures.append(shown(0.8 * PLACE * gain + offset, n, noise))
    assert sum(looks(pictures)) <= 5


@settings(max_examples=60, deadline=None)
@given(
    st.integers(20, 560),
    st.integers(10, 250),
    st.sampled_from([40, 60, 90]),
    st.sampled_from([-40.0, 25.0, 40.0]),
    st.sampled_from([-1, 1]),
)
def test_a_person_who_moves_by_a_third_of_his_width_is_seen_in_that_frame(
    x, y, height, contrast, side
):
    still = looks(
        (shown(person(x, y, height, contrast), n) for n in range(10)), gated=(g := LookGate())
    )
    assert sum(still) == 1
    moved = person(x + side * height * 0.4 / 3, y, height, contrast)
    assert g.looks(shown(moved, 10), round(10e6 / FPS))


def test_slow_movements_add_up_until_they_are_seen():
    """At 4 px/s no frame differs from the one before by more than the noise."""
    seen = looks(shown(person(200 + 4 * n / FPS), n) for n in range(10 * FPS))
    gaps = np.diff(np.flatnonzero(seen)) / FPS
    assert 4 * gaps.max() <= 60 * 0.4 / 3  # px, a third of the width
    assert np.mean(seen) > 0.2  # far more than one a second


def test_looks_go_on_for_a_moment_after_the_last_movement():
    pictures = [shown(person(200), n) for n in range(5)]
    pictures += [shown(person(230), n) for n in range(5, 20)]
    seen = np.flatnonzero(looks(pictures))
    assert seen.tolist() == [0, *range(5, 5 + 1 + gate.LINGER_US * FPS // 1_000_000)]


@pytest.mark.parametrize("speed", [2.0, 10.0])
def test_a_moving_camera_always_looks(speed):
    """Also after a minute, in which the noise could have been learned from its movement."""
    wide = np.hstack([place(1), place(2), place(3)]).astype(np.float32)
    gated, seen = LookGate(), []
    for n in range(240):
        x = speed * n % (2 * WIDTH - 4) + 1
        view = cv2.getRectSubPix(wide, (WIDTH, HEIGHT), (x + WIDTH / 2, HEIGHT / 2))
        seen.append(gated.looks(shown(view, n), round(n * 1e6 / 4)))
    assert all(seen)


def test_foliage_becomes_noise_and_people_before_it_do_not():
    rng = np.random.default_rng(3)

    def picture(n, x=None):
        seen = PLACE.copy() if x is None else person(x, 240, 100, 80)
        seen[40:140, 100:200] += 2 * cv2.resize(rng.normal(0, 1, (6, 6)), (100, 100))
        return shown(seen, n)

    gated = LookGate()
    seen = looks((picture(n) for n in range(60 * FPS)), gated=gated)
    assert all(seen[:FPS])
    assert np.mean(seen[-10 * FPS :]) < 0.1
    later = [gated.looks(picture(n, 40 + 2 * (n - 1500)), n * 40_000) for n in range(1500, 1600)]
    assert all(later)


def test_the_first_frame_and_each_of_another_size_or_before_the_last_is_looked_at():
    still = shown(PLACE, 0, 0)
    gated, narrow = LookGate(), still[:, :320]
    assert [gated.looks(still, t) for t in (0, 40_000, 80_000)] == [True, False, False]
    gated.resize(320, HEIGHT)
    assert gated.looks(narrow, 120_000)
    assert not gated.looks(narrow, 160_000)
    assert gated.looks(narrow, 100_000)
    gated.restart()
    assert gated.looks(narrow, 140_000)
    assert gated.looks(still, 180_000)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (97, 41), (1080, 1920)])
def test_any_size_of_picture_is_compared(size):
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    assert looks([pixels, pixels, 255 - pixels])[:2] == [True, False]


def test_a_small_person_who_matters_has_a_finer_picture():
    pixels = np.zeros((1080, 1920, 3), np.uint8)
    assert gate.small_picture(pixels).shape == (92, 160)
    assert gate.small_picture(pixels, 24).shape == (272, 480)


def test_changes_are_the_mean_squares_of_blocks():
    """The definition, without the light, which a few blocks cannot change."""
    rng = np.random.default_rng(0)
    before = rng.integers(40, 200, (48, 64)).astype(np.uint8)
    after = before.copy()
    after[8:12, 20:24] += rng.integers(0, 30, (4, 4)).astype(np.uint8)
    found = block_changes(before, after)
    expected = np.zeros((12, 16))
    expected[2, 5] = np.mean((after[8:12, 20:24].astype(float) - before[8:12, 20:24]) ** 2)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 30))
@settings(max_examples=30, deadline=None)
def test_a_successor_looks_at_the_same_frames(steps, cut):
    pictures = [shown(person(100 + 8 * x), n) for n, x in enumerate(np.cumsum(steps) % 40)]
    expected = looks(pictures, 10)
    gated, found = LookGate(), []
    for n, one in enumerate(pictures):
        if n == cut:
            successor = LookGate()
            successor.restore(gated.state())
            gated = successor
        found.append(gated.looks(one, round(n * 1e6 / 10)))
    assert found == expected


class Searched:
    """A detector that finds one person, and counts the pictures that it was given."""

    def __init__(self) -> None:
        self.pictures = self.glances = 0
        self.appears = 1000  # glance from which on a coarse look finds a second person

    def glance(self, pixels):
        self.glances += 1
        second = [[100, 10, 130, 90]] if self.glances >= self.appears else []
        return Detections.of([[11, 11, 41, 91], *second], [0.6] * (1 + len(second)))

    def __call__(self, pictures):
        self.pictures += len(pictures)
        return [Detections.of([[10, 10, 40, 90]], [0.9]) for _ in pictures]


def built(config, pictures):
    """The stage of these settings, with another detector."""
    stage = config.build(Site(device="cpu", pixels=lambda frame: pictures[frame.seq]))
    stage.detector = Searched()
    return stage


@pytest.fixture(params=["mask_rcnn", "yolox"])
def kind(request, tmp_path):
    """A kind that detects, as a function of its setting `gate`."""

    def settings(gate, name):
        if name == "mask_rcnn":
            return MaskRcnn(gate=gate, short_side=64, engine="torch")
        file = onnx_file(tmp_path / "a.onnx", yolox_rows((96, 128), []), size=(96, 128))
        return Yolox(str(file), gate=gate)

    return partial(settings, name=request.param)


@pytest.mark.parametrize(
    ("setting", "live", "gated"),
    [("auto", True, True), ("auto", False, False), (True, False, True), (False, True, False)],
)
def test_both_detectors_have_the_gate(kind, setting, live, gated):
    pictures = [shown(PLACE, n, 0) for n in range(20)]
    packets = [packet(n, size=(WIDTH, HEIGHT)) for n in range(20)]
    config = kind(setting)
    assert config.keeps_state(live) == gated
    stage = built(config, pictures)
    if gated:
        stage.begin(source(size=(WIDTH, HEIGHT), live=live), None)
    parts = [*stage(packets[:7]), *stage(packets[7:])]  # batches
    coarse = kind.keywords["name"] == "mask_rcnn"  # a second later
    looked = [0] if coarse else [0, 10]
    assert [part.looked for part in parts] == [not gated or n in looked for n in range(20)]
    assert [len(part) for part in parts] == [int(part.looked) for part in parts]
    assert stage.detector.pictures == (len(looked) if gated else 20)
    assert stage.detector.glances == (2 if gated and coarse else 0)  # the first one compiles it
    for part in parts:
        part.check()


def test_a_file_beside_a_camera_is_looked_at_in_every_frame(kind):
    stage = built(kind("auto"), [shown(PLACE, 0)] * 8)
    for name, live in (("a", True), ("b", False)):
        stage.begin(source(name, size=(WIDTH, HEIGHT), live=live), None)
    seen = {
        name: [
            p.looked
            for p in stage([packet(n, source=name, size=(WIDTH, HEIGHT)) for n in range(8)])
        ]
        for name in "ab"
    }
    assert seen == {"a": [True] + 7 * [False], "b": 8 * [True]}


def test_the_stage_resumes_from_its_state(kind):
    pictures = [shown(person(100 + 15 * (n > 12)), n) for n in range(20)]
    packets = [packet(n, size=(WIDTH, HEIGHT)) for n in range(20)]
    info = source(size=(WIDTH, HEIGHT))
    stage = built(kind(True), pictures)
    stage.begin(info, None)
    expected = [part.looked for part in stage(packets)]
    first, second = (built(kind(True), pictures) for _ in range(2))
    for cut in range(1, 20):
        first.begin(info, None)
        seen = [part.looked for part in first(packets[:cut])]
        second.begin(info, first.state("a"))
        assert seen + [part.looked for part in second(packets[cut:])] == expected
        first.finish("a", "eof")
        second.finish("a", "eof")


def still_stage(pictures, people=1000):
    """The stage of Mask R-CNN for a camera of 10 frames/s that shows these pictures."""
    stage = built(MaskRcnn(gate=True, short_side=64, engine="torch"), pictures)
    stage.detector.appears = people
    stage.begin(source(size=(WIDTH, HEIGHT)), None)
    return stage


def looked_at(stage, count):
    parts = stage([packet(n, size=(WIDTH, HEIGHT)) for n in range(count)])
    return [n for n, part in enumerate(parts) if part.looked]


def test_where_nothing_moves_one_look_in_five_seconds_is_not_coarse():
    stage = still_stage([shown(PLACE, n) for n in range(120)])
    assert looked_at(stage, 120) == [0, 50, 100]
    assert stage.detector.glances == 1 + 9  # the others, each second


def test_a_coarse_look_that_finds_somebody_is_followed_by_a_look():
    stage = still_stage([shown(PLACE, n) for n in range(30)], people=3)
    assert looked_at(stage, 30) == [0, 20]


def test_after_a_movement_looks_are_not_coarse():
    pictures = [shown(person(100 + 60 * (n >= 25)), n) for n in range(40)]
    seen = looked_at(stage := still_stage(pictures), 40)
    assert seen[:2] == [0, 25]
    assert seen[-1] < 30
    assert stage.detector.glances == 1 + 3


def test_slow_movements_add_up_over_coarse_looks():
    pictures = [shown(person(200 + 3 * n / 10), n) for n in range(50)]
    assert any(0 < n < 50 for n in looked_at(still_stage(pictures), 50))


@pytest.mark.parametrize(
    ("full", "coarse", "same"),
    [
        ([], [], True),
        ([(0, 0.9)], [(2, 0.6)], True),
        ([(0, 0.9)], [], False),
        ([], [(0, 0.6)], False),
        ([(0, 0.3)], [], True),  # unclear ones may be missed
        ([], [(0, 0.3)], True),
        ([(0, 0.3)], [(2, 0.9)], True),
        ([(0, 0.9)], [(25, 0.9)], False),  # another place
        ([(0, 0.9), (90, 0.9)], [(90, 0.7), (1, 0.2)], True),
        ([(0, 0.9)], [(0, 0.9), (90, 0.9)], False),
    ],
)
def test_two_looks_agree_about_clear_people(full, coarse, same):
    """Boxes 30 wide at these places, with their scores."""

    def rows(people):
        return np.array([[x, 0, x + 30, 80, score] for x, score in people]).reshape(-1, 5)

    assert same_people(rows(full), rows(coarse)) == same


def test_people_of_a_scene_are_looked_at_while_they_walk():
    """Where a picture is left out, nobody has moved by a third of his width since the last look."""
    scene = SyntheticScene(seed=5, people=2, size=(640, 480), fps=10, seconds=12)
    gated, last = LookGate(), {}
    for n in range(scene.frames):
        truth = scene.truth(n)
        boxes = dict(zip(truth.ids.tolist(), truth.visible_boxes.tolist(), strict=True))
        clear = truth.ids[truth.visibility > 0.8].tolist()
        if gated.looks(scene.picture(n), n * 100_000):
            last = {id_: boxes[id_] for id_ in clear}
            continue
        for id_ in set(clear) & set(last):
            (x1, _, x2, _), (u1, _, u2, _) = last[id_], boxes[id_]
            assert abs(x1 + x2 - u1 - u2) / 2 <= (x2 - x1) / 3


@pytest.mark.parametrize("name", ["pets09-s2l1", "tud-campus"])
def test_in_streets_where_people_walk_each_frame_is_looked_at(name, data):
    """So tracks there are those without a gate; each picture shows a movement by itself."""
    sequence = motchallenge.read_sequence(data / "mot" / name)
    gated, numbers = LookGate(), []
    with closing(open_source(resolve([str(sequence.folder)])[0])) as pictures:
        for number, picture in enumerate(islice(pictures, 200)):
            if not gated.looks(picture.pixels, round(number * 1e6 / sequence.fps)):
                numbers.append(number)
            assert gated.moved_us == (gated.seen_us if number else None)
    assert numbers == []
