"""Features of several scales: tuples of tensors, and the checks of their widths and sizes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, SupportsIndex, TypeAlias

from torch import Tensor

from ._checks import ArgumentError, ArgumentTypeError
from ._torch import is_placeholder, is_tracing

Features: TypeAlias = tuple[Tensor, ...]
"""Features of several scales: one (B, C, H, W) tensor each, finest first; an absent scale is a (B, 0, h, w) one."""

Channels: TypeAlias = int | Sequence[int]
"""Channels of plain tensors (an integer), or of every scale of a tuple of tensors (a sequence; 0: absent)."""

Size: TypeAlias = tuple[int, int]
"""Height and width in pixels."""


class ScaleError(ArgumentError):
    """The number of scales, or the spatial sizes of the scales, do not fit together."""


class ChannelError(ArgumentError):
    """A number of channels is impossible, or is not what the layer was made for."""


def parse_channels(channels: Channels, name: str) -> tuple[int, ...]:
    """Return the widths of all scales as a tuple, having checked them."""
    if not isinstance(channels, (Sequence, SupportsIndex)):
        raise ArgumentTypeError(name, channels, "an integer, or a tuple or list of integers, one per scale")
    given = tuple(channels) if isinstance(channels, Sequence) else (channels,)
    widths = tuple(_width(width, name, channels) for width in given)
    if any(width < 0 for width in widths):
        raise ChannelError(name, channels, problem="has a negative width", cure="use 0 for an absent scale")
    if not any(widths):
        raise ChannelError(name, channels, problem="has no channels", cure="at least one scale must have some")
    return widths


def _width(width: object, name: str, channels: object) -> int:
    if isinstance(width, bool) or not isinstance(width, SupportsIndex):
        cure = "round a ratio to channels first" if isinstance(width, float) else ""
        raise ArgumentTypeError(name, channels, "made of integers", cure, problem=f"holds {width!r}")
    return width.__index__()


def even_branches(width: int, branches: int) -> tuple[int, ...]:
    """Return the published division of a scale's channels: width // n for all but the last, which gets the rest."""
    return (width // branches,) * (branches - 1) + (width - (branches - 1) * (width // branches),)


def octaves(scales: int, start: tuple[int, ...] = (1,)) -> tuple[int, ...]:
    """Return the first ``scales`` of some strides, continued by doubling."""
    more = scales - len(start)
    return start[:scales] + tuple(start[-1] * 2 ** (step + 1) for step in range(more))


def parse_reductions(reductions: Sequence[int], scales: int, name: str) -> tuple[int, ...]:
    """Return the stride of every scale with respect to the finest resolution."""
    if not isinstance(reductions, Sequence):
        raise ArgumentTypeError(name, reductions, "a sequence of strides, one per scale")
    parsed = tuple(_width(reduction, name, reductions) for reduction in reductions)
    if len(parsed) != scales:
        raise ScaleError(name, reductions, f"{scales} strides, one for each scale of the channels")
    if parsed[0] < 1 or any(a >= b for a, b in itertools.pairwise(parsed)):
        raise ScaleError(name, reductions, "strictly increasing, finest scale first, from 1 or more")
    return parsed


def as_features(features: Tensor | Sequence[Tensor], widths: Sequence[int | None], *, plain: bool) -> Features:
    """Return the input of a layer as a tuple of tensors, having checked kind, number of scales and channels."""
    if is_placeholder(features):  # of torch.fx: it has neither a type nor a length
        proxy: Any = features
        return (proxy,) if plain else tuple(proxy[scale] for scale in range(len(widths)))
    expected = f"a tuple of {len(widths)} tensors, one per scale"
    if plain and isinstance(features, Tensor):
        features = (features,)
    elif plain:
        expected = f"a plain tensor of {widths[0]} channels, not a {type(features).__name__}"
        cure = f"make the layer with channels=({widths[0]},) to take a tuple, or choose one scale with SelectScale"
        raise ArgumentTypeError("features", _described(features), expected, cure)
    elif isinstance(features, Tensor):
        cure = "wrap it in a tuple, or make the layer with an integer of channels"
        raise ArgumentTypeError("features", features, expected, cure)
    elif not isinstance(features, (tuple, list)) or not all(map(_is_tensor, features)):
        raise ArgumentTypeError("features", _described(features), expected)
    if len(features) != len(widths):
        raise ScaleError("features", _described(features), f"{len(widths)} scales with {tuple(widths)} channels")
    if checks_enabled(*features):
        _check_shapes(features, widths)
    return tuple(features)


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor) or is_placeholder(value)


