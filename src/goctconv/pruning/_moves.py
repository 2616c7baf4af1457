"""Operations that only move elements are run on the shadows too; where they cut, sizes must follow the channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._facts import Blocks, Split
from ._lookups import Lookups, Operation, tensors_in
from ._provenance import Source
from ._shadows import Shadow, changes, compressed, reshaped, rows_along, tidy

_VIEWS = {"view", "_unsafe_view", "_reshape_alias", "reshape", "view_as", "reshape_as", "flatten", "unflatten"}
_CUTS = {"split", "split_with_sizes", "slice", "narrow", "chunk", "tensor_split", "select", "unbind"}
_ORDER = {"roll", "unfold", "diagonal"}
_SHUFFLES = {"channel_shuffle", "native_channel_shuffle"}
_SECOND = {"slice", "narrow", "select", "unbind"}
"""Cuts that take the dimension as second argument; the others as third."""


def moved(t: Lookups, op: Operation) -> bool:
    """An operation that only moves elements."""
    shadow = op.shadow
    if shadow is None:
        return False
    results = list(tensors_in(op.result))
    if op.name in _VIEWS:
        parts = [[reshaped(part, results[0].shape)] for part in shadow]
    else:
        parts = [list(tensors_in(op.func(part, *op.args[1:], **op.keywords))) for part in shadow]
    if any(len(one) != len(results) for one in parts):
        return False
    shadows = [Shadow(tidy(labels), tidy(constant)) for labels, constant in zip(*parts, strict=True)]
    if op.name in _VIEWS:
        _note_view(t, op, shadow, shadows[0].labels)
    elif op.name in _CUTS:
        _note_cut(t, op, shadow, shadows)
    elif op.name in _SHUFFLES:
        pieces = rows_along(shadow.labels, 1).chunk(op.args[1], dim=1)
        t.facts.blocks.append(Blocks(list(torch.cat(pieces)), f"{op.name} ({t.where})"))
    elif op.name in _ORDER and _touches(op, shadow):
        return False
    return all(t.put(one, its) for one, its in zip(results, shadows, strict=True))


def _touches(op: Operation, shadow: Shadow) -> bool:
    """Return whether one of the dimensions that an operation names is one in which channels change."""
    named = op.arguments.get("dims", op.arguments.get("dimension", op.arguments.get("dim1")))
    dimensions = named if isinstance(named, list | tuple) else [named]
    return not dimensions or any(d is None or d % shadow.labels.dim() in changes(shadow.labels) for d in dimensions)


def _note_view(t: Lookups, op: Operation, before: Shadow, labels: Tensor) -> None:
    """Note which dimension of a view is to get shorter, and that its size must follow."""
    changing = changes(labels)
    sizes, sources = _sizes(t, op, labels.dim())
    reason = f"{op.name} into {tuple(labels.shape)} ({t.where})"
    for d, source in enumerate(sources):
        if source is not None and source.channels is not None and d not in changing:
            t.facts.freeze(source.channels, f"{reason}: a size that must stay is computed from their number")
    follows = [d for d in reversed(changing) if sizes[d] == -1 or sources[d] is not None]
    if changing and not follows:
        t.facts.freeze(compressed(labels), f"{reason}: sizes are not known to follow")
        return
    for d in changing:
        source = sources[d]
        if d != follows[0] and source is not None and source.channels is not None:
            t.facts.freeze(source.channels, f"{reason}: two sizes would change")
        elif d == follows[0] and sizes[d] != -1:
            t.note_size(rows_along(labels, d)[0], source, reason)
    if len(changing) > len(changes(before.labels)):
        t.note_rows(rows_along(labels, follows[0]), reason)


def _sizes(t: Lookups, op: Operation, dimensions: int) -> tuple[list[int], list[Source | None]]:
    """Return the sizes that a view is given, -1 where it takes what is left, and where they come from."""
    free: tuple[list[int], list[Source | None]] = [-1] * dimensions, [None] * dimensions
    given = op.args[1] if len(op.args) > 1 else None
    if op.name == "flatten":
        return free
    if isinstance(given, Tensor):
        labels = [t.channels_of(given, d) for d in range(given.dim())]
        sizes = list(given.shape)
        return sizes, [
            None if one is None else Source("", "", size, channels=one) for one, size in zip(labels, sizes, strict=True)
        ]
    if op.name == "unflatten":
        first, sizes = op.args[1] % op.args[0].dim(), list(op.args[2])
        sources = t.sources.of(sizes)
        free[0][first : first + len(sizes)], free[1][first : first + len(sizes)] = sizes, sources
        return free
    sizes = list(given or op.result.shape)
    return sizes, t.sources.of(sizes)


def _note_cut(t: Lookups, op: Operation, before: Shadow, after: list[Shadow]) -> None:
    """Note which channels must stay equally many, and which sizes must follow, because of how a dimension is cut."""
    position = 1 if op.name in _SECOND else 2
    dimension = op.keywords.get("dim", op.args[position] if len(op.args) > position else 0) % before.labels.dim()
    changing = changes(before.labels)
    if dimension not in changing:
        return
    reason = f"{op.name} ({t.where})"
    if op.name in {"slice", "narrow"}:
        _note_slice(t, op, rows_along(before.labels, dimension), reason)
        return
    if op.name in {"select", "unbind"}:
        if dimension == changing[-1]:
            t.facts.freeze(compressed(before.labels), f"{reason} takes one of them")
        return
    pieces = [rows_along(one.labels, dimension) for one in after]
    lengths = [piece.shape[1] for piece in pieces]
    if op.name == "split_with_sizes":
        for piece, source in zip(pieces, t.sources.of(lengths), strict=True):
            _note_piece(t, piece, source, reason)
    elif len(set(lengths)) > 1:
        t.facts.freeze(compressed(before.labels), f"{reason} into unequal parts")
    elif op.name == "split":
        _note_split(t, pieces, t.sources.of(lengths[:1])[0], reason)
    else:
        t.facts.blocks.append(Blocks(list(torch.cat(pieces)), reason))


def _note_split(t: Lookups, pieces: list[Tensor], source: Source | None, reason: str) -> None:
    """Note a dimension that is cut into pieces of one length; that can be a list of lengths if it is an attribute."""
    if source is not None and source.channels is None and source.compute is int and all(len(p) == 1 for p in pieces):
        t.facts.splits.append(Split([piece[0] for piece in pieces], source, reason))
        return
    t.facts.blocks.append(Blocks(list(torch.cat(pieces)), reason))
    _note_piece(t, pieces[0], source, reason)


def _note_piece(t: Lookups, rows: Tensor, source: Source | None, reason: str) -> None:
    t.note_rows(rows, reason)
    if not t.note_size(rows[0], source, reason):
        t.facts.freeze(rows, f"{reason}: its size is not known to follow")


def _note_slice(t: Lookups, op: Operation, rows: Tensor, reason: str) -> None:
    """Note where a slice begins and ends: at lengths of what is before."""
    whole = rows.shape[1]
    first, last, step = _bounds(op, whole)
    if step != 1 or first < 0 or last < 0:
        t.facts.freeze(rows, f"{reason} from the end, or in steps")
        return
    for bound in (first, last):
        if 0 < bound < whole:
            _note_piece(t, rows[:, :bound], t.sources.of([bound])[0], reason)


def _bounds(op: Operation, whole: int) -> tuple[int, int, int]:
    given: list[Any] = [*op.args[2:], None, None, None]
    if op.name == "narrow":
        first = op.keywords.get("start", given[0])
        length = op.keywords.get("length", given[1])
        return (first, first + length, 1) if isinstance(first, int) and first == 0 else (-1, -1, 1)
    first, last, step = given[0] or 0, given[1], given[2] or 1
    return first, whole if last is None else min(last, whole), step
