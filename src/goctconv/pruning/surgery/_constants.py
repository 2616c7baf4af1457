"""Constants that go are folded into biases, or merged into the columns of one that stays."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..propagate import Consumer, Facts
from ..solve import Decision
from ._shapes import Moves, Shapes


def moves_of(facts: Facts, decision: Decision, stored: dict[str, Tensor], shapes: Shapes) -> Moves:
    """Return what must be added for the constants that go, and note biases that are needed for it."""
    moves = Moves()
    for index, consumer in enumerate(facts.consumers):
        if consumer.mean is not None and decision.number_kept(consumer.mean) < len(consumer.mean):
            moves.factors[consumer.weight] = decision.number_kept(consumer.mean) / len(consumer.mean)
        going = ~decision.kept(consumer.inputs) & consumer.constant.numpy() & (consumer.values.numpy() != 0)
        if not going.any() or not consumer.is_plain:
            continue
        size = len(consumer.inputs) // consumer.groups
        for group in np.unique(np.flatnonzero(going) // size):
            part = np.flatnonzero(going[group * size : (group + 1) * size])
            share = _Share(consumer, int(group), part, stored[consumer.weight].detach())
            representative = decision.representatives.get((index, int(group)))
            if consumer.is_transposed:
                if representative is not None:
                    _merge_rows(moves, share, representative)
            elif not consumer.padded:
                _fold(moves, facts, share, stored, decision.kept(consumer.outputs), shapes)
            elif representative is not None:
                _merge(moves, share, representative - int(group) * size)
    return moves


class _Share:
    """The share of constants that go in the outputs of one group of a layer."""

    def __init__(self, consumer: Consumer, group: int, part: NDArray[np.int64], weight: Tensor) -> None:
        size, rows = len(consumer.inputs) // consumer.groups, len(weight) // consumer.groups
        self.consumer = consumer
        self.rows = slice(group * rows, (group + 1) * rows)
        self.all_values = consumer.values[group * size : (group + 1) * size]
        self.values = self.all_values[part]
        index = torch.from_numpy(part).to(weight.device)
        self.columns = weight[self.rows].index_select(0 if consumer.is_transposed else 1, index).double().cpu()
        self.weight = weight


def _merge(moves: Moves, share: _Share, representative: int) -> None:
    """Merge constant inputs into one: its column becomes the sum of theirs, in proportion to the constants."""
    factors = share.values / share.all_values[representative]
    added = torch.zeros(share.weight[:, 0].shape, dtype=torch.float64)
    added[share.rows] = torch.einsum("oi...,i->o...", share.columns, factors)
    moves.columns.setdefault(share.consumer.weight, []).append((1, representative, added))


def _merge_rows(moves: Moves, share: _Share, representative: int) -> None:
    """Do the same in a transposed convolution, whose weight has a row for every input."""
    factors = share.values / share.consumer.values[representative]
    added = torch.einsum("io...,i->o...", share.columns, factors)
    moves.columns.setdefault(share.consumer.weight, []).append((0, representative, added))


def _fold(
    moves: Moves,
    facts: Facts,
    share: _Share,
    stored: dict[str, Tensor],
    kept: NDArray[np.bool_],
    shapes: Shapes,
) -> None:
    """Move constants into the bias, or the running mean of the BatchNorm behind, or a new bias."""
    consumer = share.consumer
    sums = share.columns.flatten(2).sum(2) if share.columns.dim() > 2 else share.columns
    offset = torch.zeros(len(share.weight), dtype=torch.float64)
    offset[share.rows] = sums @ (share.values * consumer.factor)
    name = f"{consumer.follower}.running_mean"
    if consumer.bias:
        moves.offsets[consumer.bias] = moves.offsets.get(consumer.bias, 0) + offset
    elif name in stored and facts.uses[name] == 1:
        moves.offsets[name] = moves.offsets.get(name, 0) - offset
    else:
        name = consumer.weight.rpartition(".")[0] + ".bias"
        shapes.biases[name] = int(kept.sum())
        moves.offsets[name] = moves.offsets.get(name, 0) + offset[torch.from_numpy(kept)]
