"""Constraints that hold from the outset, whatever is masked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .._reasons import Reason
from ..propagate import Facts


@dataclass(frozen=True)
class Limits:
    """Limits of what goes."""

    kept: frozenset[str]  # BatchNorm layers that keep all channels
    min_channels: int  # what every layer keeps at least
    round_to: int | None  # the number of channels of every layer is to be a multiple of it, if possible
    lists: bool = True  # whether a number that the code splits by may become a list of lengths
    freeze_cuts: bool = False  # whether channels stay whose dimension the code cuts into pieces
    fixed: tuple[str, ...] = ()
    """Modules around which all channels stay; an empty one stands for the last layer, and so on backwards."""

    def held(self, facts: Facts) -> Iterator[tuple[Tensor, Reason]]:
        """Give the labels of channels that must stay, and why."""
        yield from facts.frozen
        for module, norm in facts.norms.items():
            if module in self.kept:
                yield norm.labels, Reason("keep", module)
        if self.freeze_cuts:
            for labels, reason in _cut_labels(facts):
                yield labels, Reason("size_of", reason.layer, reason.by)
        for index, module in enumerate(self.fixed):
            for labels in _around(facts, module, last=1 + self.fixed[:index].count("")):
                yield labels, Reason("differs", module or "the output")


def _cut_labels(facts: Facts) -> list[tuple[Tensor, Reason]]:
    """Return the labels of all dimensions that the code cuts into pieces."""
    found = [(labels, blocks.reason) for blocks in facts.blocks for labels in blocks.labels]
    found += [(labels, split.reason) for split in facts.splits for labels in split.pieces]
    found += [(cut.labels, cut.reason) for cut in facts.cuts]
    return found + [(labels, follow.reason) for follow in facts.follows for labels in (follow.labels, follow.leader)]


def _around(facts: Facts, module: str, *, last: int) -> list[Tensor]:
    """Return the labels of a module's inputs and outputs; of the last layers for none."""
    if not module:
        return [consumer.inputs for consumer in facts.consumers[-last:]]
    own = facts.norms[module].labels if module in facts.norms else None
    consumers = [
        consumer
        for consumer in facts.consumers
        if consumer.module == module
        or consumer.module.startswith(f"{module}.")
        or (own is not None and bool(torch.isin(consumer.outputs, own).any()))
    ]
    found = [labels for consumer in consumers for labels in (consumer.inputs, consumer.outputs)]
    return found if own is None else [*found, own]
