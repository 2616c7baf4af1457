"""What flows between multi-scale layers: tuples of tensors, and the checks that keep their scales consistent."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import SupportsIndex, TypeAlias

import torch
from torch import Tensor

Features: TypeAlias = tuple[Tensor, ...]
"""Features of several scales: one (B, C, H, W) tensor each, finest first; an absent scale is a (B, 0, h, w) one."""

Channels: TypeAlias = int | Sequence[int]
"""Channels of plain tensors (an integer), or of every scale of a tuple of tensors (a sequence; 0: absent)."""

Size: TypeAlias = tuple[int, int]
"""Height and width in pixels."""


class ScaleError(ValueError):
    """The number of scales, or the spatial sizes of the scales, do not fit together."""


class ChannelError(ValueError):
    """A number of channels is impossible, or is not what the layer was made for."""


def parse_channels(channels: Channels, name: str) -> tuple[int, ...]:
    """Return the widths of all scales as a tuple, having checked them.

    Args:
        channels: One width, or one per scale; zero means that the scale is absent.
        name: The argument's name, for the error.

    Raises:
        TypeError: A width is not an integer.
        ChannelError: A width is negative, all are zero, or there is no scale.
    """
    if not isinstance(channels, (Sequence, SupportsIndex)):
        raise TypeError(f"{name}={channels!r} must be an integer, or a tuple or list of integers, one per scale")
    given = tuple(channels) if isinstance(channels, Sequence) else (channels,)
    widths = tuple(width_of(width, f"{name}={channels!r}") for width in given)
    if any(width < 0 for width in widths):
        raise ChannelError(f"{name}={channels!r}: a scale cannot have a negative width; use 0 for an absent one")
    if not any(widths):
        raise ChannelError(f"{name}={channels!r}: at least one scale must have channels")
    return widths


def as_given(channels: Channels, widths: tuple[int, ...]) -> int | tuple[int, ...]:
    """Return parsed widths in the form the user chose: an integer means plain tensors, a sequence means tuples."""
    return widths if isinstance(channels, Sequence) else widths[0]


def parse_reductions(reductions: Sequence[int] | None, scales: int, name: str) -> tuple[int, ...]:
    """Return the stride of every scale with respect to the finest resolution: 1, 2, 4, ... if none are given.

    Raises:
        TypeError: They are no sequence of integers.
        ScaleError: Their number is not that of the scales, or they are not strictly increasing from 1 or more.
    """
    if reductions is None:
        return tuple(2**scale for scale in range(scales))
    if not isinstance(reductions, Sequence):
        raise TypeError(f"{name}={reductions!r} must be a sequence of strides, one per scale")
    parsed = tuple(width_of(reduction, f"{name}={reductions!r}") for reduction in reductions)
    if len(parsed) != scales:
        raise ScaleError(f"{name}={reductions!r} names {len(parsed)} scales, but the channels name {scales}")
    if parsed[0] < 1 or any(a >= b for a, b in itertools.pairwise(parsed)):
        raise ScaleError(f"{name}={reductions!r} must increase strictly, finest scale first, from 1 or more")
    return parsed


def width_of(value: object, context: str) -> int:
    """Return an integer, having refused bools and floats.

    Raises:
        TypeError: It is no integer.
    """
    if isinstance(value, bool):
        raise TypeError(f"{context}: expected an integer, got the bool {value!r}")
    try:
        return operator.index(value)  # type: ignore[arg-type]  # anything may come in; index() is the check
    except TypeError:
        hint = "; round a ratio to channels first" if isinstance(value, float) else ""
        raise TypeError(f"{context}: expected an integer, got {value!r} ({type(value).__name__}){hint}") from None


def as_features(features: Tensor | Sequence[Tensor], widths: tuple[int, ...], *, plain: bool) -> Features:
    """Return the input of a layer as a tuple of tensors, having checked kind, number of scales and channels.

    Args:
        features: A tensor if ``plain``, else one tensor per scale.
        widths: The channels that the layer expects at each scale.
        plain: Whether the layer was made with a plain integer of channels.

    Raises:
        TypeError: A tensor where a tuple is expected, or the reverse.
        ScaleError: The wrong number of scales.
        ChannelError: The wrong number of channels at a scale.
    """
    if plain:
        if not isinstance(features, Tensor):
            raise TypeError(
                f"expected a plain tensor of {widths[0]} channels, got {_kind(features)}: "
                f"this layer was made with channels={widths[0]}; make it with channels=({widths[0]},) to take "
                "a tuple, or choose one scale with SelectScale"
            )
        features = (features,)
    elif isinstance(features, Tensor):
        raise TypeError(
            f"expected a tuple of {len(widths)} tensors, one per scale, got a tensor of shape "
            f"{tuple(features.shape)}: wrap it in a tuple, or make the layer with an integer of channels"
        )
    elif not isinstance(features, (tuple, list)) or not all(isinstance(x, Tensor) for x in features):
        raise TypeError(f"expected a tuple of {len(widths)} tensors, one per scale, got {_kind(features)}")
    if len(features) != len(widths):
        raise ScaleError(
            f"expected {len(widths)} scales with {widths} channels, got {len(features)}"
            f" with {tuple(x.shape[1] if x.dim() > 1 else None for x in features)}"
        )
    if checks_enabled():
        _check_shapes(features, widths)
    return tuple(features)


def _check_shapes(features: Sequence[Tensor], widths: tuple[int, ...]) -> None:
    for scale, (x, width) in enumerate(zip(features, widths, strict=True)):
        if x.dim() != 4:
            raise ScaleError(
                f"scale {scale} has shape {tuple(x.shape)}, expected 4 dimensions (batch, channels, height, width)"
            )
        if x.shape[1] != width:
            raise ChannelError(
                f"scale {scale} has {x.shape[1]} channels, expected {width}: this layer was made for {widths}"
            )
        if x.shape[0] != features[0].shape[0]:
            raise ScaleError(
                f"scale {scale} has a batch of {x.shape[0]}, scale 0 one of {features[0].shape[0]}: "
                "pass features of the same images"
            )


def _kind(features: object) -> str:
    if isinstance(features, (tuple, list)):
        return f"a {type(features).__name__} of {[type(x).__name__ for x in features]}"
    return f"a {type(features).__name__}"


def spatial_size(x: Tensor) -> Size:
    """Return height and width of a (B, C, H, W) tensor."""
    return x.shape[-2], x.shape[-1]


def reduced_size(size: Size, reduction: int, target: int) -> Size:
    """Return the size that a feature of this size at stride ``reduction`` has at stride ``target``, rounded down."""
    return size[0] * reduction // target, size[1] * reduction // target


def check_pooled_sizes(features: Features, reductions: tuple[int, ...]) -> None:
    """Check that every scale has the size that pooling would give it.

    Raises:
        ScaleError: Scale i is not floor(finest / 2**i).
    """
    finest = spatial_size(features[0])
    for scale, (x, reduction) in enumerate(zip(features, reductions, strict=True)):
        expected = reduced_size(finest, reductions[0], reduction)
        if spatial_size(x) != expected:
            step = reduction // reductions[0]
            raise ScaleError(
                f"scale {scale} has spatial size {spatial_size(x)}, expected {expected} = scale 0 {finest} // {step}: "
                f"pass features of one image, pad it to a multiple of {reductions[-1] // reductions[0]}, "
                "or resample with downsample='bilinear', which takes sizes as they come"
            )


def check_at_least_a_pixel(kind: str, sizes: Sequence[Size], features: Features) -> None:
    """Check that no scale vanishes.

    Args:
        kind: "input" or "output", for the error.
        sizes: Of the scales.
        features: What the user passed, for the error.

    Raises:
        ScaleError: A scale has no pixel.
    """
    for scale, size in enumerate(sizes):
        if size[0] < 1 or size[1] < 1:
            raise ScaleError(
                f"{kind} scale {scale} has spatial size {size} for an input of {spatial_size(features[0])}: "
                "the coarsest scale needs at least one pixel, so pass a larger image or use fewer scales"
            )


def absent(like: Tensor, size: Size) -> Tensor:
    """Return a scale without channels: a (B, 0, h, w) tensor of the same dtype and device."""
    return like.new_empty((like.shape[0], 0, *size))


def checks_enabled() -> bool:
    """Whether sizes are Python integers now: under tracing they are symbols, and a comparison would be recorded."""
    return not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]  # public, but not typed
