"""Deformable convolution against a loop over every tap, and the sign of warping."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from streamvis.models.deform import DeformConv2d, deform_conv2d, sample, warp


def doubles(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def read(plane: list[list[float]], y: float, x: float) -> float:
    """Bilinear, nothing outside."""
    total = 0.0
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < len(plane) and 0 <= j < len(plane[0]):
                total += plane[i][j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return total


def looped(x, offset, weight, bias, padding, dilation):
    """The sum of the paper, number by number."""
    b, channels = x.shape[:2]
    outputs, _, kernel, _ = weight.shape
    height, width = offset.shape[-2:]
    out = torch.zeros(b, outputs, height, width, dtype=torch.float64)
    planes, moved, taps = x.tolist(), offset.tolist(), weight.tolist()
    for n in range(b):
        for row in range(height):
            for column in range(width):
                for k in range(kernel * kernel):
                    i, j = divmod(k, kernel)
                    y = row - padding + i * dilation + moved[n][2 * k][row][column]
                    at = column - padding + j * dilation + moved[n][2 * k + 1][row][column]
                    for c in range(channels):
                        value = read(planes[n][c], y, at)
                        for o in range(outputs):
                            out[n, o, row, column] += taps[o][c][i][j] * value
    return out if bias is None else out + bias[:, None, None]


@pytest.mark.parametrize(
    ("kernel", "padding", "dilation"), [(1, 0, 1), (3, 1, 1), (3, 2, 2), (3, 0, 1), (5, 2, 1)]
)
@pytest.mark.parametrize("with_bias", [True, False])
def test_it_is_the_loop_over_taps(kernel, padding, dilation, with_bias):
    x, weight = doubles(2, 3, 6, 7), doubles(4, 3, kernel, kernel, seed=1)
    h, w = (side + 2 * padding - dilation * (kernel - 1) for side in (6, 7))
    offset = 2 * doubles(2, 2 * kernel**2, h, w, seed=2)  # many of them out of the map
    bias = doubles(4, seed=3) if with_bias else None
    found = deform_conv2d(x, offset, weight, bias, padding=padding, dilation=dilation)
    expected = looped(x, offset, weight, bias, padding, dilation)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 5), (4, 1), (1, 1)])
def test_maps_of_one_row_or_column_have_a_rim_as_well(shape):
    x, offset = doubles(1, 2, *shape), doubles(1, 18, *shape, seed=1)
    weight = doubles(2, 2, 3, 3, seed=2)
    found = deform_conv2d(x, offset, weight, padding=1)
    expected = looped(x, offset, weight, None, 1, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (3, 2)])
def test_gradients_are_those_of_small_differences(kernel, dilation):
    padding = kernel // 2 * dilation
    offset = doubles(1, 2 * kernel**2, 3, 4, seed=1)
    offset = offset.floor() + 0.2 + 0.6 * offset.frac().abs()  # away from kinks
    inputs = [
        x.requires_grad_()
        for x in (doubles(1, 2, 3, 4), offset, doubles(2, 2, kernel, kernel, seed=2), doubles(2))
    ]
    assert torch.autograd.gradcheck(
        lambda *a: deform_conv2d(*a, padding=padding, dilation=dilation), inputs
    )


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (3, 2), (5, 1)])
def test_without_offsets_it_is_a_convolution(kernel, dilation):
    deformed = DeformConv2d(3, 4, kernel, dilation).double()
    plain = nn.Conv2d(3, 4, kernel, padding=deformed.padding, dilation=dilation).double()
    plain.load_state_dict({"weight": deformed.weight, "bias": deformed.bias})
    x = doubles(2, 3, 8, 9)
    torch.testing.assert_close(deformed(x), plain(x), rtol=0, atol=1e-12)


def test_offsets_of_whole_cells_move_the_map():
    x, weight = doubles(1, 2, 8, 9), doubles(3, 2, 3, 3, seed=1)
    offset = torch.zeros(1, 18, 8, 9, dtype=torch.float64)
    offset[:, 0::2] = 1  # every tap looks one row lower
    offset[:, 1::2] = -2  # and two columns further left
    moved = F.pad(x, (2, 0, 0, 1))[..., 1:, :-2]
    inside = (..., slice(1, -2), slice(3, -1))  # of which no tap leaves either map
    torch.testing.assert_close(
        deform_conv2d(x, offset, weight, padding=1)[inside],
        F.conv2d(moved, weight, padding=1)[inside],
    )


def test_the_mirrored_map_gives_the_mirrored_result():
    x, weight = doubles(1, 2, 5, 6), doubles(3, 2, 3, 3, seed=1)
    offset = doubles(1, 18, 5, 6, seed=2)
    taps = offset.unflatten(1, (3, 3, 2)).flip(2, -1)  # of a kernel's row, from right to left
    mirrored = (taps * taps.new_tensor([1, -1])[:, None, None]).flatten(1, 3)
    found = deform_conv2d(x.flip(-1), mirrored, weight.flip(-1), padding=1)
    torch.testing.assert_close(found.flip(-1), deform_conv2d(x, offset, weight, padding=1))


def test_what_moved_right_and_down_is_fetched_from_left_and_above():
    before = doubles(1, 2, 8, 10)
    after = F.pad(before, (3, 0, 1, 0))[..., :8, :10]  # 3 cells to the right, 1 down
    flow = torch.tensor([-3.0, -1]).expand(1, 8, 10, 2).permute(0, 3, 1, 2)
    torch.testing.assert_close(warp(before, flow)[..., 1:, 3:], after[..., 1:, 3:])


def test_half_a_cell_is_the_mean_of_two():
    x = doubles(1, 1, 4, 5)
    flow = torch.zeros(1, 2, 4, 5)
    flow[:, 0] = 0.5
    found = warp(x, flow)
    torch.testing.assert_close(found[..., :-1], (x[..., :-1] + x[..., 1:]) / 2)
    torch.testing.assert_close(found[..., -1], x[..., -1])  # the border, repeated


def test_beyond_the_border_warping_repeats_it():
    x = doubles(1, 1, 4, 5)
    flow = torch.full((1, 2, 4, 5), -50.0)
    torch.testing.assert_close(warp(x, flow), x[..., :1, :1].expand(1, 1, 4, 5))


def test_places_are_not_rounded_to_the_precision_of_the_map():
    x = torch.arange(300.0).expand(1, 1, 2, 300)
    at = torch.full((1, 1, 1), 100.25)  # bf16 knows 100 and 100.5
    found = sample(x.bfloat16(), torch.zeros(1, 1, 1), at)
    assert found.dtype == torch.bfloat16
    assert sample(x, torch.zeros(1, 1, 1), at).item() == pytest.approx(100.25, abs=1e-4)
    flow = torch.full((1, 2, 2, 300), 0.25, dtype=torch.bfloat16)
    assert warp(x, flow)[0, 0, 0, 200].item() == pytest.approx(200.25, abs=1e-3)


def test_mixed_precision_learns_the_offsets():
    conv = DeformConv2d(4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(torch.randn(2, 4, 6, 6))
    out.float().square().sum().backward()
    for name, parameter in conv.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
