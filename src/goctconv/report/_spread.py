"""Spread of γ at one time: of the values themselves, or of counts and quantiles of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._checks import ArgumentError
from ._data import Vector, gammas_of, vector


@dataclass(frozen=True)
class _Values:
    """Logarithms to base 10 of abs(γ) of all channels."""

    logarithms: Vector

    @property
    def channels(self) -> int:
        return len(self.logarithms)

    def shares(self, edges: Vector) -> Vector:
        return count_in(self.logarithms, edges) / self.channels

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.logarithms, share))

    def below(self, limit: float) -> str:
        return str(int((self.logarithms < limit).sum()))


@dataclass(frozen=True)
class _Counts:
    """Counts of channels between logarithms, spread evenly within a bin; and quantiles, where they were recorded."""

    counts: Vector
    edges: Vector
    levels: Vector  # shares whose quantiles are known
    quantiles: Vector  # their logarithms

    @property
    def channels(self) -> int:
        return int(self.counts.sum())

    def shares(self, edges: Vector) -> Vector:
        """Return the share of channels in each bin."""
        return np.diff(np.interp(edges, self.edges, self._summed())) / self.channels

    def quantile(self, share: float) -> float:
        """Return the logarithm below which a share of the channels lies: between recorded ones, or estimated."""
        if len(self.levels):
            return float(np.interp(share, self.levels, self.quantiles))
        summed = self._summed()
        kept = np.flatnonzero(np.diff(summed) > 0)
        rank = int(np.searchsorted(summed[kept + 1], share * self.channels))
        first = int(kept[min(rank, len(kept) - 1)])
        within = (share * self.channels - summed[first]) / self.counts[first]
        return float(self.edges[first] + min(max(within, 0), 1) * (self.edges[first + 1] - self.edges[first]))

    def below(self, limit: float) -> str:
        """Return how many channels lie below a logarithm, in words."""
        return f"about {np.interp(limit, self.edges, self._summed()):.0f}"

    def _summed(self) -> Vector:
        return np.concatenate([[0.0], np.cumsum(self.counts)])


Spread: TypeAlias = _Values | _Counts


def count_in(logarithms: Vector, edges: Vector) -> NDArray[np.int64]:
    """Return how many lie in each bin; those a little outside, by rounding, are in the outermost ones."""
    return np.histogram(np.clip(logarithms, edges[0], edges[-1]), edges)[0].astype(np.int64)


def spread_of_values(entry: Any, smallest: float, argument: str) -> Spread:
    """Return how γ are spread; smaller values than ``smallest`` count as it."""
    return _Values(np.log10(np.maximum(gammas_of(entry, None, argument), smallest)))


def spread_of_counts(entry: Any, edges: Sequence[float], levels: Any, quantiles: Any, argument: str) -> Spread:
    """Return how γ are spread of which counts are known, and quantiles of abs(γ) at some levels, or None.

    Raises:
        ArgumentError: It is no histogram with these edges.
    """
    counts, ends = vector(entry, argument), vector(edges, "edges")
    if len(ends) != len(counts) + 1 or not (np.diff(ends) > 0).all():
        expected = f"{len(counts) + 1} rising logarithms of abs(γ), one more than {argument} has counts"
        raise ArgumentError("edges", edges, expected)
    if not (counts >= 0).all() or not 0 < counts.sum() < np.inf:
        raise ArgumentError(argument, entry, "counts of channels between the edges, at least one of them above 0")
    shares, known = (vector([] if part is None else part, argument) for part in (levels, quantiles))
    if len(shares) != len(known):
        shares = known = np.empty(0)
    return _Counts(counts, ends, shares, np.log10(np.maximum(known, 10.0 ** ends[0])))
