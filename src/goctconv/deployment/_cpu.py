"""Steps of a network on a processor: plain functions that hold their weights as they are read fastest."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers._convolution import convolve
from ..layers._resample import is_eager_cpu

Step: TypeAlias = Callable[[Tensor], Tensor]
AddStep: TypeAlias = Callable[[Tensor, Tensor], Tensor]

LAST = torch.channels_last
_FEW_PIXELS = 1024  # up to here, PyTorch's own 1x1 convolution costs less than the call of oneDNN
_ASKED = {torch.float32: "", torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}


def suits(x: Tensor) -> bool:
    """Whether the steps are for this tensor: see `is_eager_cpu`; autocast and torch.func change what operations do."""
    is_changed = torch.is_autocast_enabled("cpu") or torch._C._are_functorch_transforms_active()
    return x.dim() == 4 and is_eager_cpu(x) and has_onednn(x.dtype) and not is_changed


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

    if conv.kernel_size != (1, 1) or conv.groups != 1:
        return by_onednn
    unpacked = conv.weight

    def pointwise(x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        return torch.conv2d(x, unpacked, bias) if batch * height * width <= _FEW_PIXELS else by_onednn(x)

    return pointwise


def added_convolution(conv: nn.Conv2d) -> AddStep:
    """Return a function that adds a convolution of the second tensor to the first, in place."""
    if not is_plain(conv):
        return lambda total, x: total.add_(convolve(conv, x))
    run = _direct(torch.ops.mkldnn._convolution_pointwise_.binary)
    weight, bias, numbers = packed(conv), conv.bias, _numbers(conv)
    return lambda total, x: cast("Tensor", run(total, x, weight, bias, *numbers, "add", 1.0, None, [], None))


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
    row = weight.new_empty(1, 1, 1, 0)

    def run(x: Tensor) -> Tensor:
        nonlocal row
        _, channels, _, width = x.shape
        if row.shape[-1] < width:
            row = weight.view(1, -1, 1, 1).expand(1, channels, 1, width).contiguous(memory_format=LAST)
        return torch._prelu_kernel(x, row[..., :width])

    return run
