"""Forecasts of maps that move as is known; the sheet's sizes; streams against batches."""

from itertools import pairwise

import msgspec
import pytest
import torch
from torch import nn

from streamvis.errors import ModelError
from streamvis.models.deform import DeformConv2d
from streamvis.models.forecasting import (
    ARCHITECTURES,
    F2mfNetwork,
    Forecaster,
    ForecasterConfig,
    PastFeatures,
    checked,
    correlate,
)
from streamvis.models.inference.select import openvino_version

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ForecasterConfig(
    name="small",
    channels=3,
    stride=4,
    fold=4,
    width=8,
    trunk=8,
    depth=2,
    radius=2,
    step=1,
    horizon_s=0.2,
)
# "moved" is another network, of `models/moved.py`: no `Forecaster` is built of it
NAMES = [name for name, a in ARCHITECTURES.items() if a.kind != "moved"]
KINDS = ("f2mf", "deform_f2f", "conv_f2f", "dilated_f2f")
FORMS = [
    pytest.param({"kind": kind, "fold": fold}, id=f"{kind}-{fold}")
    for kind in KINDS
    for fold in (1, 4)
] + [
    pytest.param({"deformable": False, "warped": 2, "detail": 2}, id="plain"),
    pytest.param({"detail": 4, "past": 3, "warped": 1}, id="detailed"),
]


def like(architecture: ForecasterConfig = SMALL, **changes: object) -> ForecasterConfig:
    return msgspec.structs.replace(architecture, **changes)


def untrained(architecture: ForecasterConfig, seed: int = 0) -> Forecaster:
    torch.manual_seed(seed)
    return Forecaster(architecture).eval()


