from __future__ import annotations

import torch

from .._features import Channels
from ._convolution import IntPair, Padding, PaddingMode
from ._multi_scale_conv import Downsample, MultiScaleConv2d, Upsample


class GOctConv(MultiScaleConv2d):
    """Generalised octave convolution: features of n scales in, features of m scales out, every pair connected.

    Output scale j is the sum over the input scales i of the path i→j: a convolution where i = j; for i < j, scale i is
    pooled by 2**(j - i) and then convolved; for i > j, it is convolved at its low resolution and then upsampled
    to the exact size of scale j. Scale i has 1 / 2**i of the finest resolution, rounded down.

    Shapes:
        - Input: one tensor (B, C_i, H // 2**i, W // 2**i) per scale, finest first, in a
          tuple; a plain tensor where ``in_channels`` is an integer. A scale without channels is a (B, 0, h, w) tensor.
        - Output: the same with ``out_channels``; with ``stride=2``, of the halved height and width.

    Every path is a real `torch.nn.Conv2d` in ``paths["i_to_j"]``; there is none where either width is 0.

    Args:
        in_channels: Channels of every input scale (zero: absent), or an integer for a plain tensor.
        out_channels: Channels of every output scale, or an integer for a plain tensor.
        kernel_size: Height and width of the kernels.
        stride: 1, or 2: every input is first average-pooled 2x2; the convolutions themselves keep stride 1.
        padding: "same" keeps the sizes. Anything that changes them is refused, unless one scale goes into one.
        dilation: Spacing of the kernels' taps.
        groups: Groups of every path's convolution; every width must be divisible by it.
        bias: Whether to learn an additive bias per output channel; it is added once per output scale.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        downsample: How a fine scale reaches a coarse one: "max" or "avg" pooling, or "bilinear" resampling to the
            coarse scale's own size. With "bilinear" the sizes of the inputs are taken as they come, and the size of
            output scale j is that of input scale j as given, even if that scale has no channels.
        upsample: How a coarse scale reaches a fine one: "bilinear" (half-pixel centres) or "nearest".
        device: Where the parameters are.
        dtype: Their type.

    Raises:
        ChannelError: A negative width, no channels at all, widths that ``groups`` does not divide; at the call, the
            wrong number of channels at a scale.
        ScaleError: At the call, the wrong number of scales, sizes that pooling would not give, or a scale that would
            have no pixel; a padding that breaks the size relation.
        TypeError: A width that is no integer; at the call, a tensor where a tuple is expected or the reverse.

    Example:
        >>> import torch
        >>> from goctconv import GOctConv
        >>> conv = GOctConv((12, 0, 6), (8, 4), kernel_size=3)
        >>> x = torch.rand(1, 12, 33, 47), torch.rand(1, 0, 16, 23), torch.rand(1, 6, 8, 11)
        >>> [tuple(y.shape) for y in conv(x)]
        [(1, 8, 33, 47), (1, 4, 16, 23)]

    Source: Cheng et al., "A Highly Efficient Model to Study the Semantics of Salient Object Detection", TPAMI 2021,
    section 3.1.
    """

    def __init__(
        self,
        in_channels: Channels,
        out_channels: Channels,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: Padding = "same",
        dilation: IntPair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        *,
        downsample: Downsample = "max",
        upsample: Upsample = "bilinear",
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            in_reductions=None,
            out_reductions=None,
            downsample=downsample,
            upsample=upsample,
            device=device,
            dtype=dtype,
        )
