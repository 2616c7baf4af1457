"""What a channel costs: factors of its decay, so that expensive channels fade first."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import TypeAlias

from ._activation_statistics import ActivationStatistics

Cost: TypeAlias = str | Mapping[str, float] | None
"""``"resolution"``, ``"macs"``, a factor for every layer by name, or None for 1."""

_MEASURED = ("resolution", "macs")


def check_cost(cost: Cost, names: list[str], known: list[str]) -> None:
    """Check a cost against the names of the layers that are decayed, and of all that are known.

    Raises:
        ValueError: An unknown word, a layer without a factor, a factor that is negative or not finite.
        TypeError: Something else.
    """
    if cost is None or (isinstance(cost, str) and cost in _MEASURED):
        return
    if isinstance(cost, str):
        near = difflib.get_close_matches(cost, _MEASURED, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"cost={cost!r} must be 'resolution', 'macs' or factors of the layers{meant}")  # noqa: TRY004
    if not isinstance(cost, Mapping):
        raise TypeError(f"cost={cost!r} must be None, 'resolution', 'macs' or a mapping from layers to factors")
    unknown = [name for name in cost if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"cost: {unknown[0]!r} is none of the {len(known)} BatchNorm layers{meant}")
    missing = [name for name in names if name not in cost]
    if missing:
        raise ValueError(
            f"cost has no factor for {', '.join(missing[:3])}: give one for each of the {len(names)} layers"
        )
    for name in names:
        if not (math.isfinite(cost[name]) and cost[name] >= 0):
            raise ValueError(f"cost: the factor of {name!r} is {cost[name]!r}; it must be finite and not negative")


def factors(cost: Cost, layers: list[ActivationStatistics]) -> dict[str, float]:
    """Return the factor of every layer that has been run.

    Those of ``"resolution"`` are 2 to the number of halvings between the layer's map and the smallest one, in the
    spirit of the published rule; those of ``"macs"`` are relative to the mean over layers.
    """
    known = [layer for layer in layers if layer.resolution > 0]
    if cost is None or not known:
        return {layer.name: 1.0 for layer in layers}
    if isinstance(cost, Mapping):
        return {layer.name: float(cost[layer.name]) for layer in layers}
    if cost == "resolution":
        coarsest = min(layer.resolution for layer in known)
        return {layer.name: layer.resolution / coarsest for layer in known}
    mean = sum(layer.macs for layer in known) / len(known)
    return {layer.name: layer.macs / mean if mean else 1.0 for layer in known}
