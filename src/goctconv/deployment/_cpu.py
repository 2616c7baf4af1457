"""Steps of a network on a processor: plain functions that hold their weights as they are read fastest."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers._convolution import convolve, undrawn_conv2d
from ..layers._resample import is_eager_cpu

Step: TypeAlias = Callable[[Tensor], Tensor]
AddStep: TypeAlias = Callable[[Tensor, Tensor], Tensor]

LAST = torch.channels_last

_LARGEST_LEARNT_FROM = 32 * 2**20 - 2**16

# A 1x1 convolution is a matrix product: its call costs a third of oneDNN's, which pays back only later. Measured.
_FEW_PIXELS = 1024
_FEWER_THAN_IN_ONEDNN = 4096  # where the product's rows fill a vector
_VECTOR = 16
_WIDTHS_KEPT = 8  # of rows of slopes: networks see few widths
_ASKED = {torch.float32: "", torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}


@cache
def keep_freed_memory() -> None:
    """Let glibc keep up to 64 MiB of freed memory, instead of giving it back after every call of a network.

    It does so by itself for a process that has freed one block of almost 32 MiB, the largest from which it learns
    (mallopt(3), M_MMAP_THRESHOLD, "dynamic"). Other allocators, and glibc with thresholds set by hand, do not care.
    """
    torch.empty(_LARGEST_LEARNT_FROM, dtype=torch.uint8, device="cpu")


def is_told_to_keep_memory() -> bool:
    """Whether `keep_freed_memory` has been called in this process."""
    return keep_freed_memory.cache_info().currsize > 0


def suits(x: Tensor) -> bool:
    """Whether the steps are for this tensor: see `is_eager_cpu`; autocast changes what operations do."""
    is_ours = x.dim() == 4 and is_eager_cpu(x) and not torch.is_autocast_enabled("cpu")
    return is_ours and has_onednn(x.dtype) and torch._C._get_mkldnn_enabled()


@cache
def has_onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN's convolutions can be called for a type."""
    is_there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch
    if not (is_there and dtype in _ASKED):
        return False
    asked = _ASKED[dtype]
    needed = [
        "_convolution_pointwise",
        "_convolution_pointwise_",
        "_reorder_convolution_weight",
        *filter(None, [asked]),
    ]
    if not all(hasattr(torch.ops.mkldnn, name) for name in needed):
        return False
    return not asked or bool(getattr(torch.ops.mkldnn, asked)())


def is_plain(conv: nn.Conv2d) -> bool:
    """Whether oneDNN takes a convolution with its padding."""
    return conv.padding_mode == "zeros" and isinstance(conv.padding, tuple)


def convolution(conv: nn.Conv2d) -> Step:
    """Return a convolution."""
    if not is_plain(conv):
        return lambda x: convolve(conv, x)
    run = _direct(torch.ops.mkldnn._convolution_pointwise.default)
    weight, bias, numbers = packed(conv), conv.bias, _numbers(conv)

    def by_onednn(x: Tensor) -> Tensor:
        return cast("Tensor", run(x, weight, bias, *numbers, "none", [], ""))

    if not _is_product(conv):
        return by_onednn
    product, pays = _product(conv), _product_pays(conv)
    return lambda x: product(x) if pays(x) else by_onednn(x)


def added_convolution(conv: nn.Conv2d) -> AddStep:
    """Return a function that adds a convolution of the second tensor to the first, in place."""
    if not is_plain(conv):
        return lambda total, x: total.add_(convolve(conv, x))
    run = _direct(torch.ops.mkldnn._convolution_pointwise_.binary)
    weight, bias, numbers = packed(conv), conv.bias, _numbers(conv)

    def by_onednn(total: Tensor, x: Tensor) -> Tensor:
        return cast("Tensor", run(total, x, weight, bias, *numbers, "add", 1.0, None, [], None))

    if not _is_product(conv):
        return by_onednn
    product, pays = _product(conv), _product_pays(conv)
    return lambda total, x: total.add_(product(x)) if pays(x) else by_onednn(total, x)


def is_prediction(conv: nn.Conv2d) -> bool:
    """Whether a convolution makes one number of every pixel, of nothing but that pixel."""
    return is_plain(conv) and _is_product(conv) and conv.out_channels == 1


def _is_product(conv: nn.Conv2d) -> bool:
    """Whether every pixel of the output is a product of a matrix and the same pixel of the input."""
    return conv.kernel_size == conv.stride == (1, 1) and conv.padding == (0, 0) and conv.groups == 1


def _product(conv: nn.Conv2d) -> Step:
    weight, bias = conv.weight.flatten(1).contiguous(), conv.bias
    return lambda x: F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def _product_pays(conv: nn.Conv2d) -> Callable[[Tensor], bool]:
    """Return what tells whether the product takes less time than oneDNN's convolution, for features of some size."""
    if conv.out_channels == 1:
        return lambda _: True
    most = _FEW_PIXELS if conv.out_channels < _VECTOR else _FEWER_THAN_IN_ONEDNN
    return lambda x: x.shape[0] * x.shape[2] * x.shape[3] <= most


def _direct(operation: Any) -> Callable[..., Any]:
    """Return what an operation's own call ends in, which costs a quarter less for small features."""
    return cast("Callable[..., Any]", getattr(operation, "_op", operation))


def _numbers(conv: nn.Conv2d) -> tuple[Any, ...]:
    return list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups


def packed(conv: nn.Conv2d) -> Tensor:
    """Return the weight in the order in which oneDNN reads it."""
    return cast(
        "Tensor",
        torch.ops.mkldnn._reorder_convolution_weight(
            conv.weight, conv.padding, conv.stride, conv.dilation, conv.groups, None
        ),
    )


def activation(module: nn.Module) -> Step | None:
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


def prelu(weight: Tensor) -> Step:
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
        return torch._prelu_kernel(x, row)

    return run


def parallel_convolutions(convs: list[nn.Conv2d]) -> Step:
    """Return the outputs of several convolutions side by side; of infinite features, more outputs may be no numbers."""
    widths = [conv.out_channels for conv in convs]
    if sum(widths) > _VECTOR or not all(map(_can_widen, convs)):
        steps = list(map(convolution, convs))
        return lambda x: torch.cat([step(x) for step in steps], dim=1)
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


def _can_widen(conv: nn.Conv2d) -> bool:
    return is_plain(conv) and conv.groups == 1


@torch.no_grad()
def _widened(conv: nn.Conv2d, start: int, width: int) -> nn.Conv2d:
    """Return a convolution of ``width`` channels, those of the given one from ``start`` on, all others zero."""
    arguments: dict[str, Any] = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}
    height_and_width = conv.kernel_size[0], conv.kernel_size[1]
    wide = undrawn_conv2d(conv.in_channels, width, height_and_width, device="cpu", bias=False, **arguments)
    weight = conv.weight.new_zeros(width, *conv.weight.shape[1:])
    weight[start : start + conv.out_channels] = conv.weight
    wide.weight = nn.Parameter(weight.contiguous(memory_format=LAST), requires_grad=False)
    return wide
