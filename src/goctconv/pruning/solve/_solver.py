"""The solver: groups of channels that live and die together, and which of them go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._reasons import Reason
from ..propagate import FROZEN, NONE, Consumer, Cut, Facts, Follow, Split
from ._blame import Blame
from ._constraints import Limits

Groups = NDArray[np.int64]
_NEGLIGIBLE = 1e-14
"""A constant whose whole effect is below this share of its consumer's scale counts as 0."""


@dataclass
class Decision:
    """Groups and their fate."""

    groups: Groups  # of every label
    goes: NDArray[np.bool_]  # by group
    reasons: dict[int, Reason] = field(default_factory=dict)  # why a masked group stays
    representatives: dict[tuple[int, int], int] = field(default_factory=dict)
    """The input that stands for the constant ones of a padded consumer, by consumer and group of it."""
    lists: set[tuple[str, str]] = field(default_factory=set)  # attributes that may become lists of lengths
    is_balanced: bool = False
    """Whether channels stay only so that others, of equal pieces, do not stay alone: a better balance may be found."""

    def of(self, labels: Tensor) -> Groups:
        """Return the groups of labels."""
        found: Groups = self.groups[labels.reshape(-1).numpy()]
        return found

    def kept(self, labels: Tensor) -> NDArray[np.bool_]:
        """Return which of some labels stay."""
        return ~self.goes[self.of(labels)]

    def number_kept(self, labels: Tensor) -> int:
        """Return how many of some labels stay."""
        return int(self.kept(labels).sum())


def decide(facts: Facts, masked: dict[str, Tensor], weights: dict[str, Tensor], limits: Limits) -> Decision:
    """Return what can go of the masked network, of whose BatchNorm layers and stored tensors masks and weights are."""
    groups = components(facts)
    decision = Decision(groups, np.zeros(groups.max() + 1, dtype=bool))
    if limits.lists:
        decision.lists = lists_of(facts)
    for module, mask in masked.items():
        if module in facts.norms:
            decision.goes[decision.of(facts.norms[module].labels)[mask.numpy()]] = True
    solver = _Solver(facts, decision, weights, limits)
    solver.stay(groups[[NONE, FROZEN]], Reason("outside"))
    for labels, reason in limits.held(facts):
        solver.stay(decision.of(labels), reason)
    solver.solve()
    return decision


def components(facts: Facts) -> Groups:
    """Return the connected component of every label."""
    a, b = (
        np.concatenate([np.zeros(0, dtype=np.int64), *(edge[side].numpy() for edge in facts.edges)]) for side in (0, 1)
    )
    real = (a != NONE) & (b != NONE) & (a != b)
    low, high = np.minimum(a, b)[real], np.maximum(a, b)[real]
    edges = np.divmod(np.unique(low * facts.count + high), facts.count)
    root = np.arange(facts.count, dtype=np.int64)
    while True:
        least = np.minimum(root[edges[0]], root[edges[1]])
        before = root.copy()
        np.minimum.at(root, root[edges[0]], least)
        np.minimum.at(root, root[edges[1]], least)
        root = root[root]
        if np.array_equal(root, before):
            break
    is_root = root == np.arange(len(root))
    numbers: Groups = (np.cumsum(is_root) - 1)[root]
    return numbers


def lists_of(facts: Facts) -> set[tuple[str, str]]:
    """Return attributes that may become lists of lengths."""
    return {split.source.place for split in facts.splits} - {cut.source.place for cut in facts.cuts}


def equal_pieces(facts: Facts, groups: Groups, lists: set[tuple[str, str]]) -> list[tuple[Groups, Reason]]:
    """Return the groups of pieces that must keep equally many channels, a piece a row."""
    found = [(blocks.labels, blocks.reason) for blocks in facts.blocks]
    by_place: dict[tuple[str, str, int], list[Tensor]] = {}
    for cut in facts.cuts:
        by_place.setdefault((*cut.source.place, len(cut.labels)), []).append(cut.labels)
    for split in facts.splits:
        if split.source.place in lists:
            for index, piece in enumerate(split.pieces):
                by_place.setdefault((*split.source.place, index), []).append(piece)
        else:
            found.append((split.pieces, split.reason))
            by_place.setdefault((*split.source.place, len(split.pieces[0])), []).append(split.pieces[0])
    found += [(labels, Reason("balance", module, name)) for (module, name, _), labels in by_place.items()]
    sizes = [(labels, Reason("balance", reason.layer, reason.by)) for labels, reason in found if len(labels) > 1]
    return [(np.stack([groups[piece.reshape(-1).numpy()] for piece in labels]), reason) for labels, reason in sizes]


