from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from .._features import Channels
from ._convolution import IntPair, PaddingMode
from ._goctconv import Downsample, GOctConv, Upsample
from ._layer import Block
from ._per_scale import PerScale
from ._prelu import PReLU
from ._simplified import SimplifiedGOctConv


class ILBlock(Block):
    """In-layer multi-scale block: a `GOctConv`, then two 3x3 `SimplifiedGOctConv`, each normalised and activated.

    The first layer mixes channels and scales, the two depthwise ones mix neighbours.

    Shapes:
        - Input: one tensor (B, C_i, H // 2**i, W // 2**i) per scale in a tuple; a plain
          tensor where ``in_channels`` is an integer.
        - Output: the same with ``out_channels``; with ``stride=2``, halved height and width.

    A freshly drawn block with the published ``weight_scale`` of 100 multiplies its input by thousands until its
    normalisation has seen data: before ``eval()``, train, or run a few batches in train mode.

    Args:
        in_channels: Channels of every input scale, or an integer for a plain tensor.
        out_channels: Channels of every output scale, or an integer for a plain tensor.
        kernel_size: Of the first layer; published are 3 where resolution changes and in the first block, else 1.
        stride: 1, or 2 to halve the resolution in the first layer.
        padding_mode: Of all three layers.
        simplified: Whether the second and third layer are depthwise, as published; else they are full `GOctConv`
            without ``weight_scale``, the "vanilla" extractor of the paper's Table 6.
        weight_scale: Factor of the depthwise weights in the forward pass; see `ScaledConv2d`.
        downsample: As in `GOctConv`.
        upsample: As in `GOctConv`.
        norm: Called with a number of channels, returns the normalisation of one scale.
        activation: Called with a number of channels, returns the activation of one scale.
        device: Where the parameters are.
        dtype: Their type.

    Raises:
        ChannelError: As `GOctConv`.
        ScaleError: As `GOctConv`.
        TypeError: As `GOctConv` and `PerScale`.

    Example:
        >>> import torch
        >>> from goctconv import ILBlock
        >>> block = ILBlock((10, 10), (20, 20), kernel_size=3, stride=2)
        >>> [tuple(y.shape) for y in block((torch.rand(2, 10, 32, 32), torch.rand(2, 10, 16, 16)))]
        [(2, 20, 16, 16), (2, 20, 8, 8)]

    Source: Cheng et al., TPAMI 2021, section 4.2.
    """

    layer_names = ("conv1", "conv2", "conv3")

    def __init__(
        self,
        in_channels: Channels,
        out_channels: Channels,
        kernel_size: IntPair = 1,
        stride: IntPair = 1,
        *,
        padding_mode: PaddingMode = "zeros",
        simplified: bool = True,
        weight_scale: float = 100.0,
        downsample: Downsample = "max",
        upsample: Upsample = "bilinear",
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        activation: Callable[[int], nn.Module] = PReLU,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()

        def exchange(inputs: Channels, size: IntPair, step: IntPair) -> GOctConv:
            return GOctConv(
                inputs,
                out_channels,
                size,
                step,
                bias=False,
                padding_mode=padding_mode,
                downsample=downsample,
                upsample=upsample,
            )

        def spatial() -> nn.Module:
            if not simplified:
                return exchange(out_channels, 3, 1)
            return SimplifiedGOctConv(out_channels, 3, bias=False, padding_mode=padding_mode, weight_scale=weight_scale)

        self.conv1 = exchange(in_channels, kernel_size, stride)
        self.norm1 = PerScale(norm, out_channels)
        self.act1 = PerScale(activation, out_channels)
        self.conv2 = spatial()
        self.norm2 = PerScale(norm, out_channels)
        self.act2 = PerScale(activation, out_channels)
        self.conv3 = spatial()
        self.norm3 = PerScale(norm, out_channels)
        self.act3 = PerScale(activation, out_channels)
        self.to(device=device, dtype=dtype)
