"""Factors of M by what a channel costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from .._checks import ArgumentError, ArgumentTypeError, nearest

Cost: TypeAlias = str | Mapping[str, float] | None
"""``"resolution"``, ``"macs"``, a factor for every layer by name, or None for 1."""

_MEASURED = ("resolution", "macs")


def check_cost(cost: object, names: Sequence[str], known: Sequence[str]) -> None:
    """Check a cost against the names of the layers that are decayed, and of all that are known."""
    if cost is None or (isinstance(cost, str) and cost in _MEASURED):
        return
    expected = "None, 'resolution', 'macs' or a mapping from layers to factors"
    if isinstance(cost, str):
        raise ArgumentError("cost", cost, f"{expected}{nearest(cost, _MEASURED)}")
    if not isinstance(cost, Mapping):
        raise ArgumentTypeError("cost", cost, expected)
    unknown = [name for name in cost if name not in known]
    if unknown:
        problem = f"names {unknown[0]!r}, which is none of the {len(known)} BatchNorm layers"
        raise ArgumentError("cost", cost, problem=f"{problem}{nearest(unknown[0], known)}")
    missing = [name for name in names if name not in cost]
    if missing:
        cure = f"give one for each of the {len(names)} layers"
        raise ArgumentError("cost", cost, problem=f"has no factor for {', '.join(missing[:3])}", cure=cure)
    for name in names:
        if not (math.isfinite(cost[name]) and cost[name] >= 0):
            raise ArgumentError(f"cost[{name!r}]", cost[name], "finite and not negative")


def cost_factors(cost: Cost, resolution: Mapping[str, float], macs: Mapping[str, float]) -> dict[str, float]:
    """Return the factor of every layer that has been run; the resolution of others is 0.

    Those of ``"resolution"`` are 2 to the number of halvings between the layer's map and the smallest one, in the
    spirit of the published rule; those of ``"macs"`` are relative to the mean over layers.
    """
    known = [name for name, side in resolution.items() if side > 0]
    if cost is None or not known:
        return dict.fromkeys(resolution, 1.0)
    if isinstance(cost, Mapping):
        return {name: float(cost[name]) for name in resolution}
    if cost == "resolution":
        coarsest = min(resolution[name] for name in known)
        return {name: resolution[name] / coarsest for name in known}
    mean = sum(macs[name] for name in known) / len(known)
    return {name: macs[name] / mean if mean else 1.0 for name in known}
