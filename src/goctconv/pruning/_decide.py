"""Which channels can go: classes of channels that live and die together, and what holds each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._facts import Cut, Facts, Follow, Reader, Split
from ._limits import Limits
from ._reasons import Reasons
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
        lists: Attributes, by module and name, that may become lists of lengths.
        is_balanced: Whether channels stay only so that others, of equal pieces, do not stay alone: of what is left, a
            better balance may be found.
    """

    classes: NDArray[np.int64]
    goes: NDArray[np.bool_]
    reasons: dict[int, str] = field(default_factory=dict)
    representatives: dict[tuple[int, int], int] = field(default_factory=dict)
    lists: set[tuple[str, str]] = field(default_factory=set)
    is_balanced: bool = False

    def of(self, labels: Tensor) -> NDArray[np.int64]:
        """Return the classes of labels."""
        found: NDArray[np.int64] = self.classes[labels.reshape(-1).numpy()]
        return found

    def kept(self, labels: Tensor) -> NDArray[np.bool_]:
        """Return which of some labels stay."""
        return ~self.goes[self.of(labels)]


def decide(facts: Facts, masked: dict[str, Tensor], weights: dict[str, Tensor], limits: Limits) -> Decision:
    """Return what can go.

    Args:
        facts: Of the masked network.
        masked: Which channels of every BatchNorm are masked, by module.
        weights: The stored tensors by name.
        limits: What must stay.
    """
    classes = components(facts)
    decision = Decision(classes, np.zeros(classes.max() + 1, dtype=bool))
    if limits.lists:
        numbers = {cut.source.place for cut in facts.cuts}
        decision.lists = {split.source.place for split in facts.splits} - numbers
    for module, mask in masked.items():
        if module in facts.norms:
            decision.goes[decision.of(facts.norms[module].labels)[mask.numpy()]] = True
    solver = _Solver(facts, decision, weights, limits)
    solver.stay(classes[[NONE, FROZEN]], "it meets something that must stay")
    for labels, reason in limits.held(facts):
        solver.stay(decision.of(labels), reason)
    solver.solve()
    return decision


