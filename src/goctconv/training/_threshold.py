"""Threshold selection on the histogram of γ."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from .._checks import ArgumentError
from ._errors import ThresholdError
from ._histogram import SMALLEST, find_valley, gammas, joined

_STRAY_DECADES = 0.5  # by which a channel inside a valley must widen it, else it belongs to the edge
_FEWEST = 2  # channels on either side: one alone is an outlier, not a group


@dataclass(frozen=True)
class Threshold:
    """A threshold of abs(γ) in a valley, and what speaks for it.

    Attributes:
        value: The threshold: the middle, on a logarithmic scale, of the widest empty stretch of the valley.
        lower: The largest abs(γ) below the valley.
        upper: The smallest abs(γ) above it.
        below: The number of channels below the threshold.
        inside: The number of channels in the valley, which is not always quite empty.
        channels: The number of all channels.
        filled: How many channels per decade there are at the threshold, over the lower of the two crowds beside it:
            0 in a valley that is empty or nearly so, at most 0.75 in a valley.

    Example:
        >>> from goctconv.training._threshold import Threshold
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
        problem = (
            f"has {int((~found.isfinite()).sum())} of {len(found)} γ that are NaN or infinite: training has failed"
        )
        raise ArgumentError("model", model, problem=problem)
    values = found.sort().values.tolist()
    logs = [math.log10(max(value, SMALLEST)) for value in values]
    least, strays = max(_FEWEST, math.ceil(least_share * len(values))), math.floor(stray_share * len(values))
    widest = _widest(logs, least, strays)
    if widest is None or logs[widest[1]] - logs[widest[0]] < least_decades:
        valley = find_valley(logs, least, least_decades)
        if valley is None:
            raise ThresholdError(_no_gap(values, logs, widest, least, least_decades))
        inside, below = valley.high - valley.low - 1, bisect_left(logs, valley.bottom)
        value, ends = 10**valley.bottom, (values[valley.low], values[valley.high])
        return Threshold(value, *ends, below, inside, len(values), valley.filled)
    lower, upper = widest
    below = max(range(lower + 1, upper + 1), key=lambda index: logs[index] - logs[index - 1])
    value = 10 ** ((logs[below] + logs[below - 1]) / 2)
    return Threshold(value, values[lower], values[upper], below, upper - lower - 1, len(values))


def _widest(logs: list[float], least: int, strays: int) -> tuple[int, int] | None:
    """Return the ends, as indices, of the widest stretch with few values inside and enough on both sides."""
    ends = [
        (low, low + 1 + inside) for inside in range(strays + 1) for low in range(least - 1, len(logs) - least - inside)
    ]

    def worth(ends: tuple[int, int]) -> float:
        low, high = ends
        return logs[high] - logs[low] - _STRAY_DECADES * (high - low - 1)

    return max(ends, key=worth, default=None)


def _no_gap(
    values: list[float], logs: list[float], widest: tuple[int, int] | None, least: int, least_decades: float
) -> str:
    last = len(values) - 1
    spread = ", ".join(f"{share:.0%} {values[round(share * last)]:.1e}" for share in (0, 0.1, 0.25, 0.5, 1))
    wide = f"{logs[widest[1]] - logs[widest[0]]:.2f}" if widest else "0"
    return (
        f"there is no valley in the histogram of {len(values)} γ: the widest with at least {least} channels on either "
        f"side is {wide} decades, {least_decades:g} are asked for, and no valley is clear; quantiles of "
        f"abs(γ): {spread}. Train longer, or with a higher learning rate, until channels have faded, or choose a "
        "threshold yourself, such as 1e-3"
    )
