"""The choice of the channels to mask: scores of BatchNorm channels, and thresholds or shares of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from .._checks import ArgumentError, ArgumentTypeError, check_choice, check_number
from .._torch import BatchNorm, split
from .propagate import Facts

Criterion: TypeAlias = str | Callable[[nn.Module], Mapping[str, Tensor]]
"""A name, or a function of the model that returns scores (C,) of BatchNorm channels by module; low ones are masked."""

_OF_FILTERS = ("l1_filter", "geometric_median")
CRITERIA = ("gamma", "gamma_first", *_OF_FILTERS)


def check_criterion(criterion: Criterion, threshold: float | None, ratio: float | None, scope: str | None) -> None:
    """Check that a choice of channels is one."""
    if not callable(criterion):
        cure = "pass one of them, or a function of the model that returns scores by BatchNorm"
        if not isinstance(criterion, str):
            raise ArgumentTypeError("criterion", criterion, f"one of {', '.join(CRITERIA)}, or a function", cure)
        check_choice("criterion", criterion, CRITERIA, cure)
    if (threshold is None) == (ratio is None):
        cure = "give one of them: a threshold of scores (1e-20 is published for abs(γ)), or a share of the channels"
        raise ArgumentError("threshold", threshold, problem=f", {{ratio={ratio!r}}}", cure=cure)
    if threshold is not None:
        check_number("threshold", threshold, 0)
    if ratio is not None:
        check_number("ratio", ratio, 0, below=1, cure="pass a share of channels")
    check_choice("scope", scope, (None, "global", "layer"))


def scores(
    criterion: Criterion, model: nn.Module, norms: dict[str, BatchNorm], facts: Callable[[], Facts]
) -> dict[str, Tensor]:
    """Return a score for every channel of every layer, on the processor, in float64."""
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
        problem = "scores filters, and no BatchNorm comes right behind a layer"
        raise ArgumentError("criterion", criterion, problem=problem)
    return scored


def scope_of(criterion: Criterion, scope: str | None) -> str:
    """Return what a share of channels is a share of; scores of filters of two layers do not compare."""
    return scope or ("layer" if criterion in _OF_FILTERS else "global")


def _checked(given: Any, norms: dict[str, BatchNorm]) -> dict[str, Tensor]:
    """Return the scores that a function gave."""

    def error(problem: str, expected: str = "") -> ArgumentError:
        return ArgumentError("criterion", given, expected, problem=f"was returned by the function: {problem}")

    if not isinstance(given, Mapping):
        raise ArgumentTypeError("criterion", given, "a function that returns a dict of scores by BatchNorm")
    if not given:
        raise error("it has no scores")
    found = {}
    for name, score in given.items():
        if name not in norms:
            raise error(f"{name!r} is no BatchNorm with γ")
        channels = norms[name].num_features
        if not isinstance(score, Tensor) or score.shape != (channels,):
            shape = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
            raise error(f"the score of {name!r} is {shape}", f"a tensor ({channels},)")
        found[name] = score.detach().double().cpu()
        if bad := int(found[name].isnan().sum()):
            raise error(f"the score of {name!r} has {bad} values that are NaN")
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
    for consumer in facts.consumers:
        dimension = 1 if facts.rows.get((consumer.weight, 1)) is consumer.outputs else 0
        makers[consumer.outputs.numpy().tobytes()] = consumer.weight, dimension
    found = {}
    for name, norm in facts.norms.items():
        maker, dimension = makers.get(norm.labels.numpy().tobytes(), ("", 0))
        weight = weights.get(maker)
        if weight is None or name not in norms or weight.shape[dimension] != norms[name].num_features:
            continue
        filters = weight.detach().double().cpu().movedim(dimension, 0).flatten(1)
        distances = filters.abs() if criterion == "l1_filter" else torch.cdist(filters, filters)
        found[name] = distances.sum(1)
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
        parts = split(_lowest(together, count, places), [len(score) for score in scored.values()])
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
