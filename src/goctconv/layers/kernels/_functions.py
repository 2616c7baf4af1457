"""BatchNorm and PReLU with gradients, computed by the compiled kernels."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..._features import Features
from ..._torch import children_of, forward_hooks_of, is_plain_cpu, is_watched
from .._convolution import PLAIN
from .._per_scale import PerScale
from .._prelu import PReLU
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

    @property
    def parts(self) -> int:
        """Parts that threads compute at the same time."""
        size = self.count * (self.length or self.channels)
        return max(1, min(torch.get_num_threads(), size // _PER_THREAD, self.count))

    def run(self, name: str, tensors: list[Tensor], parameters: list[Tensor], sums: Tensor | None = None) -> None:
        """Run a kernel in as many parts as there are threads; each adds to sums (part, sum, channel) of its own."""
        parts, pointers = self.parts, [tensor.data_ptr() for tensor in tensors]

        def part(number: int) -> None:
            begin, end = (self.count * place // parts for place in (number, number + 1))
            own = [] if sums is None else [sums[number]]
            if self.length:
                shape = [begin, end, self.length, self.channels]
                library().call(f"planes_{name}", *pointers, *shape, *parameters, *own)
            else:
                moved = [pointer + 4 * begin * self.channels for pointer in pointers]
                library().call(f"pixels_{name}", *moved, end - begin, self.channels, *parameters, *own)

        if parts == 1:
            part(0)
        else:
            list(_pool(parts, os.getpid()).map(part, range(parts)))

    def sums(self, count: int) -> Tensor:
        """Return sums of zero for each part and channel."""
        return torch.zeros(self.parts, count, self.channels, dtype=torch.float64)


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
    return is_plain and parameter.shape == (layout.channels,) and parameter.is_contiguous()


def _alike(gradient: Tensor, x: Tensor) -> Tensor:
    """Return a gradient that lies in memory as its input does."""
    return gradient if gradient.stride() == x.stride() else torch.empty_like(x).copy_(gradient)


def _is_native(x: Tensor, gradient: Tensor, layout: Layout) -> bool:
    """Whether kernels compute a gradient: not for a gradient of it, a batch of them, or an x that hooks laid anew."""
    return not torch.is_grad_enabled() and layout_of(x) == layout and is_plain_cpu(gradient)


class NativeBatchNorm(torch.autograd.Function):
    """BatchNorm by the statistics of the batch, which moves the running ones; then PReLU, if there is a slope."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        slope: Tensor | None,
        running: tuple[Tensor | None, Tensor | None],
        numbers: tuple[float, float],
        layout: Layout,
    ) -> Tensor:
        channels, values, momentum_of, eps = layout.channels, layout.values, numbers[0], numbers[1]
        sums, parts = layout.sums(2), layout.parts
        shift, table = torch.empty(channels), torch.empty(4, channels)
        exact = torch.empty(2, channels, dtype=torch.float64)
        steps = (1, layout.length) if layout.length else (channels, 1)
        library().call("shifts", x, min(64, layout.length or values), channels, *steps, shift)
        layout.run("moments", [x], [shift], sums)
        made = (weight, bias, slope, *running, table, exact)
        library().call("statistics", sums, parts, channels, values, shift, *made, float(eps), float(momentum_of))
        y = torch.empty_like(x)
        layout.run("activated", [x, y], [table])
        ctx.save_for_backward(x, weight, bias, slope, table, exact)
        ctx.eps, ctx.layout = eps, layout
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, slope, table, exact = ctx.saved_tensors
        layout, of_slope = ctx.layout, None
        if not _is_native(x, gradient, layout):
            if slope is not None:
                between = torch.ops.aten.native_batch_norm(x, weight, bias, None, None, True, 0.0, ctx.eps)[0]
                gradient, of_slope = _prelu_gradients(between, gradient, slope)
            needed, statistics = list(ctx.needs_input_grad[:3]), (None, None, *exact.float())
            native = torch.ops.aten.native_batch_norm_backward
            return (*native(gradient, x, weight, *statistics, True, ctx.eps, needed), of_slope, None, None, None)
        gradient, sums, channels = _alike(gradient, x), layout.sums(3), layout.channels
        layout.run("products", [x, gradient], [table], sums)
        found, of_x = [torch.empty(channels) for _ in range(3)], torch.empty(2, channels)
        library().call("gradients", sums, layout.parts, channels, layout.values, table, exact, *found, of_x)
        y = None
        if ctx.needs_input_grad[0]:
            y = torch.empty_like(x)
            layout.run("gradient", [x, gradient, y], [table, of_x])
        needs = ctx.needs_input_grad[1:4]
        kept = (value if is_needed else None for value, is_needed in zip(found, needs, strict=True))
        return (y, *kept, None, None, None)


