"""Pooling by rows gives what PyTorch's pooling gives, and PyTorch's own runs where something looks on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from goctconv.layers._resample import avg_pool, is_eager_cpu, max_pool


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
    with FlopCounterMode(display=False):
        assert not is_eager_cpu(x.detach())
    assert max_pool(x, 2).grad_fn is not None
    assert "MaxPool" in type(max_pool(x, 2).grad_fn).__name__
