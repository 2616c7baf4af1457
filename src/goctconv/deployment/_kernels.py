"""Kernels of deployed networks on a processor: operations that hold their weights as they are read fastest."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._torch import is_eager_cpu, onednn_convolution, onednn_convolves, onednn_is_enabled, onednn_weight, prelu_kernel
from ..layers import PLAIN, Kernels

Kernel: TypeAlias = Callable[[Tensor], Tensor]
AddKernel: TypeAlias = Callable[[Tensor, Tensor], Tensor]

LAST = torch.channels_last

# A 1x1 convolution is a matrix product: its call costs a third of oneDNN's, which pays back only later. Measured.
_FEW_PIXELS = 1024
_FEWER_THAN_IN_ONEDNN = 4096  # where the product's rows fill a vector
_VECTOR = 16
_WIDTHS_KEPT = 8  # of rows of slopes: networks see few widths


class ProcessorKernels(Kernels):
    """The convolutions of a layer's forward pass on a processor, each made at its first use; all add up in place."""

    def __init__(self) -> None:
        self._convolution, self._added = cache(convolution), cache(added_convolution)
        self._parallel = cache(parallel_convolutions)

    def convolve(self, conv: nn.Module, x: Tensor) -> Tensor:
        """Return a convolution."""
        return self._convolution(conv)(x)

    def add(self, total: Tensor, term: Tensor) -> Tensor:
        """Add a tensor to another one."""
        return total.add_(term)

    def add_convolved(self, total: Tensor, conv: nn.Module, x: Tensor) -> Tensor:
        """Add a convolution to a tensor."""
        return self._added(conv)(total, x)

    def concatenate(self, convs: nn.ModuleDict, x: Tensor) -> Tensor:
        """Return several convolutions of one tensor, side by side."""
        return self._parallel(convs)(x)


def suits(x: Tensor) -> bool:
    """Whether the kernels are for this tensor: see `is_eager_cpu`; autocast changes what operations do."""
    is_plain = x.dim() == 4 and is_eager_cpu(x) and not torch.is_autocast_enabled("cpu")
    return is_plain and onednn_convolves(x.dtype) and onednn_is_enabled()


def _onednn_takes(conv: nn.Conv2d) -> bool:
    return conv.padding_mode == "zeros" and isinstance(conv.padding, tuple)


def convolution(module: nn.Module) -> Kernel:
    """Return a convolution."""
    conv = cast("nn.Conv2d", module)
    if not _onednn_takes(conv):
        return lambda x: PLAIN.convolve(conv, x)
    run, weight, bias, *numbers = onednn_convolution(adds=False), *_onednn_arguments(conv)

    def by_onednn(x: Tensor) -> Tensor:
        return run(x, weight, bias, *numbers, "none", [], "")

    if not _is_product(conv):
        return by_onednn
    product, pays = _product(conv), _product_pays(conv)
    return lambda x: product(x) if pays(x) else by_onednn(x)


def added_convolution(module: nn.Module) -> AddKernel:
    """Return a function that adds a convolution of the second tensor to the first, in place."""
    conv = cast("nn.Conv2d", module)
    if not _onednn_takes(conv):
        return lambda total, x: total.add_(PLAIN.convolve(conv, x))
    run, weight, bias, *numbers = onednn_convolution(adds=True), *_onednn_arguments(conv)

    def by_onednn(total: Tensor, x: Tensor) -> Tensor:
        return run(total, x, weight, bias, *numbers, "add", 1.0, None, [], None)

    if not _is_product(conv):
        return by_onednn
    product, pays = _product(conv), _product_pays(conv)
    return lambda total, x: total.add_(product(x)) if pays(x) else by_onednn(total, x)


def is_prediction(conv: nn.Conv2d) -> bool:
    """Whether a convolution makes one number of every pixel, of nothing but that pixel."""
    return _onednn_takes(conv) and _is_product(conv) and conv.out_channels == 1


def _is_product(conv: nn.Conv2d) -> bool:
    """Whether every pixel of the output is a product of a matrix and the same pixel of the input."""
    return conv.kernel_size == conv.stride == (1, 1) and conv.padding == (0, 0) and conv.groups == 1


def _product(conv: nn.Conv2d) -> Kernel:
    weight, bias = conv.weight.flatten(1).contiguous(), conv.bias
    return lambda x: F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def _product_pays(conv: nn.Conv2d) -> Callable[[Tensor], bool]:
    """Return a function that decides whether the product takes less time than oneDNN's convolution."""
    if conv.out_channels == 1:
        return lambda _: True
    most = _FEW_PIXELS if conv.out_channels < _VECTOR else _FEWER_THAN_IN_ONEDNN
    return lambda x: x.shape[0] * x.shape[2] * x.shape[3] <= most


def _onednn_arguments(conv: nn.Conv2d) -> tuple[Any, ...]:
    numbers = list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups
    return onednn_weight(conv), conv.bias, *numbers


def activation(module: nn.Module) -> Kernel | None:
    """Return an activation that may change what it is given; None for none."""
    if type(module) is nn.Identity:
        return None
    if type(module) is nn.ReLU:
        return torch.relu_
    if type(module) is nn.LeakyReLU:
        slope = module.negative_slope
        return lambda x: F.leaky_relu_(x, slope)
    if isinstance(module, nn.PReLU):
        return prelu(module.weight)
    return module


def prelu(weight: Tensor) -> Kernel:
    """Return a PReLU whose slopes are repeated along a row of pixels, so that all of the row is one long vector."""
    rows: dict[int, Tensor] = {}

    def run(x: Tensor) -> Tensor:
        width = x.shape[-1]
        row = rows.get(width)
        if row is None:
            if len(rows) == _WIDTHS_KEPT:
                rows.clear()
            row = weight.view(1, -1, 1, 1).expand(1, x.shape[1], 1, width).contiguous(memory_format=LAST)
            rows[width] = row
        return prelu_kernel(x, row)

    return run


def parallel_convolutions(modules: nn.ModuleDict) -> Kernel:
    """Return the outputs of several convolutions side by side; of infinite features, more outputs may be no numbers."""
    convs = cast("list[nn.Conv2d]", list(modules.values()))
    widths = [conv.out_channels for conv in convs]
    if sum(widths) > _VECTOR or not all(_onednn_takes(conv) and conv.groups == 1 for conv in convs):
        kernels = list(map(convolution, convs))
        return lambda x: torch.cat([kernel(x) for kernel in kernels], dim=1)
    # oneDNN makes a vector of channels at once, be they few: each makes all, zeros but for its own, and they add up.
    ends = list(itertools.accumulate(widths))
    wide = [_widened(conv, end - conv.out_channels, ends[-1]) for conv, end in zip(convs, ends, strict=True)]
    biases = [conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias for conv in convs]
    wide[0].bias = nn.Parameter(torch.cat(biases), requires_grad=False)
    start, more = convolution(wide[0]), [added_convolution(conv) for conv in wide[1:]]

    def run(x: Tensor) -> Tensor:
        total = start(x)
        for add in more:
            total = add(total, x)
        return total

    return run


@torch.no_grad()
def _widened(conv: nn.Conv2d, start: int, width: int) -> nn.Conv2d:
    """Return a convolution of ``width`` channels, those of the given one from ``start`` on, all others zero."""
    wide = copy.deepcopy(conv)
    wide.out_channels, wide.bias = width, None
    weight = conv.weight.new_zeros(width, *conv.weight.shape[1:])
    weight[start : start + conv.out_channels] = conv.weight
    wide.weight = nn.Parameter(weight.contiguous(memory_format=LAST), requires_grad=False)
    return wide
