"""Which channels can go: classes of channels that live and die together, and what holds each of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._facts import Facts, Reader
from ._shadows import FROZEN, NONE

_NEGLIGIBLE = 1e-14
"""A constant whose whole effect is below this share of its reader's scale counts as 0."""


@dataclass
class Decision:
    """Classes and their fate.

    Attributes:
        classes: The class of every label.
        goes: Whether a class goes, by class.
        reasons: Why a masked class stays.
        representatives: The input that stands for the constant ones of a padded reader, by reader and group.
    """

    classes: NDArray[np.int64]
    goes: NDArray[np.bool_]
    reasons: dict[int, str] = field(default_factory=dict)
    representatives: dict[tuple[int, int], int] = field(default_factory=dict)

    def of(self, labels: Tensor) -> NDArray[np.int64]:
        """Return the classes of labels."""
        return self.classes[labels.reshape(-1).numpy()]

    def kept(self, labels: Tensor) -> NDArray[np.bool_]:
        """Return which of some labels stay."""
        return ~self.goes[self.of(labels)]


def decide(
    facts: Facts,
    masked: dict[str, Tensor],
    weights: dict[str, Tensor],
    *,
    min_channels: int,
    round_to: int | None,
    keep: dict[str, Tensor],
    freeze_cuts: bool,
) -> Decision:
    """Return what can go.

    Args:
        facts: Of the masked network.
        masked: Which channels of every BatchNorm are masked, by module.
        weights: The stored tensors by name.
        min_channels: What every layer keeps at least.
        round_to: The number of channels of every layer is to be a multiple of it, if possible.
        keep: Channels of BatchNorm layers that must stay, by module.
        freeze_cuts: Whether channels stay whose dimension the code cuts into pieces.
    """
    classes = _components(facts)
    decision = Decision(classes, np.zeros(classes.max() + 1, dtype=bool))
    for module, mask in masked.items():
        if module in facts.norms:
            decision.goes[decision.of(facts.norms[module].labels)[mask.numpy()]] = True
    solver = _Solver(facts, decision, weights, min_channels, round_to)
    solver.stay(classes[[NONE, FROZEN]], "it meets something that must stay")
    for labels, reason in facts.frozen:
        solver.stay(decision.of(labels), reason)
    for module, mask in keep.items():
        if module in facts.norms:
            solver.stay(decision.of(facts.norms[module].labels)[mask.numpy()], "keep= names it")
    if freeze_cuts:
        for labels, reason in [(one, blocks.reason) for blocks in facts.blocks for one in blocks.labels] + [
            (cut.labels, cut.reason) for cut in facts.cuts
        ]:
            solver.stay(decision.of(labels), f"{reason} needs its size")
    solver.solve()
    return decision


def _components(facts: Facts) -> NDArray[np.int64]:
    """Return the connected component of every label."""
    pairs = [(a.numpy(), b.numpy()) for a, b in facts.edges]
    a = np.concatenate([one for one, _ in pairs]) if pairs else np.zeros(0, dtype=np.int64)
    b = np.concatenate([one for _, one in pairs]) if pairs else np.zeros(0, dtype=np.int64)
    real = (a != NONE) & (b != NONE) & (a != b)
    edges = np.unique(np.stack([a[real], b[real]]).astype(np.int64), axis=1)
    root = np.arange(facts.count, dtype=np.int64)
    while True:
        low = np.minimum(root[edges[0]], root[edges[1]])
        before = root.copy()
        np.minimum.at(root, root[edges[0]], low)
        np.minimum.at(root, root[edges[1]], low)
        root = root[root]
        if np.array_equal(root, before):
            break
    _, classes = np.unique(root, return_inverse=True)
    return classes.reshape(-1).astype(np.int64)


