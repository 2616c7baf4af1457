"""Counting multiply-accumulate operations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .._features import Features
from .._torch import BatchNorm
from ..layers._multi_scale_conv import MultiScaleConv2d


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
        convention: "conv" counts convolutions, linear layers and matrix products without their biases, by
            `torch.utils.flop_counter`. "paper" counts as the published tables of CSNet do: it adds the biases, 4 for
            each element that enters a BatchNorm, 3 for each that enters a PReLU, 5 for each that the stride of a
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
    if convention not in {"conv", "paper"}:
        raise ValueError(f"convention={convention!r} must be 'conv' or 'paper'")
    size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if len(size) != 2:
        raise ValueError(f"input_size={input_size!r} must be one integer, or height and width")
    height, width = size
    channels = in_chans if in_chans is not None else getattr(model, "in_chans", 3)
    hollow = copy.deepcopy(model).to("meta").eval()
    extras = _Extras(hollow) if convention == "paper" else None
    dtype = next((p.dtype for p in hollow.parameters()), torch.float32)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        hollow(torch.empty(1, channels, height, width, device="meta", dtype=dtype))
    return int(counter.get_total_flops()) // 2 + (extras.total if extras else 0)


class _Extras:
    """What the paper's rule counts beside the products of convolutions."""

    def __init__(self, model: nn.Module) -> None:
        self.total = 0
        for module in model.modules():
            for kind, count in _COUNTS.items():
                if isinstance(module, kind):
                    module.register_forward_hook(self._hook(count))

    def _hook(self, count: Callable[[Any, Any, Any], int]) -> Callable[[nn.Module, Any, Any], None]:
        def add(module: nn.Module, inputs: Any, output: Any) -> None:
            self.total += count(module, inputs[0], output)

        return add


def _bias(conv: nn.Conv2d, _: Tensor, output: Tensor) -> int:
    return output.numel() if conv.bias is not None else 0


def _resampling(conv: MultiScaleConv2d, given: Tensor | Features, output: Tensor | Features) -> int:
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
    MultiScaleConv2d: _resampling,
}
