"""Blocks of CSNet: layers in a row, each normalised and activated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .._features import ChannelError, Channels, Features, ScaleError
from ._convolution import IntPair, PaddingMode
from ._cross_stage import CrossStageGOctConv
from ._goctconv import Downsample, GOctConv, Upsample
from ._layer import ScaleLayer
from ._parallel_dilated import ParallelDilatedConv
from ._per_scale import PerScale, activated
from ._prelu import PReLU
from ._simplified import SimplifiedGOctConv


class Block(nn.Module):
    """Three layers, each followed by its normalisation (``norm1`` to ``norm3``) and activation (``act1`` to ``act3``).

    Attributes:
        layer_names: Names of the layers.
    """

    layer_names: ClassVar[tuple[str, str, str]]
    norm1: PerScale
    norm2: PerScale
    norm3: PerScale
    act1: PerScale
    act2: PerScale
    act3: PerScale

    def _add_step(
        self, number: int, layer: ScaleLayer, norm: Callable[[int], nn.Module], activation: Callable[[int], nn.Module]
    ) -> None:
        self.add_module(self.layer_names[number - 1], layer)
        self.add_module(f"norm{number}", PerScale(norm, layer.out_channels))
        self.add_module(f"act{number}", PerScale(activation, layer.out_channels))

    def steps(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yield every layer with its normalisation and its activation."""
        for number, name in enumerate(self.layer_names, 1):
            yield getattr(self, name), getattr(self, f"norm{number}"), getattr(self, f"act{number}")

    def forward(self, features: Tensor | Features) -> Tensor | Features:
        """Return what the last activation gives: a plain tensor or a tuple, depending on the channels."""
        for layer, norm, activation in self.steps():
            features = activated(norm, activation, layer(features))
        return features

    @property
    def in_widths(self) -> tuple[int, ...]:
        """Channels of every input scale."""
        return tuple(getattr(self, self.layer_names[0]).in_widths)

    @property
    def out_widths(self) -> tuple[int, ...]:
        """Channels of every output scale."""
        return tuple(getattr(self, self.layer_names[-1]).out_widths)


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
        weight_scale: Factor of the depthwise weights in the forward pass, 100 in CSNet: raw weights are initialised
            as those of `torch.nn.Conv2d`, so they act that much larger. The bias is not scaled.
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
    conv1: GOctConv

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

        resampling: dict[str, Any] = {"downsample": downsample, "upsample": upsample}
        exchange: Callable[..., GOctConv] = partial(GOctConv, bias=False, padding_mode=padding_mode, **resampling)
        spatial: Callable[[], ScaleLayer] = partial(exchange, out_channels, out_channels, 3)
        if simplified:
            options: dict[str, Any] = {"padding_mode": padding_mode, "weight_scale": weight_scale}
            spatial = partial(SimplifiedGOctConv, out_channels, 3, bias=False, **options)
        self._add_step(1, exchange(in_channels, out_channels, kernel_size, stride), norm, activation)
        self._add_step(2, spatial(), norm, activation)
        self._add_step(3, spatial(), norm, activation)
        self.to(device=device, dtype=dtype)


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
    fuse: CrossStageGOctConv
    dilated: ParallelDilatedConv
    merge: CrossStageGOctConv

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

        resampling: dict[str, Any] = {"downsample": downsample, "upsample": upsample}
        exchange: Callable[..., CrossStageGOctConv] = partial(
            CrossStageGOctConv, bias=False, in_reductions=in_reductions, **resampling
        )
        fuse = exchange(in_channels, fuse_channels, out_reductions=in_reductions)
        if out_reduction is not None and out_reduction not in fuse.in_reductions:
            raise ScaleError("out_reduction", out_reduction, f"one of the stages' reductions {fuse.in_reductions}")
        self._add_step(1, fuse, norm, activation)
        options: dict[str, Any] = {"padding_mode": padding_mode, "weight_scale": weight_scale}
        dilated = ParallelDilatedConv(fuse_channels, branch_channels, dilations=dilations, **options)
        self._add_step(2, dilated, norm, activation)
        fused = sum(dilated.out_widths) if out_channels is None else out_channels
        reductions = None if out_reduction is None else (out_reduction,)
        self._add_step(3, exchange(dilated.out_widths, fused, out_reductions=reductions), norm, activation)
        self.to(device=device, dtype=dtype)

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return sum(self.out_widths)