def _prelu_gradients(x: Tensor, gradient: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of PReLU's input and slope, as operations that have gradients themselves."""
    slopes = slope.view(-1, *[1] * (x.dim() - 2))
    of_slope = (gradient * x.clamp_max(0)).sum([0, *range(2, x.dim())])
    return torch.where(x > 0, gradient, gradient * slopes), of_slope


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
            return (*_prelu_gradients(x, gradient, weight), None)
        of_x, sums = torch.empty_like(x), ctx.layout.sums(1)
        ctx.layout.run("prelu_gradient", [x, _alike(gradient, x), of_x], [weight], sums)
        return of_x, sums.sum((0, 1)).float(), None


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
    output: Tensor = NativeBatchNorm.apply(
        input, weight, bias, None, (running_mean, running_var), (momentum, eps), layout
    )
    return output


def activated(
    native: AbstractContextManager[object], norm: PerScale, activation: PerScale, features: Tensor | Features
) -> Tensor | Features:
    """Compute BatchNorm and PReLU of every scale in one where nobody looks at what lies between, else one by one."""
    if not (_is_bare(norm, {PerScale}) and _is_bare(activation, {PerScale}) and norm.in_widths == activation.in_widths):
        with native:
            return cast("Tensor | Features", activation(norm(features)))
    outputs = []
    for scale, x in enumerate(norm.check_inputs(features)):
        first, second = (children_of(layer).get(str(scale)) for layer in (norm, activation))
        output = _activated_norm(first, second, x)
        if output is None:
            with native:
                between = norm.compute_scale(scale, x, PLAIN)
                output = activation.compute_scale(scale, between, PLAIN)
        outputs.append(output)
    return outputs[0] if activation.gives_tensor else tuple(outputs)


def _activated_norm(norm: nn.Module | None, activation: nn.Module | None, x: Tensor) -> Tensor | None:
    """Return PReLU of BatchNorm; None where these are others, what lies between is looked at, or it doesn't pay."""

    def is_allowed(hook: Any) -> bool:
        reads_only: Callable[[Any], bool] | None = getattr(hook, "reads_only", None)
        return reads_only is not None and reads_only(activation)

    if not (_is_bare(norm, {nn.BatchNorm2d}, is_allowed) and _is_bare(activation, {nn.PReLU, PReLU}, is_allowed)):
        return None
    layer, slope, layout = cast("nn.BatchNorm2d", norm), cast("nn.PReLU", activation).weight, layout_of(x)
    if not layer.training or layer.momentum is None or layout is None or layout.values < 2 or x.dim() != 4:
        return None
    running, affine = (layer.running_mean, layer.running_var), (layer.weight, layer.bias)
    if not all(_fits(part, layout) for part in (slope, *running, *affine)):
        return None
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
    output: Tensor = NativeBatchNorm.apply(x, *affine, slope, running, (layer.momentum, layer.eps), layout)
    if hooks := list(forward_hooks_of(layer).values()):
        between = output.detach()  # the hooks know it again, and read no value of it
        for hook in hooks:
            hook(layer, (x,), between)
        for hook in list(forward_hooks_of(cast("nn.Module", activation)).values()):
            hook(activation, (between,), output)
    return output


def _is_bare(
    module: nn.Module | None,
    kinds: set[type[nn.Module]],
    is_allowed: Callable[[Any], bool] = lambda _: False,
) -> bool:
    """Whether a module is of exactly these types, and runs with its forward pass alone and hooks that are allowed."""
    return type(module) in kinds and module is not None and not is_watched(module, is_allowed)


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
