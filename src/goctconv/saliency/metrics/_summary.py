"""From sums over images to scores of a data set."""

import numpy as np

from ._counts import Floats
from ._f_measure import f_measure
from ._protocol import Protocol
from ._results import SaliencyCurves, SaliencyScores

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
    scores: Sums = {"max_f": means["f"].max(), "mean_f": means["f"].mean()}
    if "e" in means:
        scores |= {"max_e": means["e"].max(), "mean_e": means["e"].mean()}
    scores |= {name: values for name, values in means.items() if name in metrics}
    return SaliencyScores(
        protocol,
        images,
        empty_masks,
        curves=SaliencyCurves(
            thresholds=_values(protocol.levels()),
            precision=_values(means["precision"]),
            recall=_values(means["recall"]),
            f=_values(means["f"]),
            e=_values(means["e"]) if "e" in means else None,
        ),
        **{name: float(scores[name]) for name in metrics},
    )


def _values(curve: Floats) -> tuple[float, ...]:
    return tuple(curve.tolist())
