"""The engine behind `GOctConv`, `CrossStageGOctConv` and `OctConv`: convolutions between features of several scales."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn

from .._features import (
    ChannelError,
    Channels,
    Features,
    ScaleError,
    Size,
    absent,
    as_features,
    as_given,
    check_at_least_a_pixel,
    check_pooled_sizes,
    checks_enabled,
    parse_channels,
    parse_reductions,
    reduced_size,
    spatial_size,
)
from ._convolution import (
    IntPair,
    Padding,
    PaddingMode,
    as_pair,
    check_padding_mode,
    check_stride,
    convolve,
    halve,
    resolve_padding,
    undrawn_conv2d,
)
from ._resample import avg_pool, is_eager_cpu, max_pool, resize

Downsample: TypeAlias = Literal["max", "avg", "bilinear"]
Upsample: TypeAlias = Literal["bilinear", "nearest"]


class MultiScaleConv2d(nn.Module):
    """Convolve every input scale into every output scale; see `goctconv.GOctConv` for the meaning of it all.

    Every scale has a *reduction*, its stride with respect to the image. A path from one reduction to a larger one
    resamples first and convolves at the coarse resolution; a path to a smaller one convolves first.
    """

    # What extra_repr need not show
    default_kernel_size: ClassVar[tuple[int, int] | None] = None
    default_resampling: ClassVar[tuple[str, str]] = ("max", "bilinear")

    def __init__(
        self,
        in_channels: Channels,
        out_channels: Channels,
        kernel_size: IntPair,
        *,
        stride: IntPair,
        padding: Padding,
        dilation: IntPair,
        groups: int,
        bias: bool,
        padding_mode: PaddingMode,
        in_reductions: Sequence[int] | None,
        out_reductions: Sequence[int] | None,
        downsample: Downsample,
        upsample: Upsample,
        device: torch.device | str | int | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.in_widths = parse_channels(in_channels, "in_channels")
        self.out_widths = parse_channels(out_channels, "out_channels")
        self.in_channels = as_given(in_channels, self.in_widths)
        self.out_channels = as_given(out_channels, self.out_widths)
        self.kernel_size = as_pair(kernel_size, "kernel_size")
        self.stride = check_stride(stride)
        self.dilation = as_pair(dilation, "dilation")
        self.groups = _check_groups(groups, self.in_widths, self.out_widths)
        check_padding_mode(padding_mode)
        self.padding_mode = padding_mode
        self.downsample = _choice(downsample, Downsample, "downsample")
        self.upsample = _choice(upsample, Upsample, "upsample")
        self.in_reductions = parse_reductions(in_reductions, len(self.in_widths), "in_reductions")
        self.out_reductions = parse_reductions(
            _continued(self.in_reductions, len(self.out_widths)) if out_reductions is None else out_reductions,
            len(self.out_widths),
            "out_reductions",
        )
        if self.downsample != "bilinear":
            _check_poolable(self.in_reductions, self.out_reductions)
        self.padding = resolve_padding(
            padding,
            self.kernel_size,
            self.dilation,
            single_scale=len(self.in_widths) == 1 and self.in_reductions == self.out_reductions,
        )
        self.paths = nn.ModuleDict()
        for target, source in itertools.product(range(len(self.out_widths)), range(len(self.in_widths))):
            if self.out_widths[target] and self.in_widths[source]:
                self.paths[_path_name(source, target)] = undrawn_conv2d(
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
        self.has_bias = bias
        self.reset_parameters()

    def bias_source(self, target: int) -> int:
        """Return the input scale whose path carries the bias of an output scale: the nearest not to be upsampled."""
        reduction = self.out_reductions[target]
        present = [source for source, width in enumerate(self.in_widths) if width]
        return min(
            present,
            key=lambda s: (self.in_reductions[s] > reduction, abs(self.in_reductions[s] - reduction)),
        )

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
        for source, target in itertools.product(range(len(self.in_widths)), range(len(self.out_widths))):
            if not (self.in_widths[source] and self.out_widths[target]):
                continue
            path = self._path(source, target)
            block = slice(rows[target], rows[target + 1])
            path.weight.copy_(whole[block, columns[source] : columns[source + 1]])
            if whole_bias is not None and path.bias is not None:
                path.bias.copy_(whole_bias[block])

    def resize_channels(self, in_widths: Sequence[int]) -> None:
        """Take other widths over, after channels have been cut out of the paths; paths without channels go.

        Args:
            in_widths: Channels of every input scale now; those of the outputs are read off the paths.
        """
        self.in_widths = tuple(in_widths)
        outputs = {int(name.rpartition("_")[2]): len(cast("Tensor", conv.weight)) for name, conv in self.paths.items()}
        self.out_widths = tuple(outputs.get(scale, 0) for scale in range(len(self.out_widths)))
        self.in_channels = as_given(self.in_channels, self.in_widths)
        self.out_channels = as_given(self.out_channels, self.out_widths)
        for name, conv in list(self.paths.items()):
            if not cast("Tensor", conv.weight).numel():
                del self.paths[name]

    def prepare(self, features: Tensor | Features) -> tuple[Features, list[Size]]:
        """Return the inputs as the paths take them, checked and halved if need be, and the sizes of the outputs."""
        given = as_features(features, self.in_widths, plain=isinstance(self.in_channels, int))
        inputs = given if self.stride == 1 else tuple(map(halve, given, self.in_widths))
        sizes = self._output_sizes(inputs)
        if checks_enabled():
            if self.downsample != "bilinear":
                check_pooled_sizes(given, self.in_reductions)
            check_at_least_a_pixel("input", [spatial_size(x) for x in inputs], given)
            check_at_least_a_pixel("output", sizes, given)
        return inputs, sizes

    def forward(self, features: Tensor | Features) -> Tensor | Features:
        """Return the output scales: a tensor or a tuple, as ``out_channels`` was given."""
        inputs, sizes = self.prepare(features)
        present = {j: self._output(inputs, j, sizes[j]) for j, width in enumerate(self.out_widths) if width}
        like = next(iter(present.values()))  # under autocast its type is not that of the inputs
        outputs = tuple(present[j] if j in present else absent(like, size) for j, size in enumerate(sizes))
        return outputs[0] if isinstance(self.out_channels, int) else outputs

    def _output_sizes(self, inputs: Features) -> list[Size]:
        finest = spatial_size(inputs[0])
        given = {reduction: spatial_size(x) for reduction, x in zip(self.in_reductions, inputs, strict=True)}
        return [
            given[reduction] if reduction in given else reduced_size(finest, self.in_reductions[0], reduction)
            for reduction in self.out_reductions
        ]

    def _output(self, inputs: Features, target: int, size: Size) -> Tensor:
        # One term after the other, and none held longer than its sum: of large maps they are most of the memory.
        total: Tensor | None = None
        for source in (s for s in range(len(self.in_widths)) if _path_name(s, target) in self.paths):
            if total is None:
                total = self._term(inputs[source], source, target, size)
            else:
                term = self._term(inputs[source], source, target, size)
                total = total.add_(term) if is_eager_cpu(total) else total + term
        return cast("Tensor", total)

    def _term(self, x: Tensor, source: int, target: int, size: Size) -> Tensor:
        conv = self._path(source, target)
        before, after = self.in_reductions[source], self.out_reductions[target]
        if before > after:
            return resize(convolve(conv, x), size, self.upsample)
        if before < after:
            x = resize(x, size, "bilinear") if self.downsample == "bilinear" else self._pool(x, after // before)
        return convolve(conv, x)

    def _path(self, source: int, target: int) -> nn.Conv2d:
        return cast("nn.Conv2d", self.paths[_path_name(source, target)])

    def _pool(self, x: Tensor, step: int) -> Tensor:
        return max_pool(x, step) if self.downsample == "max" else avg_pool(x, step)

    def extra_repr(self) -> str:
        """Return the arguments that differ from their defaults."""
        octaves = parse_reductions(None, len(self.in_widths), "in_reductions")
        parts = [f"{self.in_channels}, {self.out_channels}"]
        optional = (
            ("kernel_size", self.kernel_size, self.default_kernel_size),
            ("stride", self.stride, 1),
            ("padding", self.padding, resolve_padding("same", self.kernel_size, self.dilation, single_scale=True)),
            ("dilation", self.dilation, (1, 1)),
            ("groups", self.groups, 1),
            ("bias", self.has_bias, True),
            ("padding_mode", self.padding_mode, "zeros"),
            ("in_reductions", self.in_reductions, octaves),
            ("out_reductions", self.out_reductions, _continued(self.in_reductions, len(self.out_widths))),
            ("downsample", self.downsample, self.default_resampling[0]),
            ("upsample", self.upsample, self.default_resampling[1]),
        )
        return ", ".join(parts + [f"{name}={value!r}" for name, value, default in optional if value != default])


def _path_name(source: int, target: int) -> str:
    return f"{source}_to_{target}"


def _continued(reductions: tuple[int, ...], scales: int) -> tuple[int, ...]:
    """Return the first ``scales`` reductions, going on by doubling where there are more outputs than inputs."""
    extra = scales - len(reductions)
    return reductions[:scales] + tuple(reductions[-1] * 2 ** (step + 1) for step in range(extra))


def _check_poolable(in_reductions: tuple[int, ...], out_reductions: tuple[int, ...]) -> None:
    every = sorted({*in_reductions, *out_reductions})
    for fine, coarse in itertools.pairwise(every):
        if coarse % fine:
            raise ScaleError(
                f"reductions {in_reductions} -> {out_reductions}: {coarse} is no multiple of {fine}, so pooling cannot "
                "lead from one to the other; resample with downsample='bilinear'"
            )


def _check_groups(groups: int, in_widths: tuple[int, ...], out_widths: tuple[int, ...]) -> int:
    if not isinstance(groups, int) or isinstance(groups, bool) or groups < 1:
        raise ValueError(f"groups={groups!r} must be a positive integer")
    for name, widths in (("in_channels", in_widths), ("out_channels", out_widths)):
        for scale, width in enumerate(widths):
            if width % groups:
                raise ChannelError(
                    f"{name}: the {width} channels of scale {scale} are not divisible by groups={groups}"
                )
    return groups


def _choice(value: str, allowed: Any, name: str) -> str:
    if value not in get_args(allowed):
        raise ValueError(f"{name}={value!r} must be one of {get_args(allowed)}")
    return value
