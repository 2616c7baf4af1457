"""The oracles are themselves proved, against torch's functions in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # torch's own name for it
from torch import nn

from reference import octave
from reference.compare import assert_equal

SIZES = [(7, 11), (8, 12), (13, 5)]


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("dilation", [1, 2, (1, 3)])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5, (3, 1), (2, 4)])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # torch's, about speed
def test_conv2d_same(kernel, dilation, padding_mode):
    conv = nn.Conv2d(6, 10, kernel, padding="same", dilation=dilation, padding_mode=padding_mode, dtype=torch.float64)
    x = draw(3, 6, 13, 17)
    arrays = [t.detach().numpy() for t in (x, conv.weight, conv.bias)]
    expected = octave.conv2d(*arrays, dilation=dilation, padding_mode=padding_mode)
    assert_equal(conv(x), expected)
    assert expected.shape[2:] == (13, 17)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("padding", [0, 1, (2, 1), "valid"])
def test_conv2d_explicit_padding_and_groups(padding, groups):
    x, weight, bias = draw(2, 6, 7, 11), draw(12, 6 // groups, 3, 2), draw(12)
    expected = F.conv2d(x, weight, bias, padding=padding, groups=groups)
    actual = octave.conv2d(x.numpy(), weight.numpy(), bias.numpy(), padding=padding, groups=groups)
    assert_equal(expected, actual)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_pool(factor, size):
    x = draw(2, 3, *size)
    assert_equal(F.max_pool2d(x, factor), octave.pool(x.numpy(), factor, "max"))
    assert_equal(F.avg_pool2d(x, factor), octave.pool(x.numpy(), factor, "avg"))


@pytest.mark.parametrize("new", [(1, 1), (3, 5), (7, 11), (14, 22), (15, 23), (28, 47)])
@pytest.mark.parametrize("old", [(1, 1), (1, 3), (7, 11), (8, 12)])
def test_resize(old, new):
    x = draw(2, 3, *old)
    bilinear = F.interpolate(x, new, mode="bilinear", align_corners=False)
    assert_equal(bilinear, octave.resize_bilinear(x.numpy(), new))
    assert_equal(F.interpolate(x, new, mode="nearest"), octave.resize_nearest(x.numpy(), new))


def test_resize_by_hand():
    x = np.array([0.0, 4.0]).reshape(1, 1, 1, 2)
    assert octave.resize_bilinear(x, (1, 4)).ravel().tolist() == [0.0, 1.0, 3.0, 4.0]
    x = np.arange(3.0).reshape(1, 1, 3, 1)
    assert octave.resize_nearest(x, (7, 1)).ravel().tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_batch_norm_and_prelu():
    norm, act, x = nn.BatchNorm2d(5).double().eval(), nn.PReLU(5).double(), draw(2, 5, 7, 3)
    with torch.no_grad():
        for values in (norm.running_mean, norm.weight, norm.bias, act.weight):
            values.normal_()
        norm.running_var.uniform_(0.1, 3)
    tensors = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    normed = octave.batch_norm(x.numpy(), octave.Norm(*(t.detach().numpy() for t in tensors)))
    assert_equal(norm(x), normed)
    assert_equal(act(norm(x)), octave.prelu(normed, act.weight.detach().numpy()))


def up(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def test_goctconv_two_scales_written_out():
    high, low = draw(2, 3, 9, 13), draw(2, 5, 4, 6)
    weights = {
        (0, 0): draw(7, 3, 3, 3),
        (0, 1): draw(2, 3, 3, 3),
        (1, 0): draw(7, 5, 3, 3),
        (1, 1): draw(2, 5, 3, 3),
    }
    biases = {0: draw(7), 1: draw(2)}
    expected_high = F.conv2d(high, weights[0, 0], biases[0], padding=1)
    expected_high = expected_high + up(F.conv2d(low, weights[1, 0], padding=1), (9, 13))
    expected_low = F.conv2d(low, weights[1, 1], biases[1], padding=1)
    expected_low = expected_low + F.conv2d(F.max_pool2d(high, 2), weights[0, 1], padding=1)
    actual = octave.goctconv(
        [high.numpy(), low.numpy()],
        {path: weight.numpy() for path, weight in weights.items()},
        {scale: bias.numpy() for scale, bias in biases.items()},
        [7, 2],
    )
    assert_equal(expected_high, actual[0])
    assert_equal(expected_low, actual[1])


def test_goctconv_bilinear_keeps_sizes_as_given():
    """Backbones round up where pooling rounds down: (5, 7) is not (9, 13) // 2, and stays."""
    high, low, weight = draw(1, 2, 9, 13), draw(1, 3, 5, 7), draw(4, 2, 1, 1)
    below, own = draw(4, 3, 1, 1), {}
    arrays = {(0, 0): weight.numpy(), (1, 0): below.numpy(), (0, 1): weight.numpy(), (1, 1): below.numpy()}
    actual = octave.goctconv([high.numpy(), low.numpy()], arrays, own, [4, 4], downsample="bilinear")
    assert_equal(F.conv2d(high, weight) + up(F.conv2d(low, below), (9, 13)), actual[0])
    assert_equal(F.conv2d(up(high, (5, 7)), weight) + F.conv2d(low, below), actual[1])


def test_goctconv_stride_two_pools_first():
    x, weight = draw(2, 3, 9, 13), draw(5, 3, 3, 3)
    pooled = F.avg_pool2d(x, 2)
    actual = octave.goctconv([x.numpy()], {(0, 0): weight.numpy(), (0, 1): weight.numpy()}, {}, [5, 5], stride=2)
    assert_equal(F.conv2d(pooled, weight, padding=1), actual[0])
    assert_equal(F.conv2d(F.max_pool2d(pooled, 2), weight, padding=1), actual[1])


def test_goctconv_reductions():
    fine, coarse = draw(1, 2, 17, 23), draw(1, 3, 4, 5)
    arrays = {(0, 0): draw(4, 2, 1, 1), (1, 0): draw(4, 3, 1, 1)}
    actual = octave.goctconv(
        [fine.numpy(), coarse.numpy()],
        {path: weight.numpy() for path, weight in arrays.items()},
        {},
        [4],
        in_reductions=(4, 16),
        out_reductions=(8,),
    )
    expected = F.conv2d(F.max_pool2d(fine, 2), arrays[0, 0]) + up(F.conv2d(coarse, arrays[1, 0]), (8, 11))
    assert_equal(expected, actual[0])


def test_simplified_and_parallel_dilated():
    x, empty = draw(2, 3, 7, 11), torch.zeros(2, 0, 3, 5, dtype=torch.float64)
    depthwise = draw(3, 1, 3, 3)
    actual = octave.simplified([x.numpy(), empty.numpy()], {0: depthwise.numpy()}, weight_scale=100)
    assert_equal(F.conv2d(x, 100 * depthwise, padding=1, groups=3), actual[0])
    assert actual[1].shape == (2, 0, 3, 5)
    pointwise, three = draw(2, 3, 3, 3), draw(4, 3, 3, 3)
    actual = octave.parallel_dilated(
        [x.numpy(), empty.numpy()],
        {(0, 0): pointwise.numpy(), (0, 2): three.numpy()},
        dilations=(1, 2, 3),
        weight_scale=10,
    )
    branches = [F.conv2d(x, 10 * pointwise, padding=1), F.conv2d(x, 10 * three, padding=3, dilation=3)]
    assert_equal(torch.cat(branches, 1), actual[0])
    assert actual[1].shape == (2, 0, 3, 5)
