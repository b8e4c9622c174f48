"""What comes to each place, against a loop; and how sure a network is of it, learnt or not."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from streamvis.datasets.classes import CAMVID, CITYSCAPES, movable
from streamvis.errors import WeightsError
from streamvis.models.forecasting import ARCHITECTURES, Forecaster, ForecasterConfig
from streamvis.models.warp_calibrator import WarpCalibrator, build_forecaster, warp_logits
from streamvis.models.weights import load_forecaster, save, verify

SHIPPED = ["street-forecast-0.2", "street-forecast-0.6"]
DOUBT = 1 / (1 + np.exp(4))  # of one that has learnt nothing
FAR = 40  # px to a unit of a cue


def network(**about) -> WarpCalibrator:
    torch.manual_seed(0)
    small = {"kind": "moved", "channels": 5, "stride": 4, "width": 8, "depth": 3, "past": 2}
    return WarpCalibrator(
        ForecasterConfig(name="untrained", **{"horizon_s": 0.2, **small, **about})
    )


def shares_of(*shape: int, seed: int = 0) -> torch.Tensor:
    """Probabilities (B, K, h, w) of decided opinions."""
    return (3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).softmax(1)


def cues_of(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def still(height: int, width: int) -> np.ndarray:
    """Everything comes from where it is, (H, W, 2)."""
    return np.stack(np.indices((height, width), np.int16)[::-1], -1)


def one_by_one(logits: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `arrive` says, place by place: of the px at (2, 2) of each."""
    height, width = source.shape[:2]
    cells = (-(-height // 4), -(-width // 4))
    shares, cues = np.zeros((len(logits), *cells)), np.zeros((3, *cells))
    for row in range(cells[0]):
        for column in range(cells[1]):
            y, x = min(4 * row + 2, height - 1), min(4 * column + 2, width - 1)
            from_x, from_y = map(int, source[y, x])
            inside = 0 <= from_x < width and 0 <= from_y < height
            near_x, near_y = min(max(from_x, 0), width - 1), min(max(from_y, 0), height - 1)
            chances = np.exp(logits[:, near_y // 4, near_x // 4].astype(np.float64))
            shares[:, row, column] = chances / chances.sum()
            cues[:, row, column] = (from_x - x) / FAR, (from_y - y) / FAR, not inside
    return shares, cues


@st.composite
def arrivals(draw):
    """Logits (1, K, h', w') of a padded picture, and where all comes from, near or far out."""
    height, width = draw(st.integers(1, 23)), draw(st.integers(1, 23))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    cells = (-(-height // 4), -(-width // 4))
    whole = np.full(
        (4, cells[0] + draw(st.integers(0, 3)), cells[1] + draw(st.integers(0, 3))), np.nan
    )
    whole[:, : cells[0], : cells[1]] = rng.normal(size=(4, *cells))
    reach = draw(st.sampled_from([1, 12, 8000]))
    source = still(height, width) + rng.integers(-reach, reach + 1, (height, width, 2))
    return torch.from_numpy(whole[None].astype(np.float32)), source.clip(-8000, 8000).astype(
        np.int16
    )


@given(arrivals())
def test_what_arrives_is_what_a_loop_says(case):
    logits, source = case
    before = source.copy()
    shares, cues = warp_logits(logits, source)
    expected = one_by_one(logits[0].numpy(), source)  # it never looks at padding, which is NaN
    assert (shares.dtype, cues.dtype) == (torch.float32, torch.float32)
    np.testing.assert_allclose(shares[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(cues[0], expected[1], rtol=1e-6)
    np.testing.assert_array_equal(source, before)


@pytest.mark.parametrize("size", [(24, 32), (23, 30), (21, 29), (1, 1)])
def test_what_stays_is_as_probable_as_it_was(size):
    logits = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    shares, cues = warp_logits(logits, still(*size))
    height, width = -(-size[0] // 4), -(-size[1] // 4)
    torch.testing.assert_close(shares, logits.softmax(1)[:, :, :height, :width])
    assert not cues.any()
    assert cues.shape == (1, 3, height, width)


def test_cues_are_units_of_motion_to_where_it_comes_from():
    logits = torch.zeros(1, 4, 24, 32)
    source = still(96, 128) + np.array([20, -8], np.int16)  # it goes to the left, and down
    cues = warp_logits(logits, source)[1][0]
    assert (cues[0] == 0.5).all()
    torch.testing.assert_close(cues[1], torch.full((24, 32), -0.2))
    assert cues[2, 2:, :27].eq(0).all()
    assert cues[2, :2].eq(1).all()  # from above the picture
    assert cues[2, :, 27:].eq(1).all()  # from the right of it


def test_what_comes_from_beyond_is_what_is_at_the_edge():
    logits = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    source = np.full((22, 30, 2), (30, -1), np.int16)  # 30 px wide: the first px to the right
    shares, cues = warp_logits(logits, source)
    edge = logits.softmax(1)[:, :, :1, 7:8]
    torch.testing.assert_close(shares, edge.expand(1, 4, 6, 8))
    assert cues[0, 2].eq(1).all()
    _, inside = warp_logits(logits, np.full((22, 30, 2), (29, 21), np.int16))
    assert inside[0, 2].eq(0).all()


SIZES = [(1, 1), (1, 7), (2, 2), (5, 8), (23, 30)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("depth", [1, 3])
def test_one_that_has_learnt_nothing_says_what_it_was_given_but_for_doubt(size, depth):
    model, shares = network(depth=depth).eval(), shares_of(2, 5, *size)
    with torch.inference_mode():
        told = model(shares, cues_of(2, 3, *size)).softmax(1)
    assert told.shape == shares.shape
    torch.testing.assert_close(told.sum(1), torch.ones(2, *size))
    assert torch.equal(told.argmax(1), shares.argmax(1))
    torch.testing.assert_close(told, shares * (1 - DOUBT) + DOUBT / 5)


def test_what_was_certain_is_nearly_so():
    certain = F.one_hot(torch.arange(20).reshape(1, 4, 5) % 5, 5).permute(0, 3, 1, 2).float()
    told = network()(certain, torch.zeros(1, 3, 4, 5)).softmax(1)
    assert torch.isfinite(told.log()).all()
    assert (told - certain).abs().max() < DOUBT


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_of_a_batch_is_told_by_itself(size):
    model = network().eval()
    torch.nn.init.normal_(model.correct.weight)
    shares, cues = shares_of(3, 5, *size), cues_of(3, 3, *size)
    with torch.inference_mode():
        whole = model(shares, cues)
        torch.testing.assert_close(whole[1:2], model(shares[1:2], cues[1:2]))
        other = model(shares, -cues)
    assert (whole != other).any()  # cues count


def test_all_that_can_be_learnt_is_learnt():
    model, truth = network(), torch.arange(80).reshape(1, 8, 10) % 5
    shares, cues = shares_of(1, 5, 8, 10), cues_of(1, 3, 8, 10)
    step = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(2):  # what follows the trunk is silent before the first
        step.zero_grad()
        F.cross_entropy(model(shares, cues), truth).backward()
        step.step()
    silent = [name for name, x in model.named_parameters() if x.grad is None or not x.grad.any()]
    assert silent == []


def test_it_learns_to_doubt_what_comes_from_beyond():
    model, rng = network(depth=2), torch.Generator().manual_seed(0)
    step = torch.optim.Adam(model.parameters(), 0.01)
    classes = torch.randint(5, (4, 4, 4), generator=rng)
    classes = classes.repeat_interleave(4, 1).repeat_interleave(4, 2)
    shares = (0.96 * F.one_hot(classes, 5) + 0.008).permute(0, 3, 1, 2)
    cues = torch.zeros(4, 3, 16, 16)
    cues[:, 2, :, 8:] = 1
    for _ in range(150):
        truth = classes.clone()
        truth[:, :, 8:] = torch.randint(5, (4, 16, 8), generator=rng)
        step.zero_grad()
        F.cross_entropy(model(shares, cues), truth).backward()
        step.step()
    with torch.inference_mode():
        sure = model(shares, cues).softmax(1).amax(1)
    assert sure[:, :, :6].mean() > 0.8
    assert sure[:, :, 10:].mean() < 0.5


# ---- as files


def test_weights_are_found_again(tmp_path):
    model, path = network(horizon_s=0.6).eval(), tmp_path / "moved.safetensors"
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.3)
    save(model, path, {"segmenter": "abc"})
    found = load_forecaster(str(path))
    assert isinstance(found, WarpCalibrator)
    assert not found.training
    assert found.architecture == model.architecture
    for name, value in model.state_dict().items():  # kernels are kept as fp16
        torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    shares, cues = shares_of(1, 5, 7, 9), cues_of(1, 3, 7, 9)
    with torch.inference_mode():
        told = model(shares, cues).softmax(1)
        torch.testing.assert_close(found(shares, cues).softmax(1), told, rtol=0, atol=0.01)
    about = verify(str(path))
    assert (about.architecture, about.metadata) == ("untrained", {"segmenter": "abc"})
    assert about.parameters == sum(x.numel() for x in model.parameters())


def test_weights_of_another_width_are_refused(tmp_path):
    model, path = network(), tmp_path / "moved.safetensors"
    model.architecture = network(width=16).architecture  # as a file may claim
    save(model, path, {})
    with pytest.raises(WeightsError, match=r"does not fit untrained: trunk\.0\.weight is \(8, 8"):
        verify(str(path))


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_goes_by_motion(name):
    found = load_forecaster(name)
    assert isinstance(found, WarpCalibrator)
    assert found.architecture == ARCHITECTURES[name]
    assert verify(name).architecture == name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_kind_has_its_network(name):
    about = ARCHITECTURES[name]
    with torch.device("meta"):
        model = build_forecaster(about)
    assert isinstance(model, WarpCalibrator if about.kind == "moved" else Forecaster)
    assert model.architecture is about


# ---- what moves by itself


def test_lists_of_classes_say_what_moves_by_itself():
    moves = {
        one.name: dict(zip(one.names, movable(one.names), strict=True))
        for one in (CAMVID, CITYSCAPES)
    }
    camvid = [name for name, does in moves["camvid-11"].items() if does]
    assert camvid == ["car", "pedestrian", "bicyclist"]
    cityscapes = [name for name, does in moves["cityscapes-19"].items() if does]
    people, vehicles = ["person", "rider"], ["car", "truck", "bus", "train"]
    assert cityscapes == [*people, *vehicles, "motorcycle", "bicycle"]


def test_of_any_names_those_move_that_some_list_knows():
    names = ("boat", "pedestrian", "road", "train", "Car")
    assert movable(names) == [False, True, False, True, False]
    assert movable(()) == []


@pytest.mark.parametrize("temperature", [0.8, 1.0, 1.7])
def test_a_temperature_divides_the_logits_and_a_shift_is_added(temperature):
    model, shift = network(), torch.tensor([0.0, -0.5, 0.0, 0.3, 0.0])
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    shares, cues = shares_of(2, 5, 9, 11), cues_of(2, 3, 9, 11)
    with torch.no_grad():
        expected = model(shares, cues) / temperature + shift[:, None, None]
        model.recalibrate(temperature, shift)
        torch.testing.assert_close(model(shares, cues), expected, rtol=1e-4, atol=1e-5)