class _Solver:
    """Takes classes off the list of those that go until all constraints hold."""

    def __init__(
        self,
        facts: Facts,
        decision: Decision,
        weights: dict[str, Tensor],
        min_channels: int,
        round_to: int | None,
    ) -> None:
        self.facts, self.decision = facts, decision
        self.min_channels, self.round_to = min_channels, round_to
        self.significant = [self._significant(reader, weights[reader.weight]) for reader in facts.readers]

    def stay(self, classes: NDArray[np.int64], reason: str) -> bool:
        """Keep classes; return whether one of them was to go."""
        held = np.unique(classes[self.decision.goes[classes]])
        self.decision.goes[held] = False
        for one in held:
            self.decision.reasons.setdefault(int(one), reason)
        return bool(len(held))

    def solve(self) -> None:
        """Apply constraints until nothing changes any more."""
        for reader, significant in zip(self.facts.readers, self.significant, strict=True):
            of = self.decision.of(reader.labels)
            self.stay(of[~reader.constant.numpy()], f"it is live where {reader.module} reads it")
            if not self._may_fold(reader):
                self.stay(of[significant], f"its constant cannot be moved into {reader.module}")
        changed = True
        while changed:
            changed = self._represent() | self._balance() | self._widths() | self._elements()

    @staticmethod
    def _significant(reader: Reader, weight: Tensor) -> NDArray[np.bool_]:
        """Return which constant inputs have an effect that is not lost in rounding."""
        constant = reader.constant & (reader.values != 0)
        if not constant.any() or not reader.is_plain or reader.groups > 1:
            return constant.numpy()
        columns = (
            weight.detach().double().abs().flatten(2).sum(2) if weight.dim() > 2 else weight.detach().double().abs()
        )
        effect = columns.cpu().amax(0) * reader.values.abs()
        return (constant & (effect > _NEGLIGIBLE * columns.cpu().sum(1).amax())).numpy()

    def _may_fold(self, reader: Reader) -> bool:
        return reader.is_plain and self.facts.uses[reader.weight] == 1

    def _represent(self) -> bool:
        """Keep one constant input of every padded reader that has some to go."""
        changed = False
        for index, (reader, significant) in enumerate(zip(self.facts.readers, self.significant, strict=True)):
            if not reader.padded or not self._may_fold(reader):
                continue
            of = self.decision.of(reader.labels)
            size = len(of) // reader.groups
            for group in range(reader.groups):
                part = slice(group * size, (group + 1) * size)
                chosen = np.flatnonzero(significant[part]) + group * size
                if not self.decision.goes[of[chosen]].any():
                    continue
                staying = chosen[~self.decision.goes[of[chosen]]]
                if not len(staying):
                    staying = chosen[[self._most_wanted(of[chosen], reader.values.numpy()[chosen])]]
                    changed |= self.stay(of[staying], f"it stands for the constants that {reader.module} reads")
                values = np.abs(reader.values.numpy()[staying])
                self.decision.representatives[index, group] = int(staying[values.argmax()])
        return changed

    def _most_wanted(self, classes: NDArray[np.int64], values: NDArray[np.float64]) -> int:
        """Return the input to keep: the one that most padded readers see as a constant, then the largest."""
        votes = self._votes()
        return int(np.lexsort((np.abs(values), votes[classes]))[-1])

    def _votes(self) -> NDArray[np.int64]:
        if not hasattr(self, "_counted"):
            self._counted = np.zeros(len(self.decision.goes), dtype=np.int64)
            for reader, significant in zip(self.facts.readers, self.significant, strict=True):
                if reader.padded:
                    np.add.at(self._counted, self.decision.of(reader.labels)[significant], 1)
        return self._counted

    def _balance(self) -> bool:
        """Keep as many channels of every block as of the fullest one."""
        changed = False
        groups = [(blocks.labels, blocks.reason) for blocks in self.facts.blocks]
        by_source: dict[tuple[str, str, int], list[Tensor]] = {}
        for cut in self.facts.cuts:
            by_source.setdefault((cut.source.module, cut.source.attribute, len(cut.labels)), []).append(cut.labels)
        groups += [(labels, f"{module}.{attribute}") for (module, attribute, _), labels in by_source.items()]
        for labels, reason in groups:
            of = [self.decision.of(one) for one in labels]
            target = max(int((~self.decision.goes[one]).sum()) for one in of)
            for one in of:
                missing = target - int((~self.decision.goes[one]).sum())
                if missing > 0:
                    changed |= self.stay(self._first_to_go(one, missing), f"balance: {reason}")
        return changed

    def _first_to_go(self, classes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        going = classes[self.decision.goes[classes]]
        _, first = np.unique(going, return_index=True)
        return going[np.sort(first)][:count]

    def _widths(self) -> bool:
        """Keep what every layer must keep at least; a convolution that may become empty is one of a layer of ours."""
        changed = False
        layers = [(norm.labels, self.min_channels) for norm in self.facts.norms.values()]
        layers += [
            (labels, 1)
            for (name, dimension), labels in self.facts.rows.items()
            if dimension == 0 and not self._may_be_empty(name)
        ]
        for labels, least in layers:
            of = self.decision.of(labels)
            kept = int((~self.decision.goes[of]).sum())
            wanted = max(kept, min(least, len(of)))
            if self.round_to and kept < len(of):
                wanted = min(-(-wanted // self.round_to) * self.round_to, len(of))
            if wanted > kept:
                reason = f"min_channels={self.min_channels}" if kept < least else f"round_to={self.round_to}"
                changed |= self.stay(self._first_to_go(of, wanted - kept), reason)
        return changed

    def _may_be_empty(self, name: str) -> bool:
        parts = name.split(".")
        return any(".".join(parts[:length]) in self.facts.inputs for length in range(1, len(parts)))

    def _elements(self) -> bool:
        """Keep channels of stored tensors from which they cannot be cut as whole slices."""
        changed = False
        for name, labels in self.facts.elements.items():
            goes = self.decision.goes[self.classes_of(labels)]
            if goes.any() and sliced_dimension(goes) is None:
                changed |= self.stay(self.decision.of(labels), f"it is part of {name}")
        return changed

    def classes_of(self, labels: Tensor) -> NDArray[np.int64]:
        """Return the classes of labels, in their shape."""
        return self.decision.of(labels).reshape(tuple(labels.shape))


def sliced_dimension(goes: NDArray[np.bool_]) -> int | None:
    """Return the dimension along which whole slices go, and nothing else; None if there is none."""
    for dimension in range(goes.ndim):
        others = tuple(d for d in range(goes.ndim) if d != dimension)
        whole = goes.all(axis=others, keepdims=True)
        if np.array_equal(np.broadcast_to(whole, goes.shape), goes):
            return dimension
    return None