def stirred(architecture: ForecasterConfig, seed: int = 0) -> Forecaster:
    """As if it had learnt something: nothing is zero."""
    model = untrained(architecture, seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.normal_(std=0.1)
                norm.running_var.uniform_(0.5, 2)
    model.fit_to(torch.randn(architecture.channels), 0.5 + torch.rand(architecture.channels))
    return model


def maps(architecture: ForecasterConfig, b: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (b, architecture.past, architecture.channels, 16, 24)
    return 3 * torch.randn(shape, generator=generator) + 1


def travelling(velocity: tuple[int, int], moments: int, channels: int) -> torch.Tensor:
    """Maps (1, moments, C, 32, 40) that go by (x, y) cells from one moment to the next."""
    world = torch.randn(channels, 96, 104, generator=torch.Generator().manual_seed(1))
    x, y = velocity
    seen = [world[:, 32 - y * t :, 32 - x * t :][:, :32, :40] for t in range(moments)]
    return torch.stack(seen)[None]


def on_meta(architecture: ForecasterConfig) -> Forecaster:
    with torch.device("meta"):
        return Forecaster(architecture)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# The published networks


def test_deform_f2f_8_is_the_sheets():
    model = on_meta(ARCHITECTURES["deform-f2f-8"])
    convs = [unit.conv for unit in model.net]
    assert model.fold is None
    assert model.unfold is None
    assert all(isinstance(conv, DeformConv2d) for conv in convs)
    assert [tuple(c.weight.shape) for c in convs] == [(128, 512, 1, 1)] + [(128, 128, 3, 3)] * 7
    assert [tuple(c.offset.weight.shape) for c in convs] == (
        [(2, 512, 1, 1)] + [(18, 128, 3, 3)] * 7
    )
    assert parameters(model) == pytest.approx(1.25e6, rel=0.01)
    assert len(on_meta(ARCHITECTURES["deform-f2f-5"]).net) == 5


def test_f2mf_is_the_sheets():
    net = on_meta(ARCHITECTURES["f2mf"]).net
    assert isinstance(net, F2mfNetwork)
    assert net.fuse.conv.weight.shape == (128, 512, 1, 1)
    assert [tuple(unit.conv.weight.shape) for unit in net.trunk] == (
        [(256, 371, 3, 3)] + [(256, 256, 3, 3)] * 5
    )
    heads = (net.regress, net.flow, net.weigh)
    assert [unit.conv.weight.shape[0] for unit in heads] == [128, 8, 5]
    assert all(unit.conv.weight.shape[1:] == (256, 3, 3) for unit in heads)


def test_the_sheets_correlation_has_243_channels():
    model = untrained(like(ARCHITECTURES["f2mf"], channels=4, width=4, trunk=4, depth=1))
    x = torch.randn(1, 4, 4, 6, 5)
    kept = [model.encode(x[:, 0])]
    for t in (1, 2, 3):
        kept.append(model.encode(x[:, t], kept[-1]))
    assert sum(one.motion.shape[1] for one in kept[1:]) == 243


def test_controls_differ_in_their_convolutions_only():
    plain, dilated = (on_meta(like(kind=kind, depth=5)) for kind in ("conv_f2f", "dilated_f2f"))
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (plain, dilated)]
    assert shapes[0] == shapes[1]
    assert [unit.conv.dilation[0] for unit in dilated.net] == [1, 2, 2, 2, 1]
    assert {unit.conv.dilation[0] for unit in plain.net} == {1}
    assert parameters(on_meta(like(kind="deform_f2f", depth=5))) > parameters(plain)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_go_by_their_names_and_can_be_told_from_others(name):
    a = ARCHITECTURES[name]
    assert a.name == name
    raw = msgspec.json.decode(msgspec.json.encode(a))
    assert "horizon_s" in raw
    assert msgspec.convert(raw, ForecasterConfig) == a
    assert checked(a) is a


@pytest.mark.parametrize("name", NAMES)
def test_architectures_can_be_built(name):
    assert on_meta(ARCHITECTURES[name]).architecture.name == name


def test_what_ships_moves_what_it_sees_over_two_horizons():
    near, far = (ARCHITECTURES[f"street-forecast-{s}"] for s in (0.2, 0.6))
    assert near.kind == "moved"
    assert (near.channels, near.stride, near.past) == (11, 4, 2)
    assert (near.horizon_s, far.horizon_s) == (0.2, 0.6)
    assert like(near, name=far.name, horizon_s=0.6) == far


# What is told before anything is learnt


@pytest.mark.parametrize("fold", [1, 4])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_an_untrained_f2f_copies_the_newest_map(kind, fold):
    a = like(kind=kind, fold=fold)
    x = maps(a)
    torch.testing.assert_close(untrained(a)(x), x[:, -1])


@pytest.mark.parametrize("deformable", [True, False])
@pytest.mark.parametrize("fold", [1, 4])
def test_the_parts_of_an_untrained_f2mf_copy_what_they_look_at(fold, deformable):
    a = like(fold=fold, deformable=deformable)
    model, x = untrained(a), maps(a)
    found = model.outputs(x)
    torch.testing.assert_close(found.regressed, x[:, -1])
    torch.testing.assert_close(found.moved, x.mean(1))
    still = x[:, -1:].expand_as(x)
    torch.testing.assert_close(model(still), x[:, -1])


def test_only_a_residual_network_begins_with_the_newest_map():
    a = like(kind="conv_f2f", residual=False)
    x = maps(a)
    assert (untrained(a)(x) - x[:, -1]).abs().mean() > 0.5


# Motion


@pytest.mark.parametrize(("fold", "detail"), [(1, 1), (4, 1), (4, 2), (4, 4)])
@pytest.mark.parametrize("velocity", [(2, 0), (0, -1), (-3, 2)])
def test_with_the_true_flow_a_travelling_map_is_told_exactly(velocity, fold, detail):
    model = untrained(like(fold=fold, detail=detail))
    x = travelling(velocity, 5, 3)
    steps = torch.tensor([4.0, 3, 2, 1])  # from each past map to the future
    flow = -steps[:, None] * torch.tensor(velocity) / fold  # (4, 2) in cells
    with torch.no_grad():
        model.net.flow.conv.bias.copy_(flow.flatten().repeat_interleave(detail**2))
        model.net.weigh.conv.bias[: detail**2] = -50  # nothing is regressed
    reach = 12  # of the oldest map, which has come from outside
    inside = (..., slice(reach, -reach), slice(reach, -reach))
    expected = x[:, 4][inside]
    torch.testing.assert_close(model(x[:, :4])[inside], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(model.outputs(x[:, :4]).moved[inside], expected, atol=1e-4, rtol=0)


def test_correlation_is_a_product_for_each_displacement():
    now, before = torch.randn(2, 2, 5, 4, 6).double()
    found = correlate(now, before, 2, 3)
    assert found.shape == (2, 25, 4, 6)
    expected = torch.zeros_like(found)
    for y in range(4):
        for x in range(6):
            for k in range(25):
                i, j = y + (k // 5 - 2) * 3, x + (k % 5 - 2) * 3
                if 0 <= i < 4 and 0 <= j < 6:
                    expected[:, k, y, x] = (now[:, :, y, x] * before[:, :, i, j]).sum(1)
    torch.testing.assert_close(found, expected)


def test_correlation_is_highest_where_a_cell_came_from():
    x = torch.nn.functional.normalize(travelling((2, 1), 2, 16), dim=2)
    found = correlate(x[:, 1], x[:, 0], 2, 1)[..., 2:-2, 2:-2]
    # 1 up and 2 to the left: row 1 and column 0 of the 5×5 grid
    assert (found.argmax(1) == 5).all()


def test_the_mirrored_scene_has_the_mirrored_correlation():
    now, before = torch.randn(2, 1, 3, 5, 7)
    mirrored = correlate(now.flip(-1), before.flip(-1), 2, 1).unflatten(1, (5, 5)).flip(2, -1)
    torch.testing.assert_close(mirrored.flatten(1, 2), correlate(now, before, 2, 1))


def test_embeddings_are_of_unit_length():
    model = stirred(SMALL)
    kept = model.encode(100 * maps(SMALL)[:, 0])
    torch.testing.assert_close(kept.embedding.norm(dim=1), torch.ones(2, 4, 6), atol=1e-3, rtol=0)


# Forms of use


@pytest.mark.parametrize("form", FORMS)
def test_a_stream_a_batch_and_learning_see_the_same(form):
    a = like(**form)
    model, x = stirred(a), maps(a)
    found = model(x)
    assert found.shape == x[:, 0].shape
    assert (found - x[:, -1]).abs().mean() > 1e-2
    torch.testing.assert_close(model.denormalise(model.outputs(x).blend), found)
    for row in range(2):
        past: list[PastFeatures] = []
        for features in (maps(a, seed=9)[0, 0], *x[row]):  # an older one, forgotten again
            past = [*past, model.encode(features[None], past[-1] if past else None)][-a.past :]
        torch.testing.assert_close(model.forecast(past)[0], found[row], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_a_thought_is_carried_out_on_the_newest_maps_alone(form):
    a = like(**form)
    model, x = stirred(a), maps(a)
    past = [model.encode(x[:, 0])]
    for t in range(1, a.past):
        past.append(model.encode(x[:, t], past[-1]))
    newest = [one.map for one in past[-a.warped if a.kind == "f2mf" else -1 :]]
    assert torch.equal(model.compose(newest, model.predict(past)), model.forecast(past))


@pytest.mark.parametrize("form", FORMS)
def test_the_callers_maps_stay_as_they_are(form):
    a = like(**form)
    model, x = stirred(a), maps(a)
    before = x.clone()
    model(x)
    kept = model.encode(x[:, 0])
    model.outputs(x).loss(model.normalise(x[:, -1])).backward()
    assert torch.equal(x, before)
    assert kept.map.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("form", FORMS)
def test_everything_learns(form):
    a = like(**form)
    model, x = stirred(a).train(), maps(a)
    found = model.outputs(x)
    found.loss(torch.randn_like(found.blend)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_sum_of_its_parts(kind):
    a = like(kind=kind)
    model, x = stirred(a), maps(a)
    found, target = model.outputs(x), model.normalise(maps(a, seed=1)[:, 0])
    parts = [found.blend] if found.moved is None else list(found)
    assert len(parts) == (3 if kind == "f2mf" else 1)
    expected = sum((part - target).square().mean() for part in parts)
    torch.testing.assert_close(found.loss(target), expected)


def test_units_of_the_maps_do_not_matter():
    model, x = stirred(SMALL), maps(SMALL)
    found = model(x)
    scale, shift = torch.tensor([2.0, 0.5, 7]), torch.tensor([3.0, -1, 0])
    model.fit_to(model.mean * scale + shift, model.std * scale)
    other = x * scale[:, None, None] + shift[:, None, None]
    expected = found * scale[:, None, None] + shift[:, None, None]
    torch.testing.assert_close(model(other), expected, atol=1e-4, rtol=1e-4)


def test_a_channel_that_never_changed_is_not_blown_up():
    model = untrained(SMALL)
    model.fit_to(torch.zeros(3), torch.zeros(3))
    assert model.normalise(torch.ones(1, 3, 4, 4)).isfinite().all()


@pytest.mark.parametrize("kind", ["f2mf", "conv_f2f"])
def test_rolling_takes_what_was_told_for_seen(kind):
    a = like(kind=kind)
    model, x = stirred(a), maps(a)
    past = [model.encode(x[:, 0])]
    for t in range(1, 4):
        past.append(model.encode(x[:, t], past[-1]))
    told = model.rollout(past, 3)
    window = list(x.unbind(1))
    for found in told:
        expected = model(torch.stack(window[-4:], 1))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        window.append(expected)
    assert len(past) == 4


def test_only_maps_as_far_apart_as_the_horizon_can_be_rolled():
    model = untrained(like(horizon_s=0.6))
    with pytest.raises(ModelError, match=r"small has a horizon of 0\.6 s and maps 0\.2 s apart"):
        model.rollout([], 3)


@pytest.mark.parametrize("kind", ["f2mf", "conv_f2f"])
def test_it_learns_a_motion_that_it_sees(kind):
    a = like(kind=kind, fold=2, width=16, trunk=16, depth=2, deformable=False, detail=2)
    torch.manual_seed(0)
    model = Forecaster(a)
    x = travelling((2, 0), 5, 3)
    past, target = x[:, :4], x[:, 4]
    copied = (past[:, -1] - target).square().mean()
    optimiser = torch.optim.Adam(model.parameters(), 2e-2)
    for _ in range(30):
        optimiser.zero_grad()
        model.outputs(past).loss(target).backward()
        optimiser.step()
    with torch.no_grad():
        assert (model.outputs(past).blend - target).square().mean() < 0.4 * copied


@pytest.mark.parametrize(
    "form",
    [{"deformable": False, "warped": 2, "detail": 2}, {"kind": "deform_f2f"}],
)
def test_openvino_computes_the_same(form):
    if openvino_version() is None:
        pytest.skip("openvino is not installed")
    from streamvis.models.inference.openvino import CompiledParts

    a = like(**form)
    model, x = stirred(a), maps(a)
    whole = CompiledParts(_Whole(model), [x], torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(whole(x)[0], model(x), atol=1e-3, rtol=1e-3)


class _Whole(nn.Module):
    def __init__(self, model: Forecaster) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.model(x),)


# What cannot be


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"warped": 5}, "small: `warped` is 5, expected at most `past`, 4"),
        ({"detail": 3}, "small: `detail` is 3, expected a divisor of 4, `fold`"),
        ({"kind": "conv_f2f", "depth": 1}, "small: `depth` is 1, expected at least 2"),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(changes, words):
    with pytest.raises(ModelError) as error:
        Forecaster(like(**changes))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(1, 4, 16, 24), (1, 3, 18, 24), (1, 3, 16, 22)])
def test_maps_that_do_not_fit_are_refused(shape):
    with pytest.raises(ModelError, match="Pad the frames") as error:
        untrained(SMALL).encode(torch.zeros(shape))
    assert str(tuple(shape[1:])) in str(error.value)


def test_too_few_maps_are_refused():
    model = untrained(SMALL)
    kept = model.encode(torch.zeros(1, 3, 16, 24))
    with pytest.raises(ModelError, match="small needs 4 past maps, found 2"):
        model.forecast([kept, kept])


@pytest.mark.parametrize(
    ("field", "value"),
    [("fold", 0), ("channels", 0), ("horizon_s", 0), ("kind", "f2f"), ("past", 1), ("radius", 17)],
)
def test_files_cannot_ask_for_the_impossible(field, value):
    raw = msgspec.to_builtins(SMALL) | {field: value}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(raw, ForecasterConfig)


def test_moments_are_pairwise_correlated_with_the_one_before():
    model, x = stirred(SMALL), maps(SMALL)
    kept = [model.encode(x[:, 0])]
    for t in range(1, 4):
        kept.append(model.encode(x[:, t], kept[-1]))
    assert (kept[0].motion == 0).all()
    for before, now in pairwise(kept):
        torch.testing.assert_close(now.motion, correlate(now.embedding, before.embedding, 2, 1))
