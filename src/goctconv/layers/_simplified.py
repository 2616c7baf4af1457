from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

import torch
from torch import Tensor, nn

from .._checks import check_choice
from .._features import Channels, absent, spatial_size
from .._torch import children_of
from ._convolution import (
    IntPair,
    Kernels,
    Padding,
    PaddingMode,
    as_pair,
    check_stride,
    halve,
    resolve_padding,
    scaled_conv2d,
)
from ._layer import ScaleLayer


class SimplifiedGOctConv(ScaleLayer):
    """Simplified generalised octave convolution: a depthwise convolution per scale, no exchange between scales.

    Its cost is about 1/channels of that of `GOctConv`.

    Shapes:
        - Input: one tensor (B, C_i, H_i, W_i) per scale in a tuple; a plain tensor where ``channels`` is an
          integer. A scale without channels is a (B, 0, h, w) tensor. The sizes of the scales are not compared.
        - Output: the same channels and sizes; with ``stride=2``, halved height and width.

    Every scale's convolution is a real `torch.nn.Conv2d` in ``convs["i"]``; there is none for an absent scale.

    Args:
        channels: Channels of every scale, in and out (zero: absent), or an integer for a plain tensor.
        kernel_size: Height and width of the kernels.
        stride: 1, or 2: every input is first average-pooled 2x2.
        padding: "same" keeps the sizes. Anything that changes them is refused where there are several scales.
        dilation: Spacing of the kernels' taps.
        bias: Whether to learn an additive bias per channel.
        padding_mode: As in `torch.nn.Conv2d`.
        weight_scale: Constant factor of the weights in the forward pass, 100 in CSNet: raw weights are initialised
            as those of `torch.nn.Conv2d`, so they act that much larger. The bias is not scaled.
        device: Where the parameters are.
        dtype: Their type.

    Raises:
        ChannelError: A negative width or no channels at all; at the call, the wrong number of channels at a scale.
        ScaleError: At the call, the wrong number of scales; a padding that breaks the size relation.
        TypeError: A width that is no integer; at the call, a tensor where a tuple is expected or the reverse.

    Example:
        >>> import torch
        >>> from goctconv import SimplifiedGOctConv
        >>> conv = SimplifiedGOctConv((8, 4), kernel_size=3)
        >>> [tuple(y.shape) for y in conv((torch.rand(1, 8, 32, 32), torch.rand(1, 4, 16, 16)))]
        [(1, 8, 32, 32), (1, 4, 16, 16)]

    Source: Cheng et al., TPAMI 2021, section 4.2.
    """

    def __init__(
        self,
        channels: Channels,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: Padding = "same",
        dilation: IntPair = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        *,
        weight_scale: float = 1.0,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._set_channels(channels, channels, ["channels"])
        self.kernel_size = as_pair(kernel_size, "kernel_size")
        self.stride = check_stride(stride)
        self.dilation = as_pair(dilation, "dilation")
        self.padding = resolve_padding(padding, self.kernel_size, self.dilation, single_scale=len(self.in_widths) == 1)
        check_choice("padding_mode", padding_mode, get_args(PaddingMode))
        self.convs = nn.ModuleDict(
            {
                str(scale): scaled_conv2d(
                    width,
                    width,
                    self.kernel_size,
                    padding=self.padding,
                    dilation=self.dilation,
                    groups=width,
                    bias=bias,
                    padding_mode=padding_mode,
                    weight_scale=weight_scale,
                    device=device,
                    dtype=dtype,
                )
                for scale, width in enumerate(self.in_widths)
                if width
            }
        )

    def reset_parameters(self) -> None:
        """Draw every convolution as `torch.nn.Conv2d` does."""
        for conv in self.convs.values():
            cast("nn.Conv2d", conv).reset_parameters()

    def resize_channels(self, in_widths: Sequence[int]) -> None:
        """Take other widths over, after channels have been cut out of the convolutions; empty ones go."""
        self.in_widths = self.out_widths = tuple(in_widths)
        for scale, width in enumerate(self.in_widths):
            if not width and str(scale) in self.convs:
                del self.convs[str(scale)]

    def compute_scale(self, scale: int, x: Tensor, kernels: Kernels) -> Tensor:
        """Return one output scale."""
        conv = children_of(self.convs).get(str(scale))
        if self.stride == 2:
            x = halve(x, self.in_widths[scale])
        return absent(x, spatial_size(x)) if conv is None else kernels.convolve(conv, x)

    def extra_repr(self) -> str:
        """Return the arguments; the convolutions below show their own."""
        stride = ", stride=2" if self.stride == 2 else ""
        return f"{self.in_channels}, kernel_size={self.kernel_size}{stride}"
