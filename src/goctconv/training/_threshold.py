"""Threshold selection on the histogram of γ, whose quantiles and bins the history records."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from .._checks import ArgumentError
from .._torch import BatchNorm
from ._errors import ThresholdError

HISTOGRAM_EDGES = tuple(exponent / 2 for exponent in range(-50, 5))
"""Edges of the histogram of log10 abs(γ): half decades from -25 to 2; the outer bins hold what lies beyond them."""

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
SMALLEST = 1e-45
"""Of float32: what 0 is taken for, to have a logarithm."""

_STRAY_DECADES = 0.5  # by which a channel inside a valley must widen it, else it belongs to the edge
_FEWEST = 2  # channels on either side: one alone is an outlier, not a group
_WINDOW, _STEP = 0.5, 0.1  # decades: what is counted together, and how far apart places are looked at
_FILLED = 0.75  # of the lower crowd's height: what a valley's bottom does not rise above
_DEVIATIONS = 4.5  # by which a crowd and the bottom must differ, counts being Poisson's
_LIVING = 2.0  # decades from the largest value within which the upper crowd must lie
_RIVAL = 0.5  # of the deepest valley's depth: what another must have to be chosen because it lies higher


def gammas(model: nn.Module, layers: Collection[str] | None = None) -> dict[str, Tensor]:
    """Return abs(γ) of every BatchNorm that has channels, (C,) in float64 on the processor."""
    return {
        name: module.weight.detach().abs().double().cpu()
        for name, module in model.named_modules()
        if isinstance(module, BatchNorm) and module.weight is not None and (layers is None or name in layers)
    }


def joined(found: dict[str, Tensor]) -> Tensor:
    """Return the γ of all layers together."""
    return torch.cat([*found.values(), torch.empty(0, dtype=torch.float64)])


def quantiles(values: Tensor) -> list[float]:
    """Return the quantiles that `QUANTILES` names; none of nothing."""
    if not len(values):
        return []
    ordered = values.sort().values
    return [float(ordered[round(share * (len(ordered) - 1))]) for share in QUANTILES]


def histogram(values: Tensor) -> list[int]:
    """Return how many values lie in each bin of `HISTOGRAM_EDGES`."""
    edges = torch.tensor(HISTOGRAM_EDGES[1:-1], dtype=torch.float64)
    bins = torch.bucketize(values.clamp_min(SMALLEST).log10(), edges, right=True)
    return [int(count) for count in torch.bincount(bins, minlength=len(HISTOGRAM_EDGES) - 1)]


@dataclass(frozen=True)
class Threshold:
    """A threshold of abs(γ) in a valley, and what speaks for it; `find_threshold` documents the attributes.

    Example:
        >>> found = Threshold(1e-4, lower=1e-6, upper=1e-2, below=120, inside=0, channels=400)
        >>> print(found)
        1e-04: 120 of 400 channels (30.0%) are below; the valley is 4.0 decades wide, 1e-06 to 1e-02, 0 channels inside
    """

    value: float
    lower: float
    upper: float
    below: int
    inside: int
    channels: int
    filled: float = 0.0

    @property
    def share(self) -> float:
        """The share of channels below the threshold."""
        return self.below / self.channels

    @property
    def decades(self) -> float:
        """The width of the valley: the logarithm, to base 10, of its upper end over its lower one."""
        return math.log10(max(self.upper, SMALLEST) / max(self.lower, SMALLEST))

    def to_dict(self) -> dict[str, float]:
        """Return all numbers, ready for JSON."""
        return {**vars(self), "share": self.share, "decades": self.decades}

    def __str__(self) -> str:
        return (
            f"{self.value:.0e}: {self.below} of {self.channels} channels ({self.share:.1%}) are below; the valley is "
            f"{self.decades:.1f} decades wide, {self.lower:.0e} to {self.upper:.0e}, {self.inside} channels inside"
        )


def find_threshold(
    model: nn.Module,
    *,
    layers: Collection[str] | None = None,
    least_decades: float = 1.0,
    least_share: float = 0.01,
    stray_share: float = 0.01,
) -> Threshold:
    """Find a threshold of abs(γ) in the widest valley of its histogram, on a logarithmic scale.

    After a long training there is an empty valley between γ that have faded and the others. After a short one, some are
    on their way: then a valley counts, whose bottom holds at most three quarters as many channels per decade as either
    crowd beside it, more clearly than by chance. Of several that are deep, the uppermost bounds the living channels.

    Args:
        model: A network that was trained with `goctconv.DynamicWeightDecay`.
        layers: The BatchNorm layers whose γ are looked at, by name; None: all.
        least_decades: How wide a valley must be: 1 is a factor of 10.
        least_share: Which share of all channels must lie on either side of it, and at least two of them.
        stray_share: Which share of all channels may lie inside a valley that is no valley.

    Returns:
        A threshold and what speaks for it, which ``print`` shows in words, and ``to_dict()`` returns for JSON. Its
        attributes:

        - ``value``: the threshold, which is the middle, on a logarithmic scale, of the widest empty stretch of the
          valley;
        - ``lower``, ``upper``: the largest abs(γ) below the valley, and the smallest above it;
        - ``decades``: the width of the valley, log10(upper / lower);
        - ``below``: the number of channels below the threshold;
        - ``inside``: the number of channels in the valley, which is not always empty;
        - ``channels``: the number of all channels;
        - ``share``: the share of channels below the threshold;
        - ``filled``: the density of channels at the threshold, over the lower of the densities of the two crowds beside
          it: 0 in a valley that is empty or nearly so, at most 0.75 in any.

    Raises:
        ThresholdError: There is neither: then nothing tells faded channels from others.
        ArgumentError: The model has no BatchNorm with γ, or a γ is not finite.

    Example:
        >>> import torch
        >>> from goctconv.training import find_threshold
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
        >>> with torch.no_grad():
        ...     gamma = model[1].weight[:3].copy_(torch.tensor([1e-7, 0.0, 1e-6]))
        >>> found = find_threshold(model)
        >>> f"{found.value:.0e}", found.below, round(found.decades)
        ('1e-03', 3, 6)
    """
    found = joined(gammas(model, layers))
    if not len(found):
        raise ArgumentError("model", model, problem="has no BatchNorm with γ (affine=True) among the layers")
    if not found.isfinite().all():
        bad = int((~found.isfinite()).sum())
        problem = f"has {bad} of {len(found)} γ that are NaN or infinite: training has failed"
        raise ArgumentError("model", model, problem=problem)
    values = found.sort().values.tolist()
    logs = [math.log10(max(value, SMALLEST)) for value in values]
    least, strays = max(_FEWEST, math.ceil(least_share * len(values))), math.floor(stray_share * len(values))
    lower, upper = _widest(logs, least, strays) or (0, 0)
    if (decades := logs[upper] - logs[lower]) < least_decades or lower == upper:
        valley = find_valley(logs, least, least_decades)
        if valley is None:
            raise ThresholdError(_no_valley(values, decades, least, least_decades))
        inside, below = valley.high - valley.low - 1, bisect_left(logs, valley.bottom)
        value, ends = 10**valley.bottom, (values[valley.low], values[valley.high])
        return Threshold(value, *ends, below, inside, len(values), valley.filled)
    below = max(range(lower + 1, upper + 1), key=lambda index: logs[index] - logs[index - 1])
    value = 10 ** ((logs[below] + logs[below - 1]) / 2)
    return Threshold(value, values[lower], values[upper], below, upper - lower - 1, len(values))


def _widest(logs: list[float], least: int, strays: int) -> tuple[int, int] | None:
    """Return the ends, as indices, of the widest stretch with few values inside and enough on both sides."""
    insides = range(strays + 1)
    ends = ((low, low + 1 + inside) for inside in insides for low in range(least - 1, len(logs) - least - inside))
    return max(ends, key=lambda at: logs[at[1]] - logs[at[0]] - _STRAY_DECADES * (at[1] - at[0] - 1), default=None)


def _no_valley(values: list[float], decades: float, least: int, least_decades: float) -> str:
    last = len(values) - 1
    spread = ", ".join(f"{share:.0%} {values[round(share * last)]:.1e}" for share in (0, 0.1, 0.25, 0.5, 1))
    wide = f"{decades:.2f}" if decades else "0"
    return (
        f"there is no valley in the histogram of {len(values)} γ: the widest with at least {least} channels on either "
        f"side is {wide} decades, {least_decades:g} are asked for, and no valley is clear; quantiles of "
        f"abs(γ): {spread}. Train longer, or with a higher learning rate of γ, until channels have faded, or choose a "
        f"threshold yourself: {values[round(last / 4)]:.1e} removes a quarter of the channels"
    )


@dataclass(frozen=True)
class Valley:
    """A sparse stretch of sorted logarithms."""

    low: int  # index of the last value below it
    high: int  # index of the first value above it
    bottom: float  # where it is lowest
    filled: float  # the share of the lower crowd's height that its bottom has
    depth: int  # how many values fewer there are at the bottom than in the lower crowd


def find_valley(logs: list[float], least: int, least_decades: float) -> Valley | None:
    """Return the uppermost of the deep valleys.

    A crowd is the half decade with most values, left or right of a place; the right one must be near the largest value.
    A valley's bottom holds at most three quarters of the lower crowd beside it, by a difference beyond chance; the
    valley reaches as far as half decades hold less than the mean of the two. On either side, at least ``least`` of
    the sorted logarithms must lie; on average, the crowds lie ``least_decades`` from the bottom.
    """
    if len(logs) <= 2 * least:
        return None
    places = [logs[0] + _STEP * index for index in range(math.ceil((logs[-1] - logs[0]) / _STEP) + 1)]
    counts = [_count(logs, place) for place in places]
    left, right = _crowds(counts), [len(counts) - 1 - at for at in _crowds(counts[::-1])[::-1]]
    crowds = [min(counts[below], counts[above]) for below, above in zip(left, right, strict=True)]
    found = [
        _valley(logs, places, counts, at, crowd)
        for at, (count, crowd) in enumerate(zip(counts, crowds, strict=True))
        if (right[at] - left[at]) * _STEP >= 2 * least_decades
        and logs[-1] - places[right[at]] <= _LIVING
        and count <= _FILLED * crowd
        and crowd - count > _DEVIATIONS * math.sqrt(crowd + count)
    ]
    found = [valley for valley in found if valley.low + 1 >= least and len(logs) - valley.high >= least]
    deepest = max((valley.depth for valley in found), default=0)
    high = max((valley.high for valley in found if valley.depth >= _RIVAL * deepest), default=0)
    return max((valley for valley in found if valley.high == high), key=lambda valley: valley.depth, default=None)


def _valley(logs: list[float], places: list[float], counts: list[int], at: int, crowd: int) -> Valley:
    first = last = at
    most = (counts[at] + crowd) / 2
    while first and counts[first - 1] <= most:
        first -= 1
    while last < len(counts) - 1 and counts[last + 1] <= most:
        last += 1
    low, high = bisect_left(logs, places[first]) - 1, bisect_right(logs, places[last])
    lowest = [place for place in range(first, last + 1) if counts[place] == counts[at]]
    return Valley(low, high, places[lowest[len(lowest) // 2]], counts[at] / crowd, crowd - counts[at])


def _count(logs: list[float], place: float) -> int:
    return bisect_right(logs, place + _WINDOW / 2) - bisect_left(logs, place - _WINDOW / 2)


def _crowds(counts: list[int]) -> list[int]:
    """Return, for every place, where the highest count before it is, at least a window away; the first if none is."""

    def higher(first: int, second: int) -> int:
        return max(first, second, key=counts.__getitem__)

    highest = list(accumulate(range(len(counts)), higher))
    return [highest[max(at - round(_WINDOW / _STEP), 0)] for at in range(len(counts))]
