from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn

from .._checks import check_choice, check_integer
from .._features import (
    ChannelError,
    Channels,
    Features,
    ScaleError,
    Size,
    absent,
    check_at_least_a_pixel,
    check_pooled_sizes,
    checks_enabled,
    octaves,
    reduced_size,
    spatial_size,
)
from .._torch import children_of
from ._convolution import (
    PLAIN,
    IntPair,
    Kernels,
    Padding,
    PaddingMode,
    as_pair,
    check_stride,
    halve,
    resolve_padding,
    undrawn_conv2d,
)
from ._layer import Ends, ScaleLayer, finished
from ._resample import avg_pool, max_pool, resize

Downsample: TypeAlias = Literal["max", "avg", "bilinear"]
Upsample: TypeAlias = Literal["bilinear", "nearest"]


class GOctConv(ScaleLayer):
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

    # What extra_repr need not show
    default_kernel_size: ClassVar[tuple[int, int] | None] = None
    default_resampling: ClassVar[tuple[str, str]] = ("max", "bilinear")

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
        super().__init__()
        self._set_channels(in_channels, out_channels, ("in_channels", "out_channels"))
        self.kernel_size = as_pair(kernel_size, "kernel_size")
        self.stride = check_stride(stride)
        self.dilation = as_pair(dilation, "dilation")
        self.groups = _check_groups(groups, self.in_widths, self.out_widths)
        self.has_bias = bias
        self.padding_mode = check_choice("padding_mode", padding_mode, get_args(PaddingMode))
        self.downsample = check_choice("downsample", downsample, get_args(Downsample))
        self.upsample = check_choice("upsample", upsample, get_args(Upsample))
        self.in_reductions, self.out_reductions = self._reductions()
        if self.downsample != "bilinear":
            _check_poolable(self.in_reductions, self.out_reductions)
        single_scale = len(self.in_widths) == 1 and self.in_reductions == self.out_reductions
        self.padding = resolve_padding(padding, self.kernel_size, self.dilation, single_scale=single_scale)
        self.paths = nn.ModuleDict()
        for target, source in itertools.product(range(len(self.out_widths)), range(len(self.in_widths))):
            if self.out_widths[target] and self.in_widths[source]:
                self.paths[f"{source}_to_{target}"] = undrawn_conv2d(
                    self.in_widths[source],
                    self.out_widths[target],
                    self.kernel_size,
                    padding=self.padding,
                    dilation=self.dilation,
                    groups=groups,
                    bias=bias and source == self.bias_source(target),
                    padding_mode=padding_mode,
                    device=device,
                    dtype=dtype,
                )
        self.reset_parameters()

    def _reductions(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the strides of all inputs and of all outputs: 1, 2, 4, ..."""
        return octaves(len(self.in_widths)), octaves(len(self.out_widths))

    def bias_source(self, target: int) -> int:
        """Return the input scale whose path carries the bias of an output scale: the nearest not to be upsampled."""
        reduction = self.out_reductions[target]
        present = [source for source, width in enumerate(self.in_widths) if width]
        return min(present, key=lambda s: (self.in_reductions[s] > reduction, abs(self.in_reductions[s] - reduction)))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all paths as one weight over the whole fan-in, exactly as `torch.nn.Conv2d` draws its own."""
        parameter = next(iter(self.paths.parameters()))
        rows = [0, *itertools.accumulate(self.out_widths)]
        columns = [0, *itertools.accumulate(width // self.groups for width in self.in_widths)]
        whole = parameter.new_empty(rows[-1], columns[-1], *self.kernel_size)
        nn.init.kaiming_uniform_(whole, a=math.sqrt(5))
        bound = 1 / math.sqrt(whole[0].numel())
        whole_bias = parameter.new_empty(rows[-1]).uniform_(-bound, bound) if self.has_bias else None
        for name, path in self.paths.items():
            source, target = map(int, name.split("_to_"))
            block = slice(rows[target], rows[target + 1])
            conv = cast("nn.Conv2d", path)
            conv.weight.copy_(whole[block, columns[source] : columns[source + 1]])
            if whole_bias is not None and conv.bias is not None:
                conv.bias.copy_(whole_bias[block])

    def resize_channels(self, in_widths: Sequence[int]) -> None:
        """Take other widths over, after channels have been cut out of the paths; paths without channels go."""
        self.in_widths = tuple(in_widths)
        outputs = {int(name.rpartition("_")[2]): len(cast("Tensor", conv.weight)) for name, conv in self.paths.items()}
        self.out_widths = tuple(outputs.get(scale, 0) for scale in range(len(self.out_widths)))
        for name, conv in list(self.paths.items()):
            if not cast("Tensor", conv.weight).numel():
                del self.paths[name]

    def compute(self, features: list[Tensor], kernels: Kernels = PLAIN, ends: Ends | None = None) -> list[Tensor]:
        """Return the output scales; see `ScaleLayer.compute`."""
        inputs, sizes = self._prepare(features)
        features.clear()
        present = {
            target: finished(self._compute_target(inputs, target, sizes[target], kernels), target, ends)
            for target, width in enumerate(self.out_widths)
            if width
        }
        like = next(iter(present.values()))  # under autocast its type is not that of the inputs
        return [present[target] if target in present else absent(like, size) for target, size in enumerate(sizes)]

    def _prepare(self, given: list[Tensor]) -> tuple[Features, list[Size]]:
        """Return the inputs as the paths take them, checked and halved if need be, and the sizes of the outputs."""
        inputs = tuple(given if self.stride == 1 else map(halve, given, self.in_widths))
        known = dict(zip(self.in_reductions, map(spatial_size, inputs), strict=True))
        finest, first = spatial_size(inputs[0]), self.in_reductions[0]
        sizes = [known.get(reduction) or reduced_size(finest, first, reduction) for reduction in self.out_reductions]
        if checks_enabled(*given):
            if self.downsample != "bilinear":
                check_pooled_sizes(given, self.in_reductions)
            check_at_least_a_pixel("input", [spatial_size(x) for x in inputs], given)
            check_at_least_a_pixel("output", sizes, given)
        return inputs, sizes

    def _compute_target(self, inputs: Features, target: int, size: Size, kernels: Kernels) -> Tensor:
        # One term after the other, and none held longer than its sum: of large maps they are most of the memory.
        total: Tensor | None = None
        after = self.out_reductions[target]
        paths = children_of(self.paths)  # a module's own attributes and items take longer to look up
        for source, x in enumerate(inputs):
            conv, before = paths.get(f"{source}_to_{target}"), self.in_reductions[source]
            if conv is None:
                continue
            if before <= after:
                args = conv, x if before == after else self._shrink(x, size, after // before)
                total = kernels.convolve(*args) if total is None else kernels.add_convolved(total, *args)
                del args
            elif total is None:
                total = resize(kernels.convolve(conv, x), size, self.upsample)
            else:
                total = kernels.add(total, resize(kernels.convolve(conv, x), size, self.upsample))
        return cast("Tensor", total)

    def _shrink(self, x: Tensor, size: Size, step: int) -> Tensor:
        if self.downsample == "bilinear":
            return resize(x, size, "bilinear")
        return max_pool(x, step) if self.downsample == "max" else avg_pool(x, step)

    def extra_repr(self) -> str:
        """Return the arguments that differ from their defaults."""
        optional = (
            ("kernel_size", self.kernel_size, self.default_kernel_size),
            ("stride", self.stride, 1),
            ("padding", self.padding, resolve_padding("same", self.kernel_size, self.dilation, single_scale=True)),
            ("dilation", self.dilation, (1, 1)),
            ("groups", self.groups, 1),
            ("bias", self.has_bias, True),
            ("padding_mode", self.padding_mode, "zeros"),
            ("in_reductions", self.in_reductions, octaves(len(self.in_widths))),
            ("out_reductions", self.out_reductions, octaves(len(self.out_widths), self.in_reductions)),
            ("downsample", self.downsample, self.default_resampling[0]),
            ("upsample", self.upsample, self.default_resampling[1]),
        )
        shown = [f"{name}={value!r}" for name, value, default in optional if value != default]
        return ", ".join([f"{self.in_channels}, {self.out_channels}", *shown])


def _check_poolable(in_reductions: tuple[int, ...], out_reductions: tuple[int, ...]) -> None:
    for fine, coarse in itertools.pairwise(sorted({*in_reductions, *out_reductions})):
        if coarse % fine:
            problem = f"and {{out_reductions={out_reductions}}} cannot be connected by pooling"
            problem += f", for {coarse} is no multiple of {fine}"
            cure = "resample with {downsample='bilinear'}"
            raise ScaleError("in_reductions", in_reductions, problem=problem, cure=cure)


def _check_groups(groups: int, in_widths: tuple[int, ...], out_widths: tuple[int, ...]) -> int:
    check_integer("groups", groups, 1)
    for name, widths in (("in_channels", in_widths), ("out_channels", out_widths)):
        for scale, width in enumerate(widths):
            if width % groups:
                problem = f"has {width} channels at scale {scale}, not divisible by {{groups={groups}}}"
                raise ChannelError(name, widths, problem=problem)
    return groups
