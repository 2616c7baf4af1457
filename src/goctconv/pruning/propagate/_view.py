"""Rules for what gives elements another shape or order: the operation is executed on the shadow too."""

from __future__ import annotations

import torch
from torch import Tensor

from ...graph import Operation
from .._reasons import Reason
from ._context import Propagation, rule
from ._facts import Blocks
from ._shadows import NotUnderstood, Shadow, by_dimension, changes, compressed, joined, reshaped, rows_along, tidy
from ._sizes import Source
from ._values import tensors_in

_OUTER_AND_INNER = 2  # dimensions


def moved(t: Propagation, op: Operation) -> list[Shadow]:
    """Return the shadows of the results of an operation that only moves elements."""
    shadow = t.input(op)
    parts = [list(tensors_in(op.func(part, *op.args[1:], **op.keywords))) for part in (shadow.labels, shadow.constant)]
    return [Shadow(tidy(labels), tidy(constant)) for labels, constant in zip(*parts, strict=True)]


@rule(
    *("permute", "transpose", "t", "swapaxes", "movedim", "unsqueeze", "squeeze", "expand", "expand_as", "flip"),
    *("pixel_unshuffle", "repeat", "tile", "repeat_interleave", "mT", "numpy_T"),
    keeps_constants=True,
)
def permutation(t: Propagation, op: Operation) -> list[Shadow]:
    """Another order of dimensions or elements, or copies of them."""
    return moved(t, op)


@rule("roll", "unfold", "diagonal")
def reordering(t: Propagation, op: Operation) -> list[Shadow]:
    """Another order along dimensions, which must be others than those of the channels."""
    named = op.arguments.get("dims", op.arguments.get("dimension", op.arguments.get("dim1")))
    dimensions = named if isinstance(named, list | tuple) else [named]
    labels = t.input(op).labels
    if not dimensions or any(d is None or d % labels.dim() in changes(labels) for d in dimensions):
        raise NotUnderstood
    return moved(t, op)


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(t: Propagation, op: Operation) -> list[Shadow]:
    """Channels of several groups in turns."""
    pieces = rows_along(t.input(op).labels, 1).chunk(op.args[1], dim=1)
    t.facts.blocks.append(Blocks(list(torch.cat(pieces)), t.reason("balance", op)))
    if len(pieces[0]) == 1:
        t.facts.slots.append(Blocks(list(torch.cat(pieces).T), t.reason("balance", op)))
    return moved(t, op)


@rule("cat", "concat", "concatenate", "stack", of_any_input=True, keeps_constants=True)
def concatenation(t: Propagation, op: Operation) -> Shadow:
    """Tensors one after the other, or one above the other."""
    shadows = [t.shadow_of(tensor) for tensor in op.args[0]]
    dimension = op.keywords.get("dim", op.args[1] if len(op.args) > 1 else 0)
    along = dimension % len(op.result.shape)
    if op.name != "stack" and all(shadow.dimension == along for shadow in shadows):
        row = torch.cat([shadow.channels_along(along) for shadow in shadows])
        return by_dimension(op.result.shape, along, row, torch.cat([shadow.flags_along(along) for shadow in shadows]))
    labels, constant = [shadow.labels for shadow in shadows], [shadow.constant for shadow in shadows]
    if op.name == "stack":
        labels, constant = ([part.unsqueeze(dimension) for part in parts] for parts in (labels, constant))
    return Shadow(tidy(joined(labels, dimension)), tidy(joined(constant, dimension)))


@rule(
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "view_as", "reshape_as", "flatten", "unflatten"),
    keeps_constants=True,
)
def view(t: Propagation, op: Operation) -> Shadow:
    """The same elements in another shape: one of its sizes must follow the channels."""
    before, shape = t.input(op), op.result.shape
    after = Shadow(tidy(reshaped(before.labels, shape)), tidy(reshaped(before.constant, shape)))
    changing = changes(after.labels)
    if len(changing) < len(changes(before.labels)):
        _note_slots(t, op, before.labels)
    sizes, sources = _sizes(t, op, len(shape))
    reason = t.reason("size", op, f" into {tuple(shape)}")
    for d, source in enumerate(sources):
        if source is not None and source.channels is not None and d not in changing:
            t.facts.freeze(source.channels, reason)
    follows = [d for d in reversed(changing) if sizes[d] == -1 or sources[d] is not None]
    if changing and not follows:
        t.freeze(after.labels, reason)
    elif changing:
        _note_sizes(t, after, changing, follows[0], (sizes, sources), reason)
        if len(changing) > len(changes(before.labels)):
            balance = Reason("balance", reason.layer, reason.by)
            t.note_rows(rows_along(after.labels, follows[0]), balance)
            if follows[0] < changing[-1] and not changes(before.labels)[1:]:
                slots = compressed(after.labels).movedim(follows[0], 0).flatten(1)
                t.facts.slots.append(Blocks(list(slots), balance))
    return after


def _note_slots(t: Propagation, op: Operation, labels: Tensor) -> None:
    """Note what stands side by side when a transposed tensor is flattened, as channel shuffles do."""
    slots = compressed(labels).squeeze()
    if slots.dim() == _OUTER_AND_INNER and any(
        len(blocks.labels) == slots.shape[1] and torch.equal(blocks.labels[0], slots[:, 0]) for blocks in t.facts.blocks
    ):
        t.facts.slots.append(Blocks(list(slots), t.reason("balance", op)))


def _note_sizes(
    t: Propagation,
    after: Shadow,
    changing: list[int],
    follows: int,
    given: tuple[list[int], list[Source | None]],
    reason: Reason,
) -> None:
    """Note that one size follows the channels, and that no other may be computed from their number."""
    sizes, sources = given
    for d in changing:
        source = sources[d]
        if d != follows and source is not None and source.channels is not None:
            t.facts.freeze(source.channels, reason)
        elif d == follows and sizes[d] != -1:
            t.note_size(rows_along(after.labels, d)[0], source, reason)


def _sizes(t: Propagation, op: Operation, dimensions: int) -> tuple[list[int], list[Source | None]]:
    """Return the sizes that a view is given, -1 where it takes what is left, and where they come from."""
    free: tuple[list[int], list[Source | None]] = [-1] * dimensions, [None] * dimensions
    given = op.args[1] if len(op.args) > 1 else None
    if op.name == "flatten":
        return free
    if isinstance(given, Tensor):
        labels = [t.channels_of(given, d) for d in range(given.dim())]
        sizes = list(given.shape)
        return sizes, [
            None if its is None else Source("", "", size, channels=its) for its, size in zip(labels, sizes, strict=True)
        ]
    if op.name == "unflatten":
        first, sizes = op.args[1] % op.args[0].dim(), list(op.args[2])
        sources = t.sources.of(sizes)
        free[0][first : first + len(sizes)], free[1][first : first + len(sizes)] = sizes, sources
        return free
    sizes = list(given or op.result.shape)
    return sizes, t.sources.of(sizes)
