"""Rules for what reads maps at computed places: grids, regions, windows, and the inverse of max-pooling."""

from __future__ import annotations

from torch import Tensor

from ...graph import Operation
from ._context import Propagation, rule
from ._shadows import NONE, NotUnderstood, Shadow, aligned, by_dimension, uniform
from ._values import only_where


def _sampled(t: Propagation, op: Operation, *, has_border: bool) -> Shadow:
    """Return channels read at other places; where zeros lie outside, only zeros are constants."""
    source, shadow = op.args[0], t.input(op)
    labels = t.channels(shadow, 1)
    for key, other in t.known.items():
        if other is not None and key != id(source):
            t.freeze(other.labels, t.reason("mixed", op))
    if has_border:
        t.taints.add(source, shadow, op.result)
        shadow = only_where(source, shadow, 0)
    return by_dimension(op.result.shape, 1, labels, shadow.flags_along(1))


@rule("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def grid_sample(t: Propagation, op: Operation) -> Shadow:
    """Interpolation at the places of a grid."""
    return _sampled(t, op, has_border=op.arguments["padding_mode"] == 0)


@rule("affine_grid_generator", of_any_input=True)
def affine_grid(t: Propagation, op: Operation) -> Shadow:
    """The grid of an affine map, of which no number may be missing."""
    for shadow in t.known.values():
        if shadow is not None:
            t.freeze(shadow.labels, t.reason("mixed", op))
    for index, source in enumerate(t.sources.of(op.arguments["size"])):
        if source is not None and source.channels is not None and index != 1:  # the number of channels has no effect
            t.freeze(source.channels, t.reason("counted", op))
    return uniform(op.result.shape, NONE)


@rule("roi_align", "roi_pool")
def regions(t: Propagation, op: Operation) -> list[Shadow]:
    """Means or maxima of regions, of which parts may lie outside."""
    made = _sampled(t, op, has_border=True)
    return [made] if isinstance(op.result, Tensor) else [made, *(uniform(r.shape, NONE) for r in op.results[1:])]


@rule("max_unpool2d", "max_unpool3d")
def unpooling(t: Propagation, op: Operation) -> Shadow:
    """Maxima put back to their places, and zeros around them."""
    source, shadow = op.args[0], only_where(op.args[0], t.input(op), 0)
    labels = shadow.channels_along(1)
    places = t.known.get(id(op.args[1]))
    if places is None:
        raise NotUnderstood
    t.facts.unite(*aligned(shadow.labels, places.labels), t.reason("joined", op))
    return by_dimension(op.result.shape, 1, labels, shadow.flags_along(1)) if source.dim() else shadow


@rule("im2col")
def windows(t: Propagation, op: Operation) -> Shadow:
    """The pixels of windows, as so many channels for each one."""
    source, shadow = op.args[0], t.input(op)
    if source.dim() != 4:
        raise NotUnderstood
    labels = t.channels(shadow, 1)
    if any(op.arguments["padding"]):
        shadow = only_where(source, shadow, 0)
    pixels = op.result.shape[1] // len(labels)
    flags = shadow.flags_along(1).repeat_interleave(pixels)
    return by_dimension(op.result.shape, 1, labels.repeat_interleave(pixels), flags)


@rule("col2im")
def overlaps(t: Propagation, op: Operation) -> Shadow:
    """Windows added up: the pixels of a channel go together."""
    source, shadow = op.args[0], t.input(op)
    if source.dim() != 3:
        raise NotUnderstood
    groups = t.channels(shadow, 1).view(op.result.shape[1], -1)
    t.facts.unite(*aligned(groups, groups[:, :1].expand_as(groups)))
    zero = only_where(source, shadow, 0).flags_along(1).view(len(groups), -1).all(1)
    return by_dimension(op.result.shape, 1, groups[:, 0].contiguous(), zero)
