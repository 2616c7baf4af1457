"""Rules for what computes over neighbourhoods and dimensions: pooling, interpolation, borders, sums and means."""

from __future__ import annotations

from torch import Tensor

from ...graph import Operation
from ._context import Propagation, rule
from ._shadows import NotUnderstood, Shadow, aligned, by_dimension, changes, tidy
from ._values import only_where


def _spatial(shadow: Shadow, result: Tensor, dimensions: list[int]) -> Shadow:
    """Return the shadow of a result with other sizes along some dimensions."""
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
)
def pooling(t: Propagation, op: Operation) -> Shadow:
    """Maximum and average pooling: an average that counts a border of zeros leaves only zeros constant."""
    output = op.result[0] if isinstance(op.result, tuple | list) else op.result
    source, shadow = op.args[0], t.input(op)
    last = int(op.name.partition("pool")[2][0])
    padding = op.arguments.get("padding", 0)
    is_padded = any(padding) if isinstance(padding, list | tuple) else bool(padding)
    counted = op.name.startswith("avg") and op.arguments.get("count_include_pad", True) and is_padded
    if counted or op.arguments.get("divisor_override"):
        t.taints.add(source, shadow, output)
        shadow = only_where(source, shadow, 0)
    return _spatial(shadow, output, list(range(output.dim() - last, output.dim())))


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
    sides = [(source.dim() - 1 - i // 2, any(sizes[i : i + 2])) for i in range(0, len(sizes), 2)]
    padded = [d for d, has_border in sides if has_border]
    padded = padded or [d for d, _ in sides if d not in changes(shadow.labels)]
    mode = op.arguments.get("mode", "constant") if op.name == "pad" else op.name.partition("_")[0]
    if mode == "constant" and padded:
        value = op.arguments.get("value") or 0
        if value == 0 and all(size >= 0 for size in sizes):
            t.taints.add(source, shadow, op.result)
        shadow = only_where(source, shadow, value)
    return _spatial(shadow, op.result, padded)


@rule("mean", "sum", "amax", "amin", "max", "norm", "linalg_vector_norm", "logsumexp", "var", "std")
def reduction(t: Propagation, op: Operation) -> Shadow:
    """A sum, mean or maximum over dimensions; channels that it puts together live and die together."""
    source, shadow, given = op.args[0], t.input(op), op.arguments.get("dim")
    if given is None or not isinstance(op.result, Tensor):
        raise NotUnderstood
    dimensions = [d % source.dim() for d in (given if isinstance(given, list | tuple) else [given])]
    mixed = [d for d in changes(shadow.labels) if d in dimensions]
    if mixed and (len(mixed) == len(changes(shadow.labels)) or op.name not in {"sum", "mean", "amax", "amin"}):
        raise NotUnderstood
    if op.name == "sum" or (op.name == "mean" and mixed):
        shadow = only_where(source, shadow, 0)
    elif mixed or op.name not in {"mean", "amax", "amin"}:
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
