"""Balanced choice: channels are chosen in packages that leave equal pieces equal."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .propagate import FIRST, Facts, Follow
from .solve import Groups, components, equal_pieces, lists_of

_Channel = tuple[str, int]  # of a BatchNorm
_CAPS = (1, 3, 0)
"""Sizes of a package that are tried, in units of the smallest one that the lengths of pieces allow; 0 for any."""
_FAILURES = 2  # in a row, after which the rest of a family stays


@dataclass(frozen=True)
class _Unit:
    """Channels that are chosen together, their mean score, and their place in their layer, from 0 to 1."""

    channels: list[_Channel]
    score: float
    place: float


@dataclass(frozen=True)
class _Constraint:
    """Pieces of a length that must lose equally many channels: how often each unit is in each piece."""

    pieces: list[Counter[int]]
    length: int


@dataclass(frozen=True)
class _Package:
    """Units that leave all pieces balanced, and their place in their family or layer, from 0 to 1."""

    channels: list[_Channel]
    score: float
    place: float


def balanced_masks(
    scored: dict[str, Tensor],
    facts: Facts,
    *,
    groups: bool,
    threshold: float | None,
    ratio: float | None,
    scope: str,
    max_ratio: float,
    excluded: set[str],
) -> dict[str, Tensor]:
    """Return which channels are masked, by layer: the packages of the lowest mean score.

    Args:
        scored: Scores of channels by BatchNorm.
        facts: What the network is like before it is masked.
        groups: Whether channels that can only go together are one unit.
        threshold: All units of a package must have a score below it.
        ratio: The share of channels in place of that, which is met to half a package.
        scope: Whether the share is of all channels, or of every layer's.
        max_ratio: The largest share of a layer that is masked.
        excluded: Layers that are not masked.
    """
    scored = {name: score for name, score in scored.items() if name not in excluded}
    masks = {name: torch.zeros(len(score), dtype=torch.bool) for name, score in scored.items()}
    sizes = {name: len(mask) for name, mask in masks.items()}
    most = {name: int(max_ratio * size + 1e-9) for name, size in sizes.items()}
    share = 1.0 if ratio is None else float(ratio)
    wanted = {name: round(share * size) if scope == "layer" else size for name, size in sizes.items()}
    left = round(share * sum(sizes.values()))
    packages = _Packages(scored, facts, groups, math.inf if threshold is None else threshold).found()
    for package in sorted(packages, key=lambda package: (package.score, package.place)):
        counts = Counter(name for name, _ in package.channels)
        if len(package.channels) > 2 * left or any(
            count > most[name] or count > 2 * wanted[name] for name, count in counts.items()
        ):
            continue
        left -= len(package.channels)
        for name, count in counts.items():
            most[name] -= count
            wanted[name] -= count
        for name, channel in package.channels:
            masks[name][channel] = True
    return masks


class _Packages:
    """Finds packages: the smallest sets of units with low scores of which all pieces hold equally many."""

    def __init__(self, scored: dict[str, Tensor], facts: Facts, groups: bool, below: float) -> None:
        self.below = below
        self.units: list[_Unit] = []
        self.of: dict[int, list[int]] = defaultdict(list)  # units of a component; of the last BatchNorm first
        self.held: set[int] = set()  # units in pieces that must stay
        found = components(facts)
        self._add_units(scored, facts, found, groups)
        stuck = [found[norm.labels.numpy()] for name, norm in facts.norms.items() if name not in scored]
        stuck += [found[labels.numpy()] for labels, _ in facts.frozen]
        stuck += [found[follow.leader.numpy()] for follow in facts.follows if not len(follow.labels)]
        self.constraints = list(self._constraints(facts, found, set(np.concatenate([[0], *stuck]).tolist())))
        self.hits: dict[int, list[tuple[int, int, int]]] = defaultdict(list)  # constraint, piece, how often; by unit
        for index, constraint in enumerate(self.constraints):
            for piece, counts in enumerate(constraint.pieces):
                for unit, often in counts.items():
                    self.hits[unit].append((index, piece, often))

    def _add_units(self, scored: dict[str, Tensor], facts: Facts, found: Groups, groups: bool) -> None:
        members: dict[tuple[int, _Channel | None], list[tuple[_Channel, float]]] = defaultdict(list)
        for name, score in reversed(scored.items()):
            norm = facts.norms.get(name)
            labels = np.zeros(len(score), dtype=np.int64) if norm is None else norm.labels.numpy()
            for channel, (label, value) in enumerate(zip(labels.tolist(), score.tolist(), strict=True)):
                group = int(found[label]) if label >= FIRST else -1
                is_alone = not groups or group < 0
                members[group, (name, channel) if is_alone else None].append(((name, channel), value))
        for unit, ((group, _), its) in enumerate(members.items()):
            channels = [channel for channel, _ in its]
            mean = sum(value for _, value in its) / len(its)
            self.units.append(_Unit(channels, mean, channels[0][1] / len(scored[channels[0][0]])))
            if group >= 0:
                self.of[group].append(unit)

    def _constraints(self, facts: Facts, found: Groups, stuck: set[int]) -> Iterator[_Constraint]:
        """Give the constraints; of components that have several units, one for each of those."""
        seen = set()
        matrices = [pieces for pieces, _ in equal_pieces(facts, found, lists_of(facts))]
        slots = [found[side_by_side.numpy()][:, None] for blocks in facts.slots for side_by_side in blocks.labels]
        for matrix in [*matrices, *_proportions(facts, found), *slots]:
            for rank in range(max((len(self.of[group]) for group in matrix.reshape(-1).tolist()), default=0)):
                pieces = [self._units_at(row, rank, stuck) for row in matrix.tolist()]
                key = frozenset(frozenset(piece.items()) for piece in pieces)
                if key not in seen and (rank == 0 or all(pieces)):
                    seen.add(key)
                    yield _Constraint(pieces, matrix.shape[1])

    def _units_at(self, groups: list[int], rank: int, stuck: set[int]) -> Counter[int]:
        units = [(group, self.of[group][rank]) for group in groups if rank < len(self.of[group])]
        self.held.update(unit for group, unit in units if group in stuck)
        return Counter(unit for group, unit in units if group not in stuck)

    def found(self) -> Iterator[_Package]:
        """Give the packages of which all units are below the threshold."""
        self.free = {unit for unit, its in enumerate(self.units) if its.score < self.below} - self.held
        for family in self._families():
            sets = list(self._sets_of(family))
            for index, units in enumerate(sets):
                score = sum(self.units[unit].score for unit in units) / len(units)
                channels = [channel for unit in units for channel in self.units[unit].channels]
                yield _Package(channels, score, index / len(sets) if len(sets) > 1 else self.units[units[0]].place)

    def _families(self) -> Iterator[list[int]]:
        """Give the units that constraints join, directly or by others; the lowest scores first."""
        left = set(self.free)
        for first in range(len(self.units)):
            if first not in left:
                continue
            family, new, seen = [], [first], set()
            left.discard(first)
            while new:
                unit = new.pop()
                family.append(unit)
                for index, _, _ in self.hits[unit]:
                    if index in seen:
                        continue
                    seen.add(index)
                    others = {other for piece in self.constraints[index].pieces for other in piece} & left
                    left -= others
                    new += others
            yield sorted(family, key=lambda unit: (self.units[unit].score, unit))

    def _sets_of(self, family: list[int]) -> Iterator[list[int]]:
        """Give disjoint sets of units of a family, each of which is balanced."""
        indices = sorted({index for unit in family for index, _, _ in self.hits[unit]})
        if not indices:
            yield from ([unit] for unit in family)
        elif len(indices) == 1 and all(len(self.hits[unit]) == 1 == self.hits[unit][0][2] for unit in family):
            pieces = self.constraints[indices[0]].pieces
            yield from map(list, zip(*([unit for unit in family if unit in piece] for piece in pieces), strict=False))
        else:
            yield from self._searched(family, indices)

    def _searched(self, family: list[int], indices: Sequence[int]) -> Iterator[list[int]]:
        lengths = [self.constraints[index].length for index in indices]
        smallest = math.gcd(*(length for length in lengths if length > 1)) or 1  # slots are of one
        limit = 50 + sum(len(self.constraints[index].pieces) for index in indices)
        failures = 0
        for seed in family:
            if seed not in self.free or failures == _FAILURES:
                continue
            units = None
            for cap in _CAPS:
                units = units or _Search(self, seed, cap / smallest if cap else 1.0, limit).found()
            failures = 0 if units else failures + 1
            self.free -= set(units or [seed])
            if units:
                yield units


class _Search:
    """A depth-first search of a set that holds a unit, and fills at most a share of each piece."""

    def __init__(self, packages: _Packages, seed: int, share: float, limit: int) -> None:
        self.packages, self.share, self.limit = packages, share, limit
        self.units = [seed]
        self.counts: dict[int, list[int]] = {}
        self._count(seed, 1)

    def found(self) -> list[int] | None:
        """Return the set; None if there is none, or it is too far to seek."""
        if not self._fits(self.units[0]):
            return None
        choices: list[Iterator[int]] = []
        candidates = self._candidates()
        while candidates is not None and self.limit > 0:
            self.limit -= 1
            choices.append(iter(candidates))
            while (unit := next(choices[-1], None)) is None:
                choices.pop()
                if not choices:
                    return None
                self._count(self.units.pop(), -1)
            self.units.append(unit)
            self._count(unit, 1)
            candidates = self._candidates()
        return self.units if candidates is None else None

    def _count(self, unit: int, by: int) -> None:
        for index, piece, often in self.packages.hits[unit]:
            counts = self.counts.setdefault(index, [0] * len(self.packages.constraints[index].pieces))
            counts[piece] += by * often

    def _fits(self, unit: int, more: int = 0) -> bool:
        return all(
            self.counts.get(index, {piece: 0})[piece] + more * often
            <= max(self.share * self.packages.constraints[index].length + 1e-9, 1)
            for index, piece, often in self.packages.hits[unit]
        )

    def _candidates(self) -> list[int] | None:
        """Return the units that can fill the piece for which there are fewest; None if all pieces are full."""
        best: list[int] | None = None
        for index, counts in self.counts.items():
            most = max(counts)
            for piece, count in enumerate(counts):
                if count == most:
                    continue
                units = self.packages.free.intersection(self.packages.constraints[index].pieces[piece])
                units = {unit for unit in units.difference(self.units) if self._fits(unit, 1)}
                if best is None or len(units) < len(best):
                    best = sorted(units, key=self._cost)
                if len(best) < 2:  # no choice
                    return best
        return best

    def _cost(self, unit: int) -> tuple[int, float, int]:
        """Return in how many constraints a unit would make others necessary, and its score."""
        more = 0
        for index, piece, often in self.packages.hits[unit]:
            counts = self.counts.get(index, ())
            more += not counts or counts[piece] + often > max(counts)
        return more, self.packages.units[unit].score, unit


def _proportions(facts: Facts, found: Groups) -> list[NDArray[np.int64]]:
    """Return pieces whose length is computed in proportion to others, each repeated so that both are of one length."""
    return [pair for follow in facts.follows if (pair := _proportion(follow, found)) is not None]


def _proportion(follow: Follow, found: Groups) -> NDArray[np.int64] | None:
    length, whole = len(follow.labels), len(follow.leader)
    common = math.gcd(length, whole)
    if not length or not whole:
        return None
    for fewer in range(common):
        if follow.compute(whole - fewer * (whole // common)) != length - fewer * (length // common):
            return None
    parts = np.repeat(follow.labels.numpy(), whole // common), np.repeat(follow.leader.numpy(), length // common)
    return np.stack([found[part] for part in parts])
