"""BatchNorm and PReLU with gradients, computed by the compiled kernels."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ..._torch import is_plain_cpu
from ._library import library

_LEAST = 2**13  # values, below which PyTorch's own is as fast
_PER_THREAD = 2**17  # values, from which on several threads pay
_WIDEST = 2048  # channels side by side, as in training.c


@dataclass(frozen=True)
class Layout:
    """Where the values of the channels are: pixels side by side (``length`` 0), or planes of one channel each."""

    channels: int
    count: int  # of pixels, or planes
    length: int  # of a plane

    @property
    def values(self) -> int:
        """Values of a channel."""
        return self.count * self.length // self.channels if self.length else self.count

    def run(self, name: str, tensors: list[Tensor], parameters: list[Tensor], *, sums: int = 0) -> Tensor:
        """Run a kernel in as many parts as there are threads; return its sums of each channel in float64."""
        size = self.count * (self.length or self.channels)
        parts = max(1, min(torch.get_num_threads(), size // _PER_THREAD, self.count))
        found = torch.zeros(parts, sums, self.channels, dtype=torch.float64)
        pointers = [tensor.data_ptr() for tensor in tensors]
        fixed = [tensor.data_ptr() for tensor in parameters]

        def part(number: int) -> None:
            begin, end = (self.count * place // parts for place in (number, number + 1))
            own = [found[number].data_ptr()] if sums else []
            if self.length:
                shape = [begin, end, self.length, self.channels]
                library().call(f"planes_{name}", *pointers, *shape, *fixed, *own)
            else:
                moved = [pointer + 4 * begin * self.channels for pointer in pointers]
                library().call(f"pixels_{name}", *moved, end - begin, self.channels, *fixed, *own)

        if parts == 1:
            part(0)
        else:
            list(_pool(parts, os.getpid()).map(part, range(parts)))
        return found.sum(0)


@cache
def _pool(threads: int, _process: int) -> ThreadPoolExecutor:  # a process that was forked has none of the threads
    return ThreadPoolExecutor(threads, thread_name_prefix="goctconv-kernels")


def layout_of(x: Tensor) -> Layout | None:
    """Return how float32 features (B, C, ...) on the processor lie in memory, if a kernel for them pays."""
    if type(x) is not Tensor or x.dtype != torch.float32 or x.dim() < 2 or x.numel() < _LEAST or not is_plain_cpu(x):
        return None
    channels, count = x.shape[1], x.numel() // x.shape[1]
    length = count // len(x)
    if length > 1 and x.is_contiguous():
        return Layout(channels, len(x) * channels, length)
    is_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    if channels <= _WIDEST and (is_last or (length == 1 and x.is_contiguous())):
        return Layout(channels, count, 0)
    return None


def _fits(parameter: Tensor | None, layout: Layout) -> bool:
    """Whether a parameter or buffer has a float32 number for each channel, on the processor."""
    if parameter is None:
        return True
    is_plain = type(parameter) in {Tensor, nn.Parameter} and parameter.is_cpu and parameter.dtype == torch.float32
    return is_plain and parameter.shape == (layout.channels,)


def _alike(gradient: Tensor, x: Tensor) -> Tensor:
    """Return a gradient that lies in memory as its input does."""
    return gradient if gradient.stride() == x.stride() else torch.empty_like(x).copy_(gradient)


def _is_native(x: Tensor, gradient: Tensor, layout: Layout) -> bool:
    """Whether kernels compute a gradient: not for a gradient of it, a batch of them, or an x that hooks laid anew."""
    return not torch.is_grad_enabled() and layout_of(x) == layout and is_plain_cpu(gradient)


def _sample(x: Tensor, layout: Layout) -> Tensor:
    """Return roughly the mean of each channel, by which sums of squares are shifted lest digits cancel."""
    if layout.length:
        return x[0].flatten(1)[:, :64].mean(1)
    return x.movedim(1, -1).flatten(0, -2)[:64].mean(0)


class NativeBatchNorm(torch.autograd.Function):
    """BatchNorm by the statistics of the batch; returns these too, the variance biased."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, layout: Layout
    ) -> tuple[Tensor, Tensor, Tensor]:
        shift = _sample(x, layout)
        first, second = layout.run("moments", [x], [shift], sums=2) / layout.values
        mean, var = first + shift, (second - first * first).clamp_min(0)
        scale = (var + eps).rsqrt()
        factor = scale if weight is None else scale * weight
        moved = mean.float()
        offset = (moved - mean) * factor if bias is None else bias + (moved - mean) * factor
        y = torch.empty_like(x)
        layout.run("scale", [x, y], [moved, factor.float(), offset.float()])
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.eps, ctx.layout = eps, layout
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        if not _is_native(x, gradient, ctx.layout):
            needed, statistics = list(ctx.needs_input_grad[:3]), (None, None, mean.float(), scale.float())
            native = torch.ops.aten.native_batch_norm_backward
            return (*native(gradient, x, weight, *statistics, True, ctx.eps, needed), None, None)
        gradient, layout, moved = _alike(gradient, x), ctx.layout, mean.float()
        total, product = layout.run("products", [x, gradient], [moved], sums=2)
        product = product - total * (mean - moved)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = torch.empty_like(x)
            factor = scale if weight is None else scale * weight
            slope = -factor * scale * scale * product / layout.values
            offset = slope * (moved - mean) - factor * total / layout.values
            layout.run("gradient", [x, gradient, of_x], [moved, factor.float(), slope.float(), offset.float()])
        of_weight = (product * scale).float() if ctx.needs_input_grad[1] else None
        return of_x, of_weight, total.float() if ctx.needs_input_grad[2] else None, None, None


