from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from .._features import ChannelError, Channels, ScaleError
from ._convolution import PaddingMode
from ._cross_stage import CrossStageGOctConv
from ._goctconv import Downsample, Upsample
from ._layer import Block
from ._parallel_dilated import ParallelDilatedConv
from ._per_scale import PerScale
from ._prelu import PReLU


class FusionHead(Block):
    """Cross-stage fusion: the features of several stages in, one map that has seen them all out.

    A 1x1 `CrossStageGOctConv` exchanges between the stages, `ParallelDilatedConv` widens the field of view of each, a
    second 1x1 `CrossStageGOctConv` brings them to one scale; each is normalised and activated.

    Shapes:
        - Input: one tensor (B, C_i, H_i, W_i) per stage in a tuple, finest first; sizes as in
          `CrossStageGOctConv`.
        - Output: a plain tensor (B, C, H_j, W_j) at ``out_reduction``.

    As in `ILBlock`, a freshly drawn head with a ``weight_scale`` of 100 needs data before ``eval()``.

    Args:
        in_channels: Channels of every stage's feature.
        fuse_channels: Channels of every scale after the first layer.
        branch_channels: Channels of every dilated branch, as in `ParallelDilatedConv`; by default ``fuse_channels``,
            divided evenly.
        out_channels: Channels of the output; by default all channels of the dilated branches together.
        in_reductions: Strides of the stages with respect to the image; 1, 2, 4, ... if not given.
        out_reduction: Stride of the output, one of ``in_reductions``; by default the finest.
        dilations: Of the parallel branches.
        padding_mode: Of the dilated convolutions.
        weight_scale: Factor of the dilated weights in the forward pass: 100 in CSNet; 1 for plain convolutions.
        downsample: As in `GOctConv`; "max" in CSNet; "bilinear" suits backbones, whose sizes may be rounded up.
        upsample: As in `GOctConv`.
        norm: Called with a number of channels, returns the normalisation of one scale.
        activation: Called with a number of channels, returns the activation of one scale.
        device: Where the parameters are.
        dtype: Their type.

    Raises:
        ChannelError: As `CrossStageGOctConv` and `ParallelDilatedConv`; not one width for each stage.
        ScaleError: As `CrossStageGOctConv`; an ``out_reduction`` that is none of ``in_reductions``.
        TypeError: As `CrossStageGOctConv` and `PerScale`.

    Example:
        >>> import torch
        >>> from goctconv import FusionHead
        >>> head = FusionHead((40, 80, 80), (13, 26, 26), in_reductions=(2, 4, 8))
        >>> x = torch.rand(2, 40, 32, 32), torch.rand(2, 80, 16, 16), torch.rand(2, 80, 8, 8)
        >>> head(x).shape
        torch.Size([2, 65, 32, 32])

    Source: Cheng et al., TPAMI 2021, section 4.3 and Table 1.
    """

    layer_names = ("fuse", "dilated", "merge")

    def __init__(
        self,
        in_channels: Sequence[int],
        fuse_channels: Sequence[int],
        branch_channels: Sequence[Sequence[int]] | None = None,
        out_channels: int | None = None,
        *,
        in_reductions: Sequence[int] | None = None,
        out_reduction: int | None = None,
        dilations: Sequence[int] = (1, 2, 4, 8, 16),
        padding_mode: PaddingMode = "zeros",
        weight_scale: float = 100.0,
        downsample: Downsample = "max",
        upsample: Upsample = "bilinear",
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        activation: Callable[[int], nn.Module] = PReLU,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, widths in (("in_channels", in_channels), ("fuse_channels", fuse_channels)):
            if not isinstance(widths, Sequence) or len(widths) != len(in_channels):
                problem = "" if name == "in_channels" else f" of {{in_channels={in_channels!r}}}"
                raise ChannelError(name, widths, f"one width for each stage{problem}")

        def exchange(inputs: Channels, outputs: Channels, reductions: Sequence[int] | None) -> CrossStageGOctConv:
            return CrossStageGOctConv(
                inputs,
                outputs,
                bias=False,
                in_reductions=in_reductions,
                out_reductions=reductions,
                downsample=downsample,
                upsample=upsample,
            )

        self.fuse = exchange(in_channels, fuse_channels, in_reductions)
        self.norm1 = PerScale(norm, fuse_channels)
        self.act1 = PerScale(activation, fuse_channels)
        self.dilated = ParallelDilatedConv(
            fuse_channels,
            branch_channels,
            dilations=dilations,
            padding_mode=padding_mode,
            weight_scale=weight_scale,
        )
        widths = self.dilated.out_widths
        reductions = self.fuse.in_reductions
        if out_reduction is not None and out_reduction not in reductions:
            raise ScaleError("out_reduction", out_reduction, f"one of the stages' reductions {reductions}")
        self.norm2 = PerScale(norm, widths)
        self.act2 = PerScale(activation, widths)
        fused = sum(widths) if out_channels is None else out_channels
        self.merge = exchange(widths, fused, None if out_reduction is None else (out_reduction,))
        self.norm3 = PerScale(norm, fused)
        self.act3 = PerScale(activation, fused)
        self.to(device=device, dtype=dtype)

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return sum(self.out_widths)