class _Solver:
    """Takes groups off the list of those that go until all constraints hold."""

    def __init__(self, facts: Facts, decision: Decision, weights: dict[str, Tensor], limits: Limits) -> None:
        self.facts, self.decision = facts, decision
        self.min_channels, self.round_to = limits.min_channels, limits.round_to
        self.of = [decision.of(consumer.inputs) for consumer in facts.consumers]
        self.significant = [_significant(consumer, weights[consumer.weight]) for consumer in facts.consumers]
        self.balanced = equal_pieces(facts, decision.groups, decision.lists)
        self.turns = [(np.stack([decision.of(row) for row in blocks.labels]), blocks.reason) for blocks in facts.slots]
        self.layers = self._layers()
        self.elements = [
            (name, decision.of(labels).reshape(tuple(labels.shape))) for name, labels in facts.elements.items()
        ]
        self.votes = np.zeros(len(decision.goes), dtype=np.int64)
        for consumer, of, significant in zip(facts.consumers, self.of, self.significant, strict=True):
            if consumer.padded:
                np.add.at(self.votes, of[significant], 1)

    def _layers(self) -> list[tuple[Groups, int]]:
        """Return the groups of layers, and what each must keep; an empty convolution is one of a layer of ours."""
        layers = [(norm.labels, self.min_channels) for norm in self.facts.norms.values()]
        rows = [(name, labels) for (name, dimension), labels in self.facts.rows.items() if dimension == 0]
        layers += [(labels, 1) for name, labels in rows if not self._may_be_empty(name)]
        return [(self.decision.of(labels), least) for labels, least in layers]

    def _may_be_empty(self, name: str) -> bool:
        parts = name.split(".")
        return any(".".join(parts[:length]) in self.facts.inputs for length in range(1, len(parts)))

    def stay(self, groups: Groups, reason: Reason) -> bool:
        """Keep groups; return whether one of them was to go."""
        held = groups[self.decision.goes[groups]]
        self.decision.goes[held] = False
        for group in held.tolist():
            self.decision.reasons.setdefault(group, reason)
        return bool(len(held))

    def solve(self) -> None:
        """Apply constraints until nothing changes any more."""
        blame = Blame(self.facts, self.decision.groups)
        for consumer, of, significant in zip(self.facts.consumers, self.of, self.significant, strict=True):
            live = np.unique(of[~consumer.constant.numpy()])
            for group in live[self.decision.goes[live]]:
                self.stay(group[None], blame.of(consumer, int(group)))
            if not self._may_fold(consumer):
                self.stay(of[significant], Reason("no_bias", consumer.module))
            if consumer.mean is not None and (not self._may_fold(consumer) or self.facts.uses[consumer.weight] != 1):
                self.stay(self.decision.of(consumer.mean), Reason("counted", consumer.module, "a mean"))
        changed = True
        while changed:
            balanced = self._balance() | self._take_turns() | self._follow() | self._attributes() | self._elements()
            self.decision.is_balanced |= balanced
            changed = self._represent() | balanced | self._widths()

    def _count(self, groups: Groups) -> int:
        """Return how many channels of some groups stay."""
        return int(np.count_nonzero(~self.decision.goes[groups]))

    def _may_fold(self, consumer: Consumer) -> bool:
        uses = self.facts.uses
        return consumer.is_plain and uses[consumer.weight] == 1 and uses.get(consumer.bias, 1) == 1

    def _represent(self) -> bool:
        """Keep one constant input of every padded consumer that has some to go."""
        changed = False
        for index, (consumer, of) in enumerate(zip(self.facts.consumers, self.of, strict=True)):
            if not consumer.padded or not self._may_fold(consumer):
                continue
            significant = np.flatnonzero(self.significant[index])
            size = len(of) // consumer.groups
            for group in np.unique(significant[self.decision.goes[of[significant]]] // size):
                chosen = significant[significant // size == group]
                values = np.abs(consumer.values.numpy()[chosen])
                staying = ~self.decision.goes[of[chosen]]
                if not staying.any():  # the input that most padded consumers see as a constant, then the largest
                    staying = np.arange(len(chosen)) == np.lexsort((values, self.votes[of[chosen]]))[-1]
                    changed |= self.stay(of[chosen[staying]], Reason("representative", consumer.module))
                best = chosen[staying][values[staying].argmax()]
                self.decision.representatives[index, int(group)] = int(best)
        return changed

    def _balance(self) -> bool:
        """Keep as many channels of every piece as of the fullest one."""
        changed = False
        for of, reason in self.balanced:
            target = max(map(self._count, of))
            for row in of:
                missing = max(target - self._count(row), 0)
                changed |= self.stay(self._first_to_go(row, missing), reason)
        return changed

    def _take_turns(self) -> bool:
        """Keep channels until those that a shuffle mixes come from its pieces in turns, as without pruning."""
        changed = False
        for rows, reason in self.turns:
            of, pieces = rows.reshape(-1), rows.shape[1]
            while True:
                kept = np.flatnonzero(~self.decision.goes[of])
                wrong = np.flatnonzero(kept % pieces != np.arange(len(kept)) % pieces)
                count = int(wrong[0]) if len(wrong) else len(kept)
                if not len(wrong) and count % pieces == 0:
                    break
                place = int(kept[count - 1]) + 1 if count else 0  # it goes, and belongs to the piece whose turn it is
                changed |= self.stay(of[place : place + 1], reason)
        return changed

    def _first_to_go(self, groups: Groups, count: int) -> Groups:
        going = groups[self.decision.goes[groups]]
        _, first = np.unique(going, return_index=True)
        return going[np.sort(first)][:count]

    def _follow(self) -> bool:
        """Keep channels until every length that is computed from a number of channels is right."""
        return bool(sum(self._let_follow(follow) for follow in self.facts.follows))  # all of them, not up to the first

    def _let_follow(self, follow: Follow) -> bool:
        of, leader = self.decision.of(follow.labels), self.decision.of(follow.leader)
        changed = False
        while True:
            kept, wanted = self._count(of), _computed(follow, self._count(leader))
            if kept == wanted:
                return changed
            sides = (of, leader) if wanted is not None and kept < wanted else (leader,)
            if not any(self.stay(self._first_to_go(side, 1), follow.reason) for side in sides):
                return changed | self.stay(np.concatenate([of, leader]), follow.reason)
            changed = True

    def _attributes(self) -> bool:
        """Keep channels where an attribute would have to have two values, or has none that is right."""
        changed = False
        needed: dict[tuple[str, str], list[Cut]] = {}
        for cut in self.facts.cuts:
            needed.setdefault(cut.source.place, []).append(cut)
        for place, cuts in needed.items():
            values = {cut.source.value_for(self.decision.number_kept(cut.labels)) for cut in cuts}
            if len(values) > 1 or None in values:
                for cut in cuts:
                    changed |= self.stay(self.decision.of(cut.labels), Reason("no_value", *place))
        return changed

    def _widths(self) -> bool:
        """Keep what every layer must keep at least."""
        changed = False
        for of, least in self.layers:
            kept = self._count(of)
            wanted = max(kept, min(least, len(of)))
            if self.round_to and kept < len(of):
                wanted = min(-(-wanted // self.round_to) * self.round_to, len(of))
            if wanted > kept:
                kind, by = ("min_channels", self.min_channels) if kept < least else ("round_to", self.round_to)
                changed |= self.stay(self._first_to_go(of, wanted - kept), Reason(kind, by=str(by)))
        return changed

    def _elements(self) -> bool:
        """Keep channels of stored tensors from which they cannot be cut as whole slices."""
        changed = False
        for name, of in self.elements:
            goes = self.decision.goes[of]
            if goes.any() and sliced_dimension(goes) is None:
                layer, _, attribute = name.rpartition(".")
                changed |= self.stay(of.reshape(-1), Reason("part", layer, attribute))
        return changed


def _significant(consumer: Consumer, weight: Tensor) -> NDArray[np.bool_]:
    """Return which constant inputs have an effect that is not lost in rounding."""
    constant = (consumer.constant & (consumer.values != 0)).numpy()
    chosen = np.flatnonzero(constant)
    if not len(chosen) or not consumer.is_plain or consumer.groups > 1:
        return constant
    weight = weight.detach().transpose(0, 1) if consumer.is_transposed else weight.detach()
    columns = weight.index_select(1, torch.from_numpy(chosen).to(weight.device))
    effect = _absolute(columns, range(2, weight.dim())).amax(0).double().cpu() * consumer.values[chosen].abs()
    largest = max(abs(float(bound)) for bound in weight.aminmax())
    scale = largest * (weight.numel() // len(weight))  # at most; what is above that share needs no closer look
    if bool((effect <= _NEGLIGIBLE * scale).any()):
        scale = float(_absolute(weight, range(1, weight.dim())).amax())
    constant[chosen] = (effect > _NEGLIGIBLE * scale).numpy()
    return constant


def _absolute(weight: Tensor, dimensions: Sequence[int]) -> Tensor:
    return weight.abs().flatten(dimensions[0]).sum(-1) if dimensions else weight.abs()


def _computed(follow: Follow, count: int) -> int | None:
    try:
        return follow.compute(count)
    except ArithmeticError:
        return None


def split_value(split: Split, decision: Decision) -> int | list[int]:
    """Return what an attribute must be that the code splits by: a number, or a list where pieces differ."""
    counts = [decision.number_kept(piece) for piece in split.pieces]
    return counts[0] if len(set(counts)) == 1 else counts


def sliced_dimension(goes: NDArray[np.bool_]) -> int | None:
    """Return the dimension along which whole slices go, and nothing else; None if there is none."""
    for dimension in range(goes.ndim):
        others = tuple(d for d in range(goes.ndim) if d != dimension)
        whole = goes.all(axis=others, keepdims=True)
        if np.array_equal(np.broadcast_to(whole, goes.shape), goes):
            return dimension
    return None
