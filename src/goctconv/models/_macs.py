"""Multiply-accumulate operations of a network, counted in a recording."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._checks import ArgumentError, check_choice
from .._features import Features
from .._torch import BatchNorm
from ..graph import MacsCounter, Observer, recording
from ..layers import GOctConv


def count_macs(
    model: nn.Module,
    input_size: int | Sequence[int] = 224,
    convention: Literal["conv", "paper"] = "conv",
    *,
    in_chans: int | None = None,
) -> int:
    """Return the multiply-accumulate operations of one image through a network.

    The network is counted on a copy without memory, so that nothing is computed and yours is left alone.

    Args:
        model: Any network that takes images (B, C, H, W).
        input_size: Height and width in pixels, or one integer for both.
        convention: "conv" counts convolutions, linear layers and matrix products without their biases, as
            `torch.utils.flop_counter` does. "paper" counts as the published tables of CSNet do: it adds the biases, 4
            for each element that enters a BatchNorm, 3 for each that enters a PReLU, 5 for each that the stride of a
            `GOctConv` pools, the squared kernel size for each that its max-pooling gives, and 9 for each that its
            upsampling gives. The upsampling of the logits is not counted.
        in_chans: Channels of the image; by default those that the model names in ``in_chans``, else 3.

    Raises:
        ValueError: An unknown convention, or an input size that is none.

    Example:
        >>> import goctconv
        >>> from goctconv.models import count_macs
        >>> model = goctconv.create_model("csnet_x1")
        >>> count_macs(model), count_macs(model, convention="paper")
        (432819744, 610638784)

    Source of "paper": Cheng et al., TPAMI 2021, Tables 5, 6 and 11.
    """
    check_choice("convention", convention, ("conv", "paper"))
    size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if len(size) != 2:
        raise ArgumentError("input_size", input_size, "one integer, or height and width")
    height, width = size
    channels = in_chans if in_chans is not None else getattr(model, "in_chans", 3)
    hollow = copy.deepcopy(model).to("meta").eval()
    products, extras = MacsCounter(), _ExtrasCounter()
    dtype = next((p.dtype for p in hollow.parameters()), torch.float32)
    with torch.no_grad(), recording(hollow, products, extras):
        hollow(torch.empty(1, channels, height, width, device="meta", dtype=dtype))
    return products.total + (extras.total if convention == "paper" else 0)


class _ExtrasCounter(Observer):
    """Counts what the paper's rule counts beside the products of convolutions."""

    def __init__(self) -> None:
        self.total = 0

    def leave(self, path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:  # noqa: ARG002
        """Count what a module adds."""
        for kind, count in _COUNTS.items():
            if isinstance(module, kind):
                self.total += count(module, args[0], output)


def _bias(conv: nn.Conv2d, _: Tensor, output: Tensor) -> int:
    return output.numel() if conv.bias is not None else 0


def _resampling(conv: GOctConv, given: Tensor | Features, output: Tensor | Features) -> int:
    inputs = (given,) if isinstance(given, Tensor) else given
    outputs = (output,) if isinstance(output, Tensor) else output
    total = 5 * sum(x.numel() for x in inputs) if conv.stride == 2 else 0
    for target, y in enumerate(outputs):
        pixels = y.shape[0] * y.shape[-2] * y.shape[-1]
        for source, width in enumerate(conv.in_widths):
            before, after = conv.in_reductions[source], conv.out_reductions[target]
            if not (width and conv.out_widths[target]):
                continue
            if before > after:
                total += 9 * conv.out_widths[target] * pixels
            elif before < after:
                total += conv.kernel_size[0] * conv.kernel_size[1] * width * pixels
    return total


_COUNTS: dict[type[nn.Module], Callable[[Any, Any, Any], int]] = {
    nn.Conv2d: _bias,
    BatchNorm: lambda _, x, __: 4 * x.numel(),
    nn.PReLU: lambda _, x, __: 3 * x.numel(),
    GOctConv: _resampling,
}
