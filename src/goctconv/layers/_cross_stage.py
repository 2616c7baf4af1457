from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from .._checks import check_keywords
from .._features import Channels, octaves, parse_reductions
from ._convolution import IntPair, with_parameters_of
from ._goctconv import GOctConv


class CrossStageGOctConv(GOctConv):
    """Generalised octave convolution across the stages of a network, whose strides need not start at 1.

    The same computation as `GOctConv`, between features named by their *reductions*, the strides of the features with
    respect to the image: fuse the stages 4, 8, 16 and 32 of a backbone, and give any of those resolutions.

    Shapes:
        - Input: one tensor (B, C_i, H_i, W_i) per reduction r_i, finest first. With pooling,
          H_i must be H_0 * r_0 // r_i; with ``downsample="bilinear"`` sizes are taken as
          they come (backbones round up).
        - Output: one tensor per output reduction; a plain tensor where ``out_channels`` is an integer. Its size is that
          of the input at the same reduction, else H_0 * r_0 // r_j.

    Args:
        in_channels: Channels of every input (zero: absent), or an integer for a plain tensor.
        out_channels: Channels of every output, or an integer for a plain tensor.
        kernel_size: Height and width of the kernels.
        stride: 1, or 2: every input is first average-pooled 2x2.
        padding: As in `GOctConv`.
        dilation: Spacing of the kernels' taps.
        groups: Groups of every path's convolution.
        bias: Whether to learn a bias, added once per output.
        padding_mode: As in `torch.nn.Conv2d`.
        in_reductions: Strides of the inputs, increasing; 1, 2, 4, ... if not given. Pooling needs each to be a
            multiple of the one before.
        out_reductions: Strides of the outputs; if not given the first ones of ``in_reductions``, going on by doubling.
            An output finer than all inputs has a multiple of the finest one's size, which may be some pixels short of
            the image's.
        downsample: "max", "avg" or "bilinear".
        upsample: "bilinear" or "nearest".
        device: Where the parameters are.
        dtype: Their type.

    Raises:
        ChannelError: As `GOctConv`.
        ScaleError: As `GOctConv`; reductions that do not increase, that do not match the channels in number, or that
            pooling cannot connect.
        TypeError: As `GOctConv`.

    Example:
        >>> import torch
        >>> from goctconv import CrossStageGOctConv
        >>> fuse = CrossStageGOctConv((40, 80, 80), 66, in_reductions=(2, 4, 8), out_reductions=(8,))
        >>> x = torch.rand(1, 40, 32, 48), torch.rand(1, 80, 16, 24), torch.rand(1, 80, 8, 12)
        >>> fuse(x).shape
        torch.Size([1, 66, 8, 12])

    Source: Cheng et al., TPAMI 2021, sections 3.1 and 4.3.
    """

    default_kernel_size = (1, 1)

    @with_parameters_of(GOctConv.__init__)
    def __init__(
        self,
        in_channels: Channels,
        out_channels: Channels,
        kernel_size: IntPair = 1,
        *args: Any,
        in_reductions: Sequence[int] | None = None,
        out_reductions: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        check_keywords("CrossStageGOctConv", options, inspect.signature(CrossStageGOctConv).parameters)
        self._given_reductions = in_reductions, out_reductions
        super().__init__(in_channels, out_channels, kernel_size, *args, **options)

    def _reductions(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        inputs, outputs = self._given_reductions
        inputs = octaves(len(self.in_widths)) if inputs is None else inputs
        parsed = parse_reductions(inputs, len(self.in_widths), "in_reductions")
        outputs = octaves(len(self.out_widths), parsed) if outputs is None else outputs
        return parsed, parse_reductions(outputs, len(self.out_widths), "out_reductions")
