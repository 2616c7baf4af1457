"""Rules for what reads or writes elements by their positions: indexing, gathering and scattering."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...graph import Operation
from ._context import Propagation, rule
from ._shadows import (
    FIRST,
    FROZEN,
    NotUnderstood,
    Shadow,
    aligned,
    changes,
    compressed,
    rows_along,
    tidy,
    uniform,
)
from ._values import agreeing, only_where


def _positions(indices: list[Tensor | None]) -> list[tuple[Tensor, list[int]]]:
    """Return the indices that are tensors, and the dimensions that each covers; a mask may cover several."""
    found: list[tuple[Tensor, list[int]]] = []
    first = 0
    for index in indices:
        is_mask = index is not None and index.dtype in {torch.bool, torch.uint8}
        covered = list(range(first, first + (index.dim() if index is not None and is_mask else 1)))
        if index is not None:
            found.append((index, covered))
        first += len(covered)
    return found


def _fix(t: Propagation, op: Operation, shadow: Shadow, indices: list[Tensor | None]) -> bool:
    """Freeze channels that are chosen by their positions, up to the last one; return whether there were any."""
    changing = changes(shadow.labels)
    chosen = [(index, covered) for index, covered in _positions(indices) if set(covered) & set(changing)]
    for index, covered in chosen:
        if len(covered) > 1 or index.dim() != 1:
            raise NotUnderstood
        places = index.nonzero()[:, 0] if index.dtype in {torch.bool, torch.uint8} else index
        size = shadow.labels.shape[covered[0]]
        last = int(places.max()) if len(places) and not bool((places < 0).any()) else size - 1
        if index.dtype in {torch.bool, torch.uint8} or not t.is_constant(index):  # a mask is as long as what it is for
            last = size - 1
        t.freeze(rows_along(shadow.labels, covered[0])[:, : last + 1], t.reason("size", op, " by fixed positions"))
    for index, _ in _positions(indices):
        t.freeze(t.shadow_of(index).labels, t.reason("mixed", op))
    return bool(chosen)


def _rewritten(t: Propagation, shadow: Shadow, indices: list[Tensor | None]) -> bool:
    """Note a buffer of positions of channels, or a mask of them, which can be cut and renumbered with the channels."""
    found = _positions(indices)
    if len(found) != 1 or found[0][1] != changes(shadow.labels):
        return False
    index = found[0][0]
    name = t.stored.name_of(index)
    is_mask = index.dtype in {torch.bool, torch.uint8}
    if name is None or index.dim() != 1 or (not is_mask and bool((index < 0).any())):
        return False
    labels = shadow.channels_along(found[0][1][0])
    if is_mask:
        t.bind(name, 0, labels)
        return True
    t.bind(name, 0, labels[index.cpu().long()])
    if name in t.facts.positions:
        t.facts.unite(t.facts.positions[name], labels)
    t.facts.positions[name] = labels
    return True


def _indexed(tensor: Tensor, indices: list[Tensor | None]) -> Tensor:
    """Return what advanced indexing gives of a part of a shadow."""
    on_cpu = [index if index is None else index.cpu() for index in indices]
    found: Tensor = torch.ops.aten.index.Tensor(tensor, on_cpu)
    return tidy(found)


@rule("index", "index_select", of_any_input=True)
def indexing(t: Propagation, op: Operation) -> Shadow:
    """Elements at positions, which are the same ones whatever the channels are."""
    source = op.args[0]
    if op.name == "index":
        indices: list[Tensor | None] = list(op.args[1])
    else:
        indices = [None] * (op.arguments["dim"] % source.dim()) + [op.arguments["index"]]
    shadow = t.shadow_of(source)
    if source.dim() > 1 and t.stored.name_of(source) is not None:  # a table
        for tensor in op.tensors:
            t.freeze(t.shadow_of(tensor).labels, t.reason("mixed", op))
        constant = all(t.is_constant(tensor) for tensor in op.tensors)
        return uniform(op.result.shape, FROZEN, constant=constant)
    by_place = agreeing(source, shadow)
    if not _rewritten(t, shadow, indices) and not _fix(t, op, shadow, indices):
        shadow = by_place
    return Shadow(_indexed(shadow.labels, indices), _indexed(shadow.constant, indices))


@rule("gather", "take_along_dim", of_any_input=True)
def gathering(t: Propagation, op: Operation) -> Shadow:
    """Elements along a dimension, at positions that a tensor gives for every one."""
    source = op.args[0]
    index: Tensor = op.arguments["index" if "index" in op.arguments else "indices"]
    dimension = op.arguments.get("dim")
    shadow, places = t.shadow_of(source), t.shadow_of(index)
    if dimension is None or not source.dim():
        raise NotUnderstood
    dimension %= source.dim()
    if dimension in changes(shadow.labels) or dimension in changes(places.labels):
        raise NotUnderstood
    return _spread(t, op, agreeing(source, shadow), places, dimension)


def _spread(t: Propagation, op: Operation, shadow: Shadow, places: Shadow, dimension: int) -> Shadow:
    """Return a shadow with another size along a dimension, united with that of an index of the result's shape."""
    shape = op.result.shape
    if any(shape[d] != shadow.labels.shape[d] for d in changes(shadow.labels)):
        raise NotUnderstood
    constant = tidy(shadow.constant)
    flags = constant.narrow(dimension, 0, 1) if constant.stride(dimension) == 0 else constant.all(dimension, True)
    keep = [d for d in range(len(shape)) if d in changes(shadow.labels)]
    for d in range(len(shape)):
        if d not in keep and flags.shape[d] != shape[d]:
            flags = flags.narrow(d, 0, 1) if flags.stride(d) == 0 else flags.all(d, True)
    labels = shadow.labels
    for d in range(len(shape)):
        if d not in keep:
            labels = labels.narrow(d, 0, 1)
    labels = labels.expand(shape)
    if places.labels.shape == shape:
        t.facts.unite(*aligned(labels, places.labels), t.reason("joined", op))
    else:
        t.freeze(places.labels, t.reason("mixed", op))
    return Shadow(labels, tidy(flags).expand(shape))


