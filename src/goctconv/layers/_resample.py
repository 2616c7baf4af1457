"""Pooling and resizing, in the form that is fast where no gradient is wanted."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from .._features import Size


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
    return F.interpolate(x, size, mode=mode, align_corners=False if mode == "bilinear" else None)


def is_eager_cpu(x: Tensor) -> bool:
    """Whether operations on a tensor run at once on a processor, wanted for nothing but their result.

    Not so for gradients, and where something looks on: a compiler, or a mode that counts or follows operations.
    """
    if torch.jit.is_scripting():  # type: ignore[attr-defined]  # public, but not typed
        return False
    is_watched = (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]  # the same
        or _get_current_dispatch_mode() is not None
    )
    is_learning = x.requires_grad and torch.is_grad_enabled()
    return type(x) is Tensor and x.device.type == "cpu" and not is_learning and not is_watched


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
