"""Pooling and resizing, in the form that is fast where no gradient is wanted."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .._features import Size
from .._torch import is_eager_cpu

_PAYS_IN_BANDS = 2**17  # numbers of the result, from which on several threads pay


def max_pool(x: Tensor, step: int) -> Tensor:
    """Return the maximum of every square of ``step`` pixels; what does not fill one is left out."""
    return _by_rows(x, step, torch.maximum) if _pays(x, step) else F.max_pool2d(x, step)


def avg_pool(x: Tensor, step: int) -> Tensor:
    """Return the mean of every square of ``step`` pixels; what does not fill one is left out."""
    if _pays(x, step) and x.dtype in {torch.float32, torch.float64}:  # others would round between the sums
        return _by_rows(x, step, torch.add).mul_(1 / step**2)
    return F.avg_pool2d(x, step)


def resize(x: Tensor, size: Size, mode: str) -> Tensor:
    """Return features of another size: "bilinear" with half-pixel centres, or "nearest"."""
    bands = _bands(x, size) if mode == "bilinear" and is_eager_cpu(x) else 1
    if bands > 1:
        return _resize_in_bands(x, size, bands)
    return F.interpolate(x, size, mode=mode, align_corners=False if mode == "bilinear" else None)


def _pays(x: Tensor, step: int) -> bool:
    """Whether to pool by rows: on a processor, where PyTorch's own goes square by square (2-25 times as long)."""
    return is_eager_cpu(x) and step > 1 and min(x.shape[-2:]) >= step


def _by_rows(x: Tensor, step: int, combine: Callable[..., Tensor]) -> Tensor:
    height, width = x.shape[-2] // step * step, x.shape[-1] // step * step
    rows = combine(x[..., 0:height:step, :width], x[..., 1:height:step, :width])
    for row in range(2, step):
        rows = combine(rows, x[..., row:height:step, :width])
    pooled = combine(rows[..., 0::step], rows[..., 1::step])
    for column in range(2, step):
        pooled = combine(pooled, rows[..., column::step])
    return pooled


def _bands(x: Tensor, size: Size) -> int:
    """Return how many bands of rows to enlarge one by one: 1, but where PyTorch uses one thread for every image."""
    threads, (batch, channels, height) = torch.get_num_threads(), x.shape[:3]
    step = size[0] // max(height, 1)
    is_power = step > 1 and step & (step - 1) == 0  # then positions are exact, wherever a band begins
    if (
        threads == 1
        or batch != 1
        or not is_power
        or step * height != size[0]
        or channels * size[0] * size[1] < _PAYS_IN_BANDS
    ):
        return 1
    if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return 1
    # A band has two rows at least, so that the rows where bands meet are not each other's.
    divisors = [n for n in range(1, max(1, min(height // 2, 2 * threads)) + 1) if height % n == 0]
    return min(divisors, key=lambda n: (-(-n // threads) * (height // n), n))


def _resize_in_bands(x: Tensor, size: Size, bands: int) -> Tensor:
    """Enlarge bands of rows as if they were images, each by a thread of its own; then the rows where bands meet."""
    _, channels, height, width = x.shape
    rows, step = height // bands, size[0] // height
    half = step // 2
    parts = x.view(channels, bands, rows, width).transpose(0, 1)
    enlarged = F.interpolate(parts, (rows * step, size[1]), mode="bilinear", align_corners=False)
    meeting = x[:, :, rows - 1 : height - 1].view(channels, bands - 1, rows, width)[:, :, :2].transpose(0, 1)
    meeting = meeting.contiguous(memory_format=torch.channels_last)
    seams = F.interpolate(meeting, (2 * step, size[1]), mode="bilinear", align_corners=False)
    whole = enlarged.transpose(0, 1).view(1, channels, *size)
    at_seams = whole[:, :, rows * step - half : size[0] - half].view(channels, bands - 1, rows * step, size[1])
    at_seams.narrow(2, 0, step).copy_(seams.narrow(2, half, step).transpose(0, 1))
    return whole
