from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn

from .._checks import ArgumentTypeError, check_choice
from .._features import ChannelError, Channels, absent, even_branches, parse_channels, spatial_size
from .._torch import children_of
from ._convolution import IntPair, Kernels, PaddingMode, as_pair, resolve_padding, scaled_conv2d
from ._layer import ScaleLayer


class ParallelDilatedConv(ScaleLayer):
    """Parallel convolutions of growing dilation on every scale, their outputs concatenated.

    Shapes:
        - Input: one tensor (B, C_i, H_i, W_i) per scale in a tuple; a plain tensor where ``in_channels`` is an
          integer. The sizes of the scales are not compared.
        - Output: the same sizes, with the sum of a scale's branches as channels (``out_channels`` holds them).

    Every branch is a real `torch.nn.Conv2d` in ``branches["scale"]["dilation index"]``; there is none of width 0.

    Args:
        in_channels: Channels of every input scale (zero: absent), or an integer for a plain tensor.
        branch_channels: Output channels of every branch: one sequence as long as ``dilations`` per scale, or a single
            one for a plain tensor. Not given: as many outputs as inputs, c // n for each of the first n - 1 branches
            and the rest for the last.
        kernel_size: Height and width of the kernels.
        dilations: Spacing of the taps, one per branch.
        padding_mode: As in `torch.nn.Conv2d`; the padding keeps the size.
        bias: Whether to learn a bias.
        weight_scale: Factor of the weights in the forward pass, 100 in CSNet: raw weights are initialised
            as those of `torch.nn.Conv2d`, so they act that much larger. The bias is not scaled.
        device: Where the parameters are.
        dtype: Their type.

    Raises:
        ChannelError: As `GOctConv`; branches that do not match the scales or dilations in number, or that start
            from an absent scale.
        ScaleError: At the call, the wrong number of scales.
        TypeError: A width that is no integer; at the call, a tensor where a tuple is expected or the reverse.

    Example:
        >>> import torch
        >>> from goctconv import ParallelDilatedConv
        >>> conv = ParallelDilatedConv((13, 26), ((1, 2, 2, 2, 4), (0, 6, 6, 7, 5)))
        >>> [tuple(y.shape) for y in conv((torch.rand(1, 13, 32, 32), torch.rand(1, 26, 16, 16)))]
        [(1, 11, 32, 32), (1, 24, 16, 16)]

    Source: Cheng et al., TPAMI 2021, section 4.3.
    """

    def __init__(
        self,
        in_channels: Channels,
        branch_channels: Sequence[int] | Sequence[Sequence[int]] | None = None,
        kernel_size: IntPair = 3,
        dilations: Sequence[int] = (1, 2, 4, 8, 16),
        *,
        padding_mode: PaddingMode = "zeros",
        bias: bool = False,
        weight_scale: float = 100.0,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._set_channels(in_channels, in_channels, ["in_channels"])
        if not isinstance(dilations, Sequence) or not dilations:
            raise ArgumentTypeError("dilations", dilations, "a sequence of at least one dilation")
        self.dilations = tuple(dilations)
        self.kernel_size = as_pair(kernel_size, "kernel_size")
        check_choice("padding_mode", padding_mode, get_args(PaddingMode))
        self.branch_channels = _parse_branches(
            branch_channels, self.in_widths, len(self.dilations), plain=self.takes_tensor
        )
        self.out_widths = tuple(sum(widths) for widths in self.branch_channels)
        self.branches = nn.ModuleDict()
        for scale, widths in enumerate(self.branch_channels):
            if not any(widths):
                continue
            convs = nn.ModuleDict()
            for index, (width, dilation) in enumerate(zip(widths, self.dilations, strict=True)):
                pair = as_pair(dilation, "dilations")
                if width:
                    convs[str(index)] = scaled_conv2d(
                        self.in_widths[scale],
                        width,
                        self.kernel_size,
                        padding=resolve_padding("same", self.kernel_size, pair, single_scale=True),
                        dilation=pair,
                        bias=bias,
                        padding_mode=padding_mode,
                        weight_scale=weight_scale,
                        device=device,
                        dtype=dtype,
                    )
            self.branches[str(scale)] = convs

    def resize_channels(self, in_widths: Sequence[int]) -> None:
        """Take other widths over, after channels have been cut out of the branches; empty ones go."""
        self.in_widths = tuple(in_widths)
        branches = []
        for scale in range(len(self.in_widths)):
            convs = cast("nn.ModuleDict", self.branches[str(scale)]) if str(scale) in self.branches else nn.ModuleDict()
            widths = {index: len(cast("Tensor", conv.weight)) for index, conv in convs.items()}
            widths = {index: width for index, width in widths.items() if width and self.in_widths[scale]}
            branches.append(tuple(widths.get(str(index), 0) for index in range(len(self.dilations))))
            for index in [index for index in convs if index not in widths]:
                del convs[index]
            if not widths and str(scale) in self.branches:
                del self.branches[str(scale)]
        self.branch_channels = tuple(branches)
        self.out_widths = tuple(sum(widths) for widths in branches)

    def compute_scale(self, scale: int, x: Tensor, kernels: Kernels) -> Tensor:
        """Return the branches of one scale, concatenated."""
        convs = children_of(self.branches).get(str(scale))
        return absent(x, spatial_size(x)) if convs is None else kernels.concatenate(cast("nn.ModuleDict", convs), x)

    def extra_repr(self) -> str:
        """Return the widths; the convolutions below show the rest."""
        return f"{self.in_channels}, {self.branch_channels}"


def _parse_branches(
    given: Sequence[int] | Sequence[Sequence[int]] | None, in_widths: tuple[int, ...], count: int, *, plain: bool
) -> tuple[tuple[int, ...], ...]:
    if given is None:
        return tuple(even_branches(width, count) for width in in_widths)
    per_scale: list[Any] = [given] if plain else list(given)
    if len(per_scale) != len(in_widths) or not all(isinstance(widths, Sequence) for widths in per_scale):
        each = "one width per dilation" if plain else f"{len(in_widths)} sequences, one per scale of {in_widths}"
        raise ChannelError("branch_channels", given, each)
    if any(len(widths) != count for widths in per_scale):
        raise ChannelError("branch_channels", given, f"{count} widths per scale, one per dilation")
    flat = parse_channels([width for widths in per_scale for width in widths], "branch_channels")
    parsed = tuple(flat[start : start + count] for start in range(0, len(flat), count))
    for scale, (width, widths) in enumerate(zip(in_widths, parsed, strict=True)):
        if any(widths) and not width:
            raise ChannelError("branch_channels", given, f"0 at scale {scale}, which has no input channels")
    return parsed