@rule("copy", of_any_input=True)
def copying(t: Propagation, op: Operation) -> Shadow:
    """A tensor, or a part of it, that is overwritten."""
    target, source = t.shadow_of(op.args[0]), t.shadow_of(op.args[1])
    shape = op.result.shape
    return Shadow(_written(t, op, target.labels, source.labels.expand(shape)), source.constant.expand(shape))


def _written(t: Propagation, op: Operation, target: Tensor, labels: Tensor) -> Tensor:
    """Unite what is written with what it is written to; freeze it where that belongs to no channel."""
    known, new = aligned(target, labels)
    t.facts.freeze(new[known < FIRST], t.reason("joined", op))
    t.facts.unite(known, new, t.reason("joined", op))
    return target


@rule("index_put", "_index_put_impl", of_any_input=True)
def index_writing(t: Propagation, op: Operation) -> Shadow:
    """Elements at positions that are overwritten, or added to."""
    target, indices, values = op.args[0], list(op.args[1]), op.args[2]
    shadow = t.shadow_of(target)
    mask = indices[0]
    if mask is not None and mask.dtype == torch.bool and mask.shape == target.shape and values.numel() == 1:
        choice = t.shadow_of(mask)
        t.facts.unite(*aligned(shadow.labels, choice.labels), t.reason("joined", op))
        t.freeze(t.shadow_of(values).labels, t.reason("mixed", op))
        if not op.arguments.get("accumulate") and t.is_constant(values):  # as `masked_fill`
            flags = tidy(compressed(shadow.constant) & compressed(choice.constant)).expand(target.shape)
            return Shadow(shadow.labels, flags | _both_zero(t, shadow, target, values).constant)
        return _both_zero(t, only_where(target, shadow, 0), target, values)
    _fix(t, op, shadow, indices)
    places = _indexed(shadow.labels, indices)
    if values.numel() > 1:
        _written(t, op, places, t.shadow_of(values).labels.expand(places.shape))
    elif t.known.get(id(values)) is not None:
        t.freeze(t.shadow_of(values).labels, t.reason("mixed", op))
    return _both_zero(t, shadow, target, values)


def _both_zero(t: Propagation, shadow: Shadow, target: Tensor, values: Any) -> Shadow:
    """Return a shadow in which channels are constants that are 0 before, if what is written is 0 everywhere."""
    is_zero = not isinstance(values, Tensor) and values == 0
    if isinstance(values, Tensor) and values.numel():
        is_zero = bool(only_where(values, t.shadow_of(values), 0).constant.all())
    return only_where(target, shadow, 0) if is_zero else shadow.without_constants()


@rule("index_fill", of_any_input=True)
def filling(t: Propagation, op: Operation) -> Shadow:
    """Elements along a dimension that are overwritten by a number."""
    shadow = t.input(op)
    dimension = op.arguments["dim"] % shadow.labels.dim()
    _fix(t, op, shadow, [None] * dimension + [op.arguments["index"]])
    return _both_zero(t, shadow, op.args[0], op.arguments["value"])


@rule("scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy", "index_reduce", of_any_input=True)
def scattering(t: Propagation, op: Operation) -> Shadow:
    """Elements along a dimension that are overwritten or added to, at positions that a tensor gives."""
    target = op.args[0]
    dimension = op.arguments["dim"] % max(target.dim(), 1)
    index, source = op.arguments["index"], op.arguments.get("src", op.arguments.get("source"))
    shadow = t.shadow_of(target)
    written = [index, source] if isinstance(source, Tensor) else [index]
    written = [tensor for tensor in written if tensor.dim() == target.dim()]
    if dimension in changes(shadow.labels):
        raise NotUnderstood
    for tensor in written:
        labels = t.shadow_of(tensor).labels
        if dimension in changes(labels) or any(
            tensor.shape[d] != target.shape[d] for d in (*changes(labels), *changes(shadow.labels))
        ):
            raise NotUnderstood
        known, new = aligned(_matching(shadow.labels, labels), labels)
        if tensor is source:
            t.facts.freeze(new[known < FIRST], t.reason("joined", op))
        t.facts.unite(known, new, t.reason("joined", op))
    if not isinstance(source, Tensor) or source.dim() != target.dim():
        return _both_zero(t, shadow, target, op.arguments.get("value", 1) if source is None else source)
    zero = tidy(only_where(source, t.shadow_of(source), 0).constant)
    for d in range(target.dim()):
        if d == dimension or zero.shape[d] != target.shape[d]:
            zero = zero.narrow(d, 0, 1) if zero.stride(d) == 0 else zero.all(d, keepdim=True)
    return Shadow(shadow.labels, tidy(only_where(target, shadow, 0).constant & zero))


def _matching(labels: Tensor, others: Tensor) -> Tensor:
    """Return labels in the shape of others, where they do not change in dimensions that differ."""
    for d in range(labels.dim()):
        if labels.shape[d] != others.shape[d]:
            labels = labels.narrow(d, 0, 1)
    return labels.expand(others.shape)