def components(facts: Facts) -> NDArray[np.int64]:
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
        limits: Limits,
    ) -> None:
        self.facts, self.decision = facts, decision
        self.min_channels, self.round_to = limits.min_channels, limits.round_to
        self.of = [decision.of(reader.labels) for reader in facts.readers]
        self.significant = [_significant(reader, weights[reader.weight]) for reader in facts.readers]
        self.balanced = self._balanced()
        self.layers = self._layers()
        self.elements = [(name, self.classes_of(labels)) for name, labels in facts.elements.items()]
        self.votes = np.zeros(len(decision.goes), dtype=np.int64)
        for reader, of, significant in zip(facts.readers, self.of, self.significant, strict=True):
            if reader.padded:
                np.add.at(self.votes, of[significant], 1)

    def _balanced(self) -> list[tuple[NDArray[np.int64], str]]:
        """Return the classes of pieces that must keep equally many channels, a piece a row."""
        groups = [(blocks.labels, blocks.reason) for blocks in self.facts.blocks]
        by_place: dict[tuple[object, ...], list[Tensor]] = {}
        for cut in self.facts.cuts:
            by_place.setdefault((*cut.source.place, len(cut.labels)), []).append(cut.labels)
        for split in self.facts.splits:
            if split.source.place in self.decision.lists:
                for index, piece in enumerate(split.pieces):
                    by_place.setdefault((*split.source.place, index), []).append(piece)
            else:
                groups.append((split.pieces, split.reason))
                by_place.setdefault((*split.source.place, len(split.pieces[0])), []).append(split.pieces[0])
        groups += [(labels, f"{module}.{attribute}") for (module, attribute, _), labels in by_place.items()]
        sizes = [(labels, reason) for labels, reason in groups if len(labels) > 1]
        return [(np.stack([self.decision.of(one) for one in labels]), reason) for labels, reason in sizes]

    def _layers(self) -> list[tuple[NDArray[np.int64], int]]:
        """Return the classes of layers, and what each must keep; an empty convolution is one of a layer of ours."""
        layers = [(norm.labels, self.min_channels) for norm in self.facts.norms.values()]
        layers += [
            (labels, 1)
            for (name, dimension), labels in self.facts.rows.items()
            if dimension == 0 and not self._may_be_empty(name)
        ]
        return [(self.decision.of(labels), least) for labels, least in layers]

    def _may_be_empty(self, name: str) -> bool:
        parts = name.split(".")
        return any(".".join(parts[:length]) in self.facts.inputs for length in range(1, len(parts)))

    def stay(self, classes: NDArray[np.int64], reason: str) -> bool:
        """Keep classes; return whether one of them was to go."""
        held = np.unique(classes[self.decision.goes[classes]])
        self.decision.goes[held] = False
        for one in held:
            self.decision.reasons.setdefault(int(one), reason)
        return bool(len(held))

    def solve(self) -> None:
        """Apply constraints until nothing changes any more."""
        reasons = Reasons(self.facts, self.decision.classes)
        for reader, of, significant in zip(self.facts.readers, self.of, self.significant, strict=True):
            live = np.unique(of[~reader.constant.numpy()])
            for one in live[self.decision.goes[live]]:
                self.stay(one.reshape(1), reasons.of(reader, int(one)))
            if not self._may_fold(reader):
                self.stay(of[significant], f"its constant cannot be moved into {reader.module}")
        changed = True
        while changed:
            balanced = self._balance() | self._follow() | self._attributes() | self._elements()
            self.decision.is_balanced |= balanced
            changed = self._represent() | balanced | self._widths()

    def _may_fold(self, reader: Reader) -> bool:
        uses = self.facts.uses
        return reader.is_plain and uses[reader.weight] == 1 and uses.get(reader.bias, 1) == 1

    def _represent(self) -> bool:
        """Keep one constant input of every padded reader that has some to go."""
        changed = False
        for index, (reader, of) in enumerate(zip(self.facts.readers, self.of, strict=True)):
            if not reader.padded or not self._may_fold(reader):
                continue
            significant = np.flatnonzero(self.significant[index])
            size = len(of) // reader.groups
            for group in np.unique(significant[self.decision.goes[of[significant]]] // size):
                chosen = significant[significant // size == group]
                values = np.abs(reader.values.numpy()[chosen])
                staying = ~self.decision.goes[of[chosen]]
                if not staying.any():  # the input that most padded readers see as a constant, then the largest
                    staying = np.arange(len(chosen)) == np.lexsort((values, self.votes[of[chosen]]))[-1]
                    reason = f"it stands for the constants that {reader.module} reads"
                    changed |= self.stay(of[chosen[staying]], reason)
                best = chosen[staying][values[staying].argmax()]
                self.decision.representatives[index, int(group)] = int(best)
        return changed

    def _balance(self) -> bool:
        """Keep as many channels of every piece as of the fullest one."""
        changed = False
        for of, reason in self.balanced:
            target = int((~self.decision.goes[of]).sum(1).max())
            for row in of:
                missing = target - int((~self.decision.goes[row]).sum())
                if missing > 0:
                    changed |= self.stay(self._first_to_go(row, missing), f"balance: {reason}")
        return changed

    def _first_to_go(self, classes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        going = classes[self.decision.goes[classes]]
        _, first = np.unique(going, return_index=True)
        return going[np.sort(first)][:count]

    def _follow(self) -> bool:
        """Keep channels until every length that is computed from a number of channels is right."""
        return bool(sum(self._let_follow(one) for one in self.facts.follows))  # all of them, not up to the first

    def _let_follow(self, one: Follow) -> bool:
        of, leader = self.decision.of(one.labels), self.decision.of(one.leader)
        changed = False
        while True:
            kept = int((~self.decision.goes[of]).sum())
            wanted = _computed(one, int((~self.decision.goes[leader]).sum()))
            if kept == wanted:
                return changed
            sides = (of, leader) if wanted is not None and kept < wanted else (leader,)
            if not any(self.stay(self._first_to_go(side, 1), f"balance: {one.reason}") for side in sides):
                return changed | self.stay(np.concatenate([of, leader]), f"{one.reason}: sizes do not agree")
            changed = True

    def _attributes(self) -> bool:
        """Keep channels where an attribute would have to have two values, or has none that is right."""
        changed = False
        needed: dict[tuple[str, str], list[Cut]] = {}
        for cut in self.facts.cuts:
            needed.setdefault(cut.source.place, []).append(cut)
        for (module, attribute), cuts in needed.items():
            values = {self.value_of(cut) for cut in cuts}
            if len(values) > 1 or None in values:
                for cut in cuts:
                    changed |= self.stay(self.decision.of(cut.labels), f"{module}.{attribute} has no value for it")
        return changed

    def value_of(self, cut: Cut) -> int | None:
        """Return what an attribute must be."""
        return cut.source.value_for(int(self.decision.kept(cut.labels).sum()))

    def _widths(self) -> bool:
        """Keep what every layer must keep at least."""
        changed = False
        for of, least in self.layers:
            kept = int((~self.decision.goes[of]).sum())
            wanted = max(kept, min(least, len(of)))
            if self.round_to and kept < len(of):
                wanted = min(-(-wanted // self.round_to) * self.round_to, len(of))
            if wanted > kept:
                reason = f"min_channels={self.min_channels}" if kept < least else f"round_to={self.round_to}"
                changed |= self.stay(self._first_to_go(of, wanted - kept), reason)
        return changed

    def _elements(self) -> bool:
        """Keep channels of stored tensors from which they cannot be cut as whole slices."""
        changed = False
        for name, of in self.elements:
            goes = self.decision.goes[of]
            if goes.any() and sliced_dimension(goes) is None:
                changed |= self.stay(of.reshape(-1), f"it is part of {name}")
        return changed

    def classes_of(self, labels: Tensor) -> NDArray[np.int64]:
        """Return the classes of labels, in their shape."""
        return self.decision.of(labels).reshape(tuple(labels.shape))


def _significant(reader: Reader, weight: Tensor) -> NDArray[np.bool_]:
    """Return which constant inputs have an effect that is not lost in rounding."""
    constant = (reader.constant & (reader.values != 0)).numpy()
    chosen = np.flatnonzero(constant)
    if not len(chosen) or not reader.is_plain or reader.groups > 1:
        return constant
    weight = weight.detach()
    columns = weight.index_select(1, torch.from_numpy(chosen).to(weight.device))
    effect = _absolute(columns, list(range(2, weight.dim()))).amax(0).double().cpu() * reader.values[chosen].abs()
    scale = float(_absolute(weight, list(range(1, weight.dim()))).amax())
    constant[chosen] = (effect > _NEGLIGIBLE * scale).numpy()
    return constant


def _absolute(weight: Tensor, dimensions: Sequence[int]) -> Tensor:
    return torch.linalg.vector_norm(weight, 1, dim=list(dimensions)) if dimensions else weight.abs()


def _computed(one: Follow, count: int) -> int | None:
    try:
        return one.compute(count)
    except ArithmeticError:
        return None


def split_value(split: Split, decision: Decision) -> int | list[int]:
    """Return what an attribute must be that the code splits by: a number, or a list where pieces differ."""
    counts = [int(decision.kept(piece).sum()) for piece in split.pieces]
    return counts[0] if len(set(counts)) == 1 else counts


def sliced_dimension(goes: NDArray[np.bool_]) -> int | None:
    """Return the dimension along which whole slices go, and nothing else; None if there is none."""
    for dimension in range(goes.ndim):
        others = tuple(d for d in range(goes.ndim) if d != dimension)
        whole = goes.all(axis=others, keepdims=True)
        if np.array_equal(np.broadcast_to(whole, goes.shape), goes):
            return dimension
    return None
