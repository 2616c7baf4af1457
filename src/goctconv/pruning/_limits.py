"""What must stay from the outset, whatever is masked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ._facts import Facts


@dataclass(frozen=True)
class Limits:
    """What must stay.

    Attributes:
        kept: BatchNorm layers that keep all channels.
        min_channels: What every layer keeps at least.
        round_to: The number of channels of every layer is to be a multiple of it, if possible.
        lists: Whether a number that the code splits by may become a list of lengths.
        freeze_cuts: Whether channels stay whose dimension the code cuts into pieces.
        fixed: Modules around which all channels stay; an empty one stands for the last layer, and so on backwards.
    """

    kept: frozenset[str]
    min_channels: int
    round_to: int | None
    lists: bool = True
    freeze_cuts: bool = False
    fixed: tuple[str, ...] = ()

    def held(self, facts: Facts) -> Iterator[tuple[Tensor, str]]:
        """Give the labels of channels that must stay, and why."""
        yield from facts.frozen
        for module, norm in facts.norms.items():
            if module in self.kept:
                yield norm.labels, f"keep= names {module}"
        if self.freeze_cuts:
            for labels, reason in _cut_labels(facts):
                yield labels, f"{reason} needs its size"
        for index, module in enumerate(self.fixed):
            for labels in _around(facts, module, last=1 + self.fixed[:index].count("")):
                yield labels, f"without it, {module or 'the output'} was not what it is"


def _cut_labels(facts: Facts) -> list[tuple[Tensor, str]]:
    """Return the labels of all dimensions that the code cuts into pieces."""
    found = [(labels, blocks.reason) for blocks in facts.blocks for labels in blocks.labels]
    found += [(labels, split.reason) for split in facts.splits for labels in split.pieces]
    found += [(cut.labels, cut.reason) for cut in facts.cuts]
    return found + [(labels, one.reason) for one in facts.follows for labels in (one.labels, one.leader)]


def _around(facts: Facts, module: str, *, last: int) -> list[Tensor]:
    """Return the labels of a module's inputs and outputs; of the last layers for none."""
    if not module:
        return [reader.labels for reader in facts.readers[-last:]]
    own = facts.norms[module].labels if module in facts.norms else None
    readers = [
        reader
        for reader in facts.readers
        if reader.module == module
        or reader.module.startswith(f"{module}.")
        or (own is not None and bool(torch.isin(reader.outputs, own).any()))
    ]
    found = [labels for reader in readers for labels in (reader.labels, reader.outputs)]
    return found if own is None else [*found, own]
