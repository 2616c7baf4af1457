from __future__ import annotations

import inspect
from typing import Any

from .._checks import ArgumentTypeError, check_keywords, check_share
from .._features import Channels, parse_channels
from ._convolution import IntPair, with_parameters_of
from ._goctconv import GOctConv


class OctConv(GOctConv):
    """Vanilla octave convolution: two scales in and out, average-pooling down, nearest-neighbour up.

    Shapes:
        - Input: a tuple of (B, C - int(alpha * C), H, W) and
          (B, int(alpha * C), H // 2, W // 2); a plain (B, C, H, W) tensor
          where ``alpha_in`` is 0, as in a network's first layer.
        - Output: the same with ``out_channels`` and ``alpha_out``; a plain tensor where ``alpha_out`` is 0, as in a
          network's last layer.

    Args:
        in_channels: All input channels together.
        out_channels: All output channels together.
        kernel_size: Height and width of the kernels.
        stride: 1, or 2: every input is first average-pooled 2x2.
        padding: As in `GOctConv`.
        dilation: Spacing of the kernels' taps.
        groups: Groups of every path's convolution.
        bias: Whether to learn a bias, added once per output scale.
        padding_mode: As in `torch.nn.Conv2d`.
        alpha_in: Share of the input channels at low resolution, rounded down to whole channels.
        alpha_out: Share of the output channels at low resolution.
        device: Where the parameters are.
        dtype: Their type.

    Raises:
        ArgumentError: A share outside [0, 1]; an unknown argument; also `ChannelError` and `ScaleError` as in
            `GOctConv`.

    Example:
        >>> import torch
        >>> from goctconv import OctConv
        >>> high, low = OctConv(3, 16, kernel_size=3, alpha_in=0)(torch.rand(1, 3, 32, 48))
        >>> high.shape, low.shape
        (torch.Size([1, 8, 32, 48]), torch.Size([1, 8, 16, 24]))

    Source: Chen et al., "Drop an Octave: Reducing Spatial Redundancy in Convolutional Neural Networks with Octave
    Convolution", ICCV 2019.
    """

    default_resampling = ("avg", "nearest")

    @with_parameters_of(GOctConv.__init__, without=("downsample", "upsample"))
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        *args: Any,
        alpha_in: float = 0.5,
        alpha_out: float = 0.5,
        **options: Any,
    ) -> None:
        cure = "{alpha_in} and {alpha_out} are the shares of channels at low resolution" if "alpha" in options else ""
        check_keywords("OctConv", options, inspect.signature(OctConv).parameters, cure)
        inputs, outputs = _split(in_channels, alpha_in, "in"), _split(out_channels, alpha_out, "out")
        super().__init__(inputs, outputs, kernel_size, *args, downsample="avg", upsample="nearest", **options)


def _split(channels: int, alpha: float, side: str) -> Channels:
    """Return channels at high and low resolution, or the integer itself for a share of 0."""
    if not isinstance(channels, int) or isinstance(channels, bool):
        raise ArgumentTypeError(f"{side}_channels", channels, "an integer: all channels of both scales together")
    parse_channels(channels, f"{side}_channels")
    check_share(f"alpha_{side}", alpha, "it is the share of channels at low resolution")
    low = int(alpha * channels)
    return (channels - low, low) if alpha else channels