class NativePReLU(torch.autograd.Function):
    """PReLU with one slope for each channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, layout: Layout) -> Tensor:
        y = torch.empty_like(x)
        layout.run("prelu", [x, y], [weight])
        ctx.save_for_backward(x, weight)
        ctx.layout = layout
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if not _is_native(x, gradient, ctx.layout):
            slopes = weight.view(-1, *[1] * (x.dim() - 2))
            of_weight = (gradient * x.clamp_max(0)).sum([0, *range(2, x.dim())])
            return torch.where(x > 0, gradient, gradient * slopes), of_weight, None
        of_x = torch.empty_like(x)
        (total,) = ctx.layout.run("prelu_gradient", [x, _alike(gradient, x), of_x], [weight], sums=1)
        return of_x, total.float(), None


def batch_norm(
    original: Callable[..., Tensor],
    input: Tensor,  # noqa: A002  # the names that PyTorch gives them
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Compute `torch.nn.functional.batch_norm`, whose arguments these are, natively where that pays."""
    layout = layout_of(input) if training else None
    tensors = (running_mean, running_var, weight, bias)
    if layout is None or layout.values < 2 or not all(_fits(part, layout) for part in tensors):
        return original(input, *tensors, training, momentum, eps)
    output, mean, var = NativeBatchNorm.apply(input, weight, bias, eps, layout)
    result: Tensor = output
    with torch.no_grad():
        unbiased = var * (layout.values / (layout.values - 1))
        for running, new in ((running_mean, mean), (running_var, unbiased)):
            if running is not None:  # by .data, since PyTorch's own calls save it, and check that it is the same later
                running.data.copy_(momentum * new + (1 - momentum) * running)
    return result


def prelu(
    original: Callable[..., Tensor],
    input: Tensor,  # noqa: A002  # the name that PyTorch gives it
    weight: Tensor,
) -> Tensor:
    """Compute `torch.prelu` natively where that pays."""
    layout = layout_of(input) if torch.is_grad_enabled() else None
    if layout is None or not _fits(weight, layout) or not weight.is_contiguous():
        return original(input, weight)
    if not (input.requires_grad or weight.requires_grad):
        return original(input, weight)
    output: Tensor = NativePReLU.apply(input, weight, layout)
    return output
