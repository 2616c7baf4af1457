"""The scales γ at one time: themselves, or counts of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ._scales import histogram
from ._sources import Vector, scales_of, vector


class Spread(Protocol):
    """How the scales are spread at one time, on a logarithmic scale."""

    @property
    def channels(self) -> int:
        """How many there are."""
        ...

    def shares(self, edges: Vector) -> Vector:
        """Return the share of them in each bin."""
        ...

    def quantile(self, share: float) -> float:
        """Return the logarithm, to base 10, below which a share of them lies."""
        ...

    def below(self, limit: float) -> str:
        """Return how many lie below a logarithm, in words."""
        ...


@dataclass(frozen=True)
class Values:
    """Known one by one, as logarithms."""

    logarithms: Vector

    @property
    def channels(self) -> int:
        """How many there are."""
        return len(self.logarithms)

    def shares(self, edges: Vector) -> Vector:
        """Return the share of them in each bin."""
        return histogram(self.logarithms, edges) / self.channels

    def quantile(self, share: float) -> float:
        """Return the logarithm, to base 10, below which a share of them lies."""
        return float(np.quantile(self.logarithms, share))

    def below(self, limit: float) -> str:
        """Return how many lie below a logarithm, in words."""
        return str(int((self.logarithms < limit).sum()))


@dataclass(frozen=True)
class Counts:
    """Known as a histogram of their logarithms; within a bin, they are taken to be spread evenly."""

    counts: Vector
    edges: Vector

    @property
    def channels(self) -> int:
        """How many there are."""
        return int(self.counts.sum())

    def shares(self, edges: Vector) -> Vector:
        """Return the share of them in each bin."""
        return np.diff(np.interp(edges, self.edges, self._summed())) / self.channels

    def quantile(self, share: float) -> float:
        """Return the logarithm, to base 10, below which a share of them lies."""
        summed = self._summed()
        kept = np.flatnonzero(np.diff(summed) > 0)
        rank = int(np.searchsorted(summed[kept + 1], share * self.channels))
        first = int(kept[min(rank, len(kept) - 1)])
        within = (share * self.channels - summed[first]) / self.counts[first]
        return float(self.edges[first] + min(max(within, 0), 1) * (self.edges[first + 1] - self.edges[first]))

    def below(self, limit: float) -> str:
        """Return how many lie below a logarithm, in words."""
        return f"about {np.interp(limit, self.edges, self._summed()):.0f}"

    def _summed(self) -> Vector:
        return np.concatenate([[0.0], np.cumsum(self.counts)])


def spread_of(entry: Any, edges: Sequence[float] | None, smallest: float, name: str) -> Spread:
    """Return how the γ of an entry are spread.

    Raises:
        TypeError: It does not hold numbers.
        ValueError: It is empty, or no histogram with these edges.
    """
    if edges is None:
        return Values(np.log10(np.maximum(scales_of(entry, None, name), smallest)))
    counts, ends = vector(entry, name), vector(edges, "edges")
    if len(ends) != len(counts) + 1 or not (np.diff(ends) > 0).all():
        raise ValueError(
            f"edges has {len(ends)} numbers, and {name} {len(counts)} counts: there must be one edge more than counts, "
            "rising logarithms of abs(γ)"
        )
    if not (counts >= 0).all() or not 0 < counts.sum() < np.inf:
        raise ValueError(f"{name} is {entry!r}, expected how many channels lie between the edges, and at least one")
    return Counts(counts, ends)
