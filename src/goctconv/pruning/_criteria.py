"""Which channels are masked: scores of BatchNorm channels, and thresholds or shares of them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from .._torch import BatchNorm
from ._facts import Facts

Criterion: TypeAlias = str | Callable[[nn.Module], Mapping[str, Tensor]]
"""A name, or a function of the model that returns scores (C,) of BatchNorm channels by module; low ones are masked."""

_OF_FILTERS = ("l1_filter", "geometric_median")
_NAMES = ("gamma", "gamma_first", *_OF_FILTERS)


def check_criterion(criterion: Criterion, threshold: float | None, ratio: float | None, scope: str | None) -> None:
    """Check that a choice of channels is one.

    Raises:
        ValueError: An unknown name; both or none of threshold and ratio; one that cannot be.
        TypeError: A criterion that is neither a name nor a function.
    """
    if not callable(criterion) and not isinstance(criterion, str):
        raise TypeError(f"criterion={criterion!r} must be one of {', '.join(_NAMES)}, or a function of the model")
    if isinstance(criterion, str) and criterion not in _NAMES:
        near = difflib.get_close_matches(criterion, _NAMES, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"criterion={criterion!r} must be one of {', '.join(_NAMES)}, or a function{meant}")
    if (threshold is None) == (ratio is None):
        raise ValueError(
            f"threshold={threshold!r}, ratio={ratio!r}: give one of them: a threshold of scores (1e-20 is published "
            "for abs(γ)) or the share of channels to mask"
        )
    for name, value in (("threshold", threshold), ("ratio", ratio)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float | np.floating)):
            raise TypeError(f"{name}={value!r} must be a number")
    if threshold is not None and not (math.isfinite(threshold) and threshold >= 0):
        raise ValueError(f"threshold={threshold!r} must be finite and not negative")
    if ratio is not None and not 0 <= ratio < 1:
        raise ValueError(f"ratio={ratio!r} must be a share of channels, at least 0 and below 1")
    if scope not in {None, "global", "layer"}:
        raise ValueError(f"scope={scope!r} must be 'global' or 'layer'")


def scores(
    criterion: Criterion, model: nn.Module, norms: dict[str, BatchNorm], facts: Callable[[], Facts]
) -> dict[str, Tensor]:
    """Return a score for every channel of every layer, on the processor, in float64.

    Raises:
        ValueError: A function gave no scores, or others than one per channel.
    """
    if callable(criterion):
        return _checked(criterion(model), norms)
    own = {name: norm.weight.detach().abs().double().cpu() for name, norm in norms.items()}
    if criterion == "gamma":
        return own
    found = facts()
    if criterion == "gamma_first":
        return {**own, **{name: own[first] for name, first in first_of_chain(found).items() if name in own}}
    scored = _filter_scores(criterion, norms, found, dict(model.named_parameters()))
    if not scored:
        raise ValueError(f"criterion={criterion!r} scores filters, and no BatchNorm here comes right behind a layer")
    return scored


def scope_of(criterion: Criterion, scope: str | None) -> str:
    """Return what a share of channels is a share of; scores of filters of two layers do not compare."""
    return scope or ("layer" if criterion in _OF_FILTERS else "global")


def _checked(given: Any, norms: dict[str, BatchNorm]) -> dict[str, Tensor]:
    if not isinstance(given, Mapping):
        raise TypeError(
            f"criterion: the function returned {type(given).__name__}, expected a dict of scores by BatchNorm"
        )
    found = {}
    for name, score in given.items():
        if name not in norms:
            raise ValueError(f"criterion: the function scores {name!r}, which is no BatchNorm with a scale")
        if not isinstance(score, Tensor) or score.shape != (norms[name].num_features,):
            shape = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
            raise ValueError(
                f"criterion: the score of {name!r} is {shape}, expected a tensor ({norms[name].num_features},)"
            )
        found[name] = score.detach().double().cpu()
        if bad := int(found[name].isnan().sum()):
            raise ValueError(f"criterion: the score of {name!r} has {bad} values that are NaN")
    if not found:
        raise ValueError("criterion: the function gave no scores")
    return found


def first_of_chain(facts: Facts) -> dict[str, str]:
    """Return, for every BatchNorm, the first one of the same channels: a chain of depthwise layers has several."""
    firsts: dict[bytes, str] = {}
    return {name: firsts.setdefault(norm.labels.numpy().tobytes(), name) for name, norm in facts.norms.items()}


def _filter_scores(
    criterion: str, norms: dict[str, BatchNorm], facts: Facts, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return scores of the filters that make the channels of a BatchNorm, where one layer makes them."""
    makers = {labels.numpy().tobytes(): (name, 0) for name, labels in facts.depthwise.items()}
    for reader in facts.readers:
        dimension = 1 if (reader.weight, 1) in facts.rows and reader.outputs is facts.rows[reader.weight, 1] else 0
        makers[reader.outputs.numpy().tobytes()] = reader.weight, dimension
    found = {}
    for name, norm in facts.norms.items():
        maker, dimension = makers.get(norm.labels.numpy().tobytes(), ("", 0))
        weight = weights.get(maker)
        if weight is None or name not in norms or weight.shape[dimension] != norms[name].num_features:
            continue
        filters = weight.detach().double().cpu().movedim(dimension, 0).flatten(1)
        if criterion == "l1_filter":
            found[name] = filters.abs().sum(1)
        else:
            found[name] = torch.cdist(filters, filters).sum(1)
    return found


def masks(
    scored: dict[str, Tensor],
    *,
    threshold: float | None,
    ratio: float | None,
    scope: str,
    max_ratio: float,
    excluded: set[str],
) -> dict[str, Tensor]:
    """Return which channels are masked, by layer; the lowest scores, at most ``max_ratio`` of a layer."""
    scored = {name: score for name, score in scored.items() if name not in excluded}
    if not scored:
        return {}
    if threshold is not None:
        chosen = {name: score < threshold for name, score in scored.items()}
    elif scope == "layer":
        chosen = {name: _lowest(score, round(float(ratio or 0) * len(score))) for name, score in scored.items()}
    else:
        together = torch.cat(list(scored.values()))
        places = torch.cat([torch.linspace(0, 1, len(score)) for score in scored.values()])
        count = round(float(ratio or 0) * len(together))
        parts = _lowest(together, count, places).split(  # type: ignore[no-untyped-call]
            [len(score) for score in scored.values()]
        )
        chosen = dict(zip(scored, parts, strict=True))
    limited = {}
    for name, mask in chosen.items():
        allowed = int(max_ratio * len(mask) + 1e-9)
        limited[name] = mask if int(mask.sum()) <= allowed else mask & _lowest(scored[name], allowed)
    return limited


def _lowest(score: Tensor, count: int, places: Tensor | None = None) -> Tensor:
    """Return which scores are lowest; of equal ones those at the lowest places, so that no layer goes as a whole."""
    order = np.lexsort((np.arange(len(score)) if places is None else places.numpy(), score.numpy()))
    mask = torch.zeros(len(score), dtype=torch.bool)
    mask[torch.from_numpy(order[:count].copy())] = True
    return mask
