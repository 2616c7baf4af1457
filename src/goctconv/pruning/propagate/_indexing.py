"""Rules for what takes parts of a dimension: its pieces must stay equally long, or sizes must follow the channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...graph import Operation
from .._reasons import Reason
from ._context import Propagation, rule
from ._facts import Blocks, Split
from ._shadows import Shadow, changes, rows_along
from ._sizes import Source
from ._view import moved


def _dimension(op: Operation, labels: Tensor, position: int) -> int | None:
    """Return the dimension that is cut; None if channels do not change along it."""
    dimension = op.keywords.get("dim", op.args[position] if len(op.args) > position else 0) % labels.dim()
    return dimension if dimension in changes(labels) else None


@rule("select", "unbind")
def selection(t: Propagation, op: Operation) -> list[Shadow]:
    """One place of a dimension, or all of them one by one."""
    labels = t.input(op).labels
    dimension = _dimension(op, labels, 1)
    if dimension is not None and dimension == changes(labels)[-1]:
        t.freeze(labels, t.reason("mixed", op))
    return moved(t, op)


@rule("slice", "narrow")
def slicing(t: Propagation, op: Operation) -> list[Shadow]:
    """A run of places: where it begins and ends are lengths of what is before."""
    labels = t.input(op).labels
    dimension = _dimension(op, labels, 1)
    if dimension is None:
        return moved(t, op)
    rows = rows_along(labels, dimension)
    whole = rows.shape[1]
    first, last, step = _bounds(op, whole)
    if step != 1 or first < 0 or last < 0:
        t.facts.freeze(rows, t.reason("size", op, " from the end or in steps"))
        return moved(t, op)
    for bound in (first, last):
        if 0 < bound < whole:
            _note_piece(t, op, rows[:, :bound], t.sources.of([bound])[0])
    return moved(t, op)


def _bounds(op: Operation, whole: int) -> tuple[int, int, int]:
    given: list[Any] = [*op.args[2:], None, None, None]
    if op.name == "narrow":
        first = op.keywords.get("start", given[0])
        length = op.keywords.get("length", given[1])
        return (first, first + length, 1) if isinstance(first, int) and first == 0 else (-1, -1, 1)
    first, last, step = given[0] or 0, given[1], given[2] or 1
    return first, whole if last is None else min(last, whole), step


@rule("split", "split_with_sizes", "chunk", "tensor_split")
def splitting(t: Propagation, op: Operation) -> list[Shadow]:
    """Pieces one after the other."""
    before, after = t.input(op).labels, moved(t, op)
    dimension = _dimension(op, before, 2)
    if dimension is None:
        return after
    pieces = [rows_along(shadow.labels, dimension) for shadow in after]
    lengths = [piece.shape[1] for piece in pieces]
    if op.name == "split_with_sizes":
        for piece, source in zip(pieces, t.sources.of(lengths), strict=True):
            _note_piece(t, op, piece, source)
    elif len(set(lengths)) > 1:
        t.freeze(before, t.reason("size", op, " into unequal parts"))
    elif op.name == "split":
        _note_split(t, op, pieces, t.sources.of(lengths[:1])[0])
    else:
        t.facts.blocks.append(Blocks(list(torch.cat(pieces)), t.reason("balance", op)))
    return after


def _note_split(t: Propagation, op: Operation, pieces: list[Tensor], source: Source | None) -> None:
    """Note a dimension that is cut into pieces of one length; that can be a list of lengths if it is an attribute."""
    if source is not None and source.channels is None and source.compute is int and all(len(p) == 1 for p in pieces):
        t.facts.splits.append(Split([piece[0] for piece in pieces], source, t.reason("size_of", op)))
        return
    t.facts.blocks.append(Blocks(list(torch.cat(pieces)), t.reason("balance", op)))
    _note_piece(t, op, pieces[0], source)


def _note_piece(t: Propagation, op: Operation, rows: Tensor, source: Source | None) -> None:
    reason: Reason = t.reason("size", op)
    t.note_rows(rows, t.reason("balance", op))
    if not t.note_size(rows[0], source, reason):
        t.facts.freeze(rows, reason)
