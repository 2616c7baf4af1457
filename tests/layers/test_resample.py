"""Pooling by rows gives what PyTorch's pooling gives, and PyTorch's own runs where anything follows the operations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from goctconv.layers._resample import _bands, avg_pool, is_eager_cpu, max_pool, resize

SetThreads = Callable[[int], None]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 5, 9, 13), (1, 1, 4, 4), (3, 2, 7, 5)])
@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_pooling_by_rows(step: int, shape: tuple[int, ...], layout: torch.memory_format) -> None:
    x = torch.randn(shape).contiguous(memory_format=layout)
    x[0, 0, 0, 0] = float("nan")
    found, expected = max_pool(x, step), F.max_pool2d(x, step)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    assert found.is_contiguous(memory_format=layout)
    for dtype in (torch.float64, torch.bfloat16):
        y = x.nan_to_num().to(dtype)
        torch.testing.assert_close(avg_pool(y, step), F.avg_pool2d(y, step))


@pytest.mark.parametrize("count", [2, 3, 4, 16])
@pytest.mark.parametrize(("side", "step", "width_after"), [((56, 64), 2, 128), ((64, 56), 4, 200), ((60, 1), 8, 700)])
def test_enlarging_by_bands(
    side: tuple[int, int], step: int, width_after: int, count: int, set_threads: SetThreads
) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 24, *side).contiguous(memory_format=torch.channels_last)
    size = side[0] * step, width_after
    expected = F.interpolate(x, size, mode="bilinear", align_corners=False)
    set_threads(count)
    assert _bands(x, size) > 1
    found = resize(x, size, "bilinear")
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("count", [2, 3, 8, 32])
def test_enlarging_few_rows_by_bands(count: int, set_threads: SetThreads) -> None:
    torch.manual_seed(0)
    set_threads(count)
    used = 0
    for height in range(1, 17):
        for step in (2, 4, 8):
            x = torch.randn(1, 64, height, 128).contiguous(memory_format=torch.channels_last)
            size = height * step, 256
            expected = F.interpolate(x, size, mode="bilinear", align_corners=False)
            assert torch.equal(resize(x, size, "bilinear"), expected)
            used += _bands(x, size) > 1
    assert used > 10


def test_what_is_not_enlarged_by_bands(set_threads: SetThreads) -> None:
    set_threads(2)
    x = torch.zeros(1, 24, 64, 64).contiguous(memory_format=torch.channels_last)
    assert _bands(x, (128, 128)) == 2
    assert _bands(x, (96, 128)) == _bands(x, (192, 128)) == _bands(x, (64, 512)) == 1  # positions are not exact
    assert _bands(x, (32, 4096)) == 1
    assert _bands(x[:, :2], (128, 128)) == 1  # too small
    assert _bands(x.contiguous(), (128, 128)) == 1
    assert _bands(torch.cat([x, x]), (128, 128)) == 1  # a thread for every image
    assert _bands(x[..., :0, :], (0, 128)) == 1
    assert resize(x.requires_grad_(), (128, 128), "bilinear").grad_fn is not None


def test_too_few_pixels_are_still_refused() -> None:
    with pytest.raises(RuntimeError):
        max_pool(torch.zeros(1, 2, 1, 8), 2)


def test_gradients_modes_and_other_devices_see_the_usual_operations() -> None:
    x = torch.zeros(1, 2, 4, 4)
    assert is_eager_cpu(x)
    assert not is_eager_cpu(x.requires_grad_())
    with torch.no_grad():
        assert is_eager_cpu(x)
    assert not is_eager_cpu(x.detach().to("meta"))
    with forward_ad.dual_level():
        assert not is_eager_cpu(x.detach())
    seen = []
    torch.func.vmap(lambda y: seen.append(is_eager_cpu(y)) or y)(x.detach())
    assert seen == [False]
    with FlopCounterMode(display=False):
        assert not is_eager_cpu(x.detach())
    assert max_pool(x, 2).grad_fn is not None
    assert "MaxPool" in type(max_pool(x, 2).grad_fn).__name__
