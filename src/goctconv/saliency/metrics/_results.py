"""Scores and curves of a set of maps."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..._checks import ArgumentError
from ._counts import Floats
from ._measures import f_measure
from ._protocol import Protocol

METRICS: dict[str, str] = {
    "max_f": "max F",
    "mean_f": "mean F",
    "adaptive_f": "adaptive F",
    "weighted_f": "weighted F",
    "s_measure": "S-measure",
    "max_e": "max E",
    "mean_e": "mean E",
    "adaptive_e": "adaptive E",
    "mae": "MAE",
}


@dataclass(frozen=True)
class SaliencyCurves:
    """Averages over a data set at each threshold; `SaliencyMetrics.compute` says of what."""

    thresholds: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    f: tuple[float, ...]
    e: tuple[float, ...] | None = None

    def to_dict(self) -> dict[str, list[float]]:
        """Return each curve as a list."""
        return {name: list(curve) for name, curve in asdict(self).items() if curve is not None}


@dataclass(frozen=True)
class SaliencyScores:
    """Metrics of a set of maps; None is what was not asked for. `SaliencyMetrics.compute` explains each."""

    protocol: Protocol
    images: int
    empty_masks: int
    curves: SaliencyCurves
    max_f: float | None = None
    mean_f: float | None = None
    adaptive_f: float | None = None
    weighted_f: float | None = None
    s_measure: float | None = None
    max_e: float | None = None
    mean_e: float | None = None
    adaptive_e: float | None = None
    mae: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether every mask is empty, so that there was nothing to find and F, S and E say nothing."""
        return self.images == self.empty_masks

    def shown(self) -> dict[str, str]:
        """Return the requested metrics by their titles, as text; "-" for what says nothing as every mask is empty."""
        return {
            title: "-" if self.is_empty and title != METRICS["mae"] else f"{value:.4f}"
            for title, value in self.titled().items()
        }

    def scores(self) -> dict[str, float]:
        """Return the requested metrics by name, in the order in which they are printed."""
        values = {name: getattr(self, name) for name in METRICS}
        return {name: value for name, value in values.items() if value is not None}

    def titled(self) -> dict[str, float]:
        """Return the requested metrics as `scores` does, by their titles, such as "max F"."""
        return {METRICS[name]: value for name, value in self.scores().items()}

    def __str__(self) -> str:
        width = max(map(len, self.titled()), default=0) + 4
        lines = [f"{title:<{width}} {value}" for title, value in self.shown().items()]
        images = "1 image" if self.images == 1 else f"{self.images} images"
        empty = f" ({'all' if self.is_empty else self.empty_masks} with empty masks)" if self.empty_masks else ""
        return "\n".join([*lines, f"{images}{empty}, protocol {self.protocol}"])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON takes it, the protocol's settings and the curves included."""
        result: dict[str, Any] = {"images": self.images, "empty_masks": self.empty_masks, "scores": self.scores()}
        return {"protocol": self.protocol.to_dict(), **result, "curves": self.curves.to_dict()}


def check_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names in their order of printing, each once."""
    unknown = [] if isinstance(names, str) else [name for name in names if name not in METRICS]
    if isinstance(names, str) or unknown or not names:
        problem = f"holds {', '.join(map(repr, unknown))}" if unknown else ""
        raise ArgumentError("metrics", names, f"a list of some of {', '.join(METRICS)}", problem=problem)
    return tuple(name for name in METRICS if name in names)


Sums = dict[str, Floats]


def summarize(
    protocol: Protocol, metrics: tuple[str, ...], images: int, empty_masks: int, sums: Sums
) -> SaliencyScores:
    """Return the scores of ``images`` images whose scores add up to ``sums``."""
    counted = images - empty_masks if protocol.empty_masks == "skip" else images
    means = {name: values / (images if name == "mae" else counted) for name, values in sums.items()}
    for prefix in ("", "adaptive_"):
        if protocol.average == "curves" and f"{prefix}f" in means:
            precision, recall = means[f"{prefix}precision"], means[f"{prefix}recall"]
            means[f"{prefix}f"] = f_measure(np.asarray(precision), np.asarray(recall), protocol.beta_squared)
    scores = dict(means)
    for name in {"f", "e"} & means.keys():
        scores |= {f"max_{name}": means[name].max(), f"mean_{name}": means[name].mean()}
    curves = {name: tuple(means[name].tolist()) for name in ("precision", "recall", "f", "e") if name in means}
    return SaliencyScores(
        protocol,
        images,
        empty_masks,
        SaliencyCurves(tuple(protocol.levels().tolist()), **curves),
        **{name: float(scores[name]) for name in metrics},
    )
