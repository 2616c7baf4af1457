"""Rules for what computes over neighbourhoods and dimensions: pooling, interpolation, borders, sums and means."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._torch import broadcast_tensors
from ...graph import Operation
from ._context import Propagation, rule
from ._pointwise import elementwise
from ._shadows import (
    FROZEN,
    NONE,
    NotUnderstood,
    Shadow,
    aligned,
    by_dimension,
    changes,
    compressed,
    rows_along,
    tidy,
    uniform,
)
from ._values import agreeing, only_where


def _spatial(shadow: Shadow, result: Tensor, dimensions: list[int]) -> Shadow:
    """Return the shadow of a result with other sizes along some dimensions."""
    if shadow.dimension not in dimensions and (resized := shadow.resized(result.shape)) is not None:
        return resized
    labels, constant = shadow.labels, tidy(shadow.constant)
    if set(changes(labels)) & set(dimensions) or set(changes(constant)) & set(dimensions):
        raise NotUnderstood
    for d in dimensions:
        labels, constant = labels.narrow(d, 0, 1), constant.narrow(d, 0, 1)
    return Shadow(labels.expand(result.shape), constant.expand(result.shape))


@rule(
    *("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d"),
    *("_adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    *("max_pool3d_with_indices", "max_pool1d_with_indices", "fractional_max_pool2d", "fractional_max_pool3d"),
)
def pooling(t: Propagation, op: Operation) -> list[Shadow]:
    """Maximum and average pooling: an average that counts a border of zeros leaves only zeros constant.

    Positions of the largest values belong to their channels.
    """
    output = op.result[0] if isinstance(op.result, tuple | list) else op.result
    source, shadow = op.args[0], t.input(op)
    last = int(op.name.partition("pool")[2][0])
    padding = op.arguments.get("padding", 0)
    is_padded = any(padding) if isinstance(padding, list | tuple) else bool(padding)
    counted = op.name.startswith("avg") and op.arguments.get("count_include_pad", True) and is_padded
    if counted or op.arguments.get("divisor_override"):
        t.taints.add(source, shadow, output)
        shadow = only_where(source, shadow, 0)
    made = _spatial(shadow, output, list(range(output.dim() - last, output.dim())))
    return [made, *(made.without_constants() for _ in op.results[1:])]


@rule(
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d"),
    *("upsample_trilinear3d", "upsample_bicubic2d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d"),
    *("_upsample_nearest_exact3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
)
def upsampling(t: Propagation, op: Operation) -> Shadow:
    """Interpolation of pixels, with weights that add up to 1."""
    return _spatial(t.input(op), op.result, list(range(2, op.result.dim())))


@rule(
    *("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
    *("replication_pad1d", "replication_pad2d", "replication_pad3d"),
)
def padding(t: Propagation, op: Operation) -> Shadow:
    """A border: of a value, it leaves only constants of that value constant.

    One of no width at all has a width that the code computes, and another one at other sizes.
    """
    source, shadow = op.args[0], t.input(op)
    sizes = op.arguments.get("pad", op.arguments.get("padding"))
    if sizes is None:
        raise NotUnderstood
    if _is_around_channels(shadow, sizes):
        return _padded_along_channels(t, op, shadow)
    sides = [(source.dim() - 1 - i // 2, any(sizes[i : i + 2])) for i in range(0, len(sizes), 2)]
    padded = [d for d, has_border in sides if has_border]
    padded = padded or [d for d, _ in sides if d not in changes(shadow.labels)]
    mode = op.arguments.get("mode", "constant") if op.name == "pad" else op.name.partition("_")[0]
    if mode == "constant":  # of no width too: at another size it may have one
        value = op.arguments.get("value") or 0
        if value == 0 and all(size >= 0 for size in sizes):
            t.taints.add(source, shadow, op.result)
        shadow = only_where(source, shadow, value)
    return _spatial(shadow, op.result, padded)


_TOTALS = {"sum", "nansum", "linalg_vector_norm", "norm", "count_nonzero", "any", "frobenius_norm"}
"""Reductions that zeros add nothing to, whatever their number."""
_KEPT = {"mean", "amax", "amin", "max", "min", "median", "nanmedian", "mode", "aminmax", "any", "all", "nanmean"}
"""Reductions that give the constant itself, if all elements are the same one."""
_SPREADS = {"var", "std", "var_mean", "std_mean"}
_OTHERS = {"logsumexp", "prod", "argmax", "argmin", "softmin"}


def _is_around_channels(shadow: Shadow, sizes: list[int]) -> bool:
    """Whether a border lies around the channels."""
    last = shadow.labels.dim() - 1
    return any(last - i // 2 in changes(shadow.labels) and any(sizes[i : i + 2]) for i in range(0, len(sizes), 2))


def _padded_along_channels(t: Propagation, op: Operation, shadow: Shadow) -> Shadow:
    """Return the shadow of channels with constant ones, which stay, beside them."""
    sizes, value = op.arguments["pad"], op.arguments.get("value") or 0
    if op.arguments.get("mode", "constant") != "constant" or any(size < 0 for size in sizes):
        raise NotUnderstood
    for counted in t.sources.counted:
        t.freeze(counted, t.reason("counted", op))
    constant = only_where(op.args[0], shadow, value).constant
    labels = torch.constant_pad_nd(shadow.labels, sizes, FROZEN)
    return Shadow(tidy(labels), tidy(torch.constant_pad_nd(constant, sizes, True)))


@rule(*sorted(_TOTALS | _KEPT | _SPREADS | _OTHERS), of_any_input=True)
def reduction(t: Propagation, op: Operation) -> Shadow | list[Shadow]:
    """A sum, mean, maximum or the like over dimensions, or all of them.

    Over all channels, those that are 0 may leave a sum or a norm; a mean or a maximum needs all. Over some of their
    dimensions, channels that are put together live and die together.
    """
    if isinstance(op.arguments.get("other"), Tensor):
        return elementwise(t, op)
    source, shadow = op.args[0], t.shadow_of(op.args[0])
    is_number = source.dim() <= 1 or t.stored.name_of(source) is not None
    if is_number and t.is_constant(source):  # out of a parameter
        raise NotUnderstood
    given = op.arguments.get("dim")
    if isinstance(given, str) or (isinstance(given, list | tuple) and any(isinstance(d, str) for d in given)):
        raise NotUnderstood
    if given is None or given == []:
        given = list(range(source.dim()))
    given = given if isinstance(given, list | tuple) else [given]
    dimensions = [d % source.dim() for d in given] if source.dim() else []
    mixed = [d for d in changes(shadow.labels) if d in dimensions]
    if mixed and len(mixed) == len(changes(shadow.labels)):
        return [uniform(result.shape, NONE) for result in _totals(t, op, shadow)]
    first = _reduced(t, op, shadow, dimensions, mixed)
    places = [Shadow(first.labels, first.constant) for _ in op.results[1:]]
    has_places = op.name in {"max", "min", "median", "nanmedian", "mode"}  # beside the values
    return [first, *(place.without_constants() if has_places else place for place in places)]


def _totals(t: Propagation, op: Operation, shadow: Shadow) -> list[Tensor]:
    """Return the results of reducing all channels to one: those that matter for it must stay."""
    labels = shadow.labels
    order = op.arguments.get("ord", op.arguments.get("p", 2))
    is_mean = op.name == "mean" and len(changes(labels)) == 1 and not t.sources.counted
    if is_mean:
        t.means.add(op.result, rows_along(labels, changes(labels)[0])[0])
    is_total = is_mean or (op.name in _TOTALS and (order is None or (isinstance(order, int | float) and order > 0)))
    if is_total:
        zero = compressed(only_where(op.args[0], shadow, 0).constant)
        labels, zero = broadcast_tensors(compressed(labels), zero)
        labels = labels[~zero]
    t.freeze(labels, t.reason("mixed", op))
    for counted in t.sources.counted:
        t.freeze(counted, t.reason("counted", op))
    return op.results


def _reduced(t: Propagation, op: Operation, shadow: Shadow, dimensions: list[int], mixed: list[int]) -> Shadow:
    """Return the shadow of channels, some of which are put together."""
    source = op.args[0]
    if op.name in _KEPT and not mixed:
        pass
    elif op.name in _SPREADS and not mixed:
        shadow = agreeing(source, shadow)
    elif op.name in _TOTALS or op.name in {"mean", "nanmean", "prod"}:
        shadow = only_where(source, shadow, 0)
    else:
        shadow = shadow.without_constants()
    labels, constant, keep = shadow.labels, tidy(shadow.constant), bool(op.arguments.get("keepdim", False))
    for d in sorted(dimensions, reverse=True):
        first = labels.narrow(d, 0, 1)
        if d in mixed:
            t.facts.unite(*aligned(labels, first))
        labels = first if keep else first.squeeze(d)
        constant = constant.narrow(d, 0, 1) if constant.stride(d) == 0 else constant.all(d, keepdim=True)
        constant = constant if keep else constant.squeeze(d)
    return Shadow(labels, tidy(constant))


@rule("pixel_shuffle")
def pixel_shuffle(t: Propagation, op: Operation) -> Shadow:
    """Channels that become the pixels of one: they live and die together, and only zeros are a constant then."""
    shadow = t.input(op)
    groups = shadow.channels_along(1).view(op.result.shape[1], -1)
    t.facts.unite(*aligned(groups, groups[:, :1]))
    zero = only_where(op.args[0], shadow, 0).flags_along(1).view(len(groups), -1).all(1)
    return by_dimension(op.result.shape, 1, groups[:, 0].contiguous(), zero)


@rule("cosine_similarity", "pairwise_distance", "cdist", "_euclidean_dist", of_any_input=True)
def distance(t: Propagation, op: Operation) -> Shadow:
    """A similarity or distance of vectors: what is 0 in both leaves it as it is."""
    shadows = [t.shadow_of(tensor) for tensor in op.args[:2]]
    dimension = op.arguments.get("dim", -1)
    rank = max(shadow.labels.dim() for shadow in shadows)
    dimension %= rank
    positive = op.arguments.get("p", 2) > 0
    epsilon = op.arguments.get("eps", 0) if op.name == "pairwise_distance" else 0  # which is added to differences
    if any(shadow.labels.dim() != rank for shadow in shadows) or epsilon or not positive:
        raise NotUnderstood
    for tensor, shadow in zip(op.args[:2], shadows, strict=True):
        labels = t.channels(shadow, dimension) if changes(shadow.labels) else None
        zero = only_where(tensor, shadow, 0).flags_along(dimension)
        if labels is None or shadow.labels.shape[dimension] != shadows[0].labels.shape[dimension]:
            raise NotUnderstood
        t.facts.freeze(labels[~zero], t.reason("mixed", op))
    a, b = (t.channels(shadow, dimension) for shadow in shadows)
    t.facts.unite(a, b, t.reason("joined", op))
    return uniform(op.result.shape, NONE)