def _check_shapes(features: Sequence[Tensor], widths: Sequence[int | None]) -> None:
    for scale, (x, width) in enumerate(zip(features, widths, strict=True)):
        if x.dim() != 4:
            problem, expected = f"has {x.dim()} dimensions", "4 (batch, channels, height, width)"
            raise _scale_error(ScaleError, features, scale, problem, expected)
        if width is not None and x.shape[1] != width:
            cure = f"this layer was made for {tuple('any' if width is None else width for width in widths)}"
            raise _scale_error(ChannelError, features, scale, f"has {x.shape[1]} channels", str(width), cure)
        if x.shape[0] != features[0].shape[0]:
            expected, cure = f"{features[0].shape[0]} as at scale 0", "pass features of the same images"
            raise _scale_error(ScaleError, features, scale, f"has a batch of {x.shape[0]}", expected, cure)


def _scale_error(
    kind: type[ArgumentError], features: Sequence[Tensor], scale: int, problem: str, expected: str, cure: str = ""
) -> ArgumentError:
    return kind("features", _described(features), expected, cure, problem=f"at scale {scale} {problem}")


def _described(features: Any) -> Any:
    """Return the shapes of features, for an error: tensors themselves would take long to print."""
    if isinstance(features, (tuple, list)):
        return tuple(tuple(x.shape) if isinstance(x, Tensor) else x for x in features)
    return features


def spatial_size(x: Tensor) -> Size:
    """Return height and width of a (B, C, H, W) tensor."""
    return x.shape[-2], x.shape[-1]


def reduced_size(size: Size, reduction: int, target: int) -> Size:
    """Return the size that a feature of this size at stride ``reduction`` has at stride ``target``, rounded down."""
    return size[0] * reduction // target, size[1] * reduction // target


def check_pooled_sizes(features: Sequence[Tensor], reductions: tuple[int, ...]) -> None:
    """Check that every scale has the size that pooling would give it."""
    finest = spatial_size(features[0])
    for scale, (x, reduction) in enumerate(zip(features, reductions, strict=True)):
        size = reduced_size(finest, reductions[0], reduction)
        if spatial_size(x) != size:
            expected = f"{size} = scale 0 {finest} // {reduction // reductions[0]}"
            cure = (
                f"pass features of one image, pad it to a multiple of {reductions[-1] // reductions[0]}, or resample "
                "with {downsample='bilinear'}, which takes sizes as they come"
            )
            problem = f"has spatial size {spatial_size(x)}"
            raise _scale_error(ScaleError, features, scale, problem, expected, cure)


def check_at_least_a_pixel(kind: str, sizes: Sequence[Size], features: Sequence[Tensor]) -> None:
    """Check that no scale vanishes."""
    for scale, size in enumerate(sizes):
        if size[0] < 1 or size[1] < 1:
            problem = f"gives {kind} scale {scale} a spatial size of {size}"
            cure = "pass a larger image or use fewer scales"
            raise ScaleError("features", _described(features), "at least one pixel", cure, problem=problem)


def absent(like: Tensor, size: Size) -> Tensor:
    """Return a scale without channels: a (B, 0, h, w) tensor of the same dtype and device."""
    return like.new_empty((like.shape[0], 0, *size))


def checks_enabled(*values: object) -> bool:
    """Whether sizes of tensors can be compared now: under tracing that would be recorded, and of proxies fails."""
    return not (is_tracing() or any(map(is_placeholder, values)))
