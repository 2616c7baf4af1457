"""Precision, recall and F over all thresholds, from counts."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._counts import LEVELS, Counts, Floats, Histograms
from ._protocol import Protocol


class Confusion(NamedTuple):
    """Predicted pixels of each image at each threshold, in all and correct ones: both (B, T)."""

    predicted: Counts
    correct: Counts


def threshold_counts(histograms: Histograms, protocol: Protocol) -> Confusion:
    """Count what each threshold of the protocol predicts."""
    joint = histograms.joint
    if histograms.bins is not None:
        rows = np.arange(joint.shape[0])[:, None, None]
        sides = np.arange(2)[None, :, None]
        moved = np.zeros_like(joint)
        np.add.at(moved, (rows, sides, histograms.bins[:, None, :]), joint)
        joint = moved
    at_least = np.zeros((*joint.shape[:2], LEVELS + 1), dtype=np.int64)
    at_least[..., :LEVELS] = joint[..., ::-1].cumsum(axis=-1)[..., ::-1]
    first = _first_levels(protocol)
    return Confusion(at_least.sum(axis=1)[:, first], at_least[:, 1, first])


def adaptive_counts(histograms: Histograms) -> Confusion:
    """Count what a threshold of twice the map's mean (at most its largest possible value) predicts; T is 1.

    The threshold itself is included in every protocol: else a map that is certain and right would lose its object
    where that fills half of the image.
    """
    pixels, offsets = histograms.pixels[:, None], histograms.offsets
    per_level = histograms.joint.sum(axis=1)
    twice = 2 * (per_level * offsets).sum(axis=1, keepdims=True)
    chosen = offsets * pixels >= np.minimum(twice, histograms.span[:, None] * pixels)  # whole numbers: nothing rounds
    return Confusion(
        (per_level * chosen).sum(axis=1, keepdims=True),
        (histograms.joint[:, 1] * chosen).sum(axis=1, keepdims=True),
    )


def precision_recall(confusion: Confusion, foreground: Counts, protocol: Protocol) -> tuple[Floats, Floats]:
    """Return precision and recall of each image and threshold; nothing out of nothing is 0 without an epsilon."""
    correct = confusion.correct.astype(np.float64) + protocol.epsilon
    return (
        divide(correct, confusion.predicted.astype(np.float64) + protocol.epsilon),
        divide(correct, foreground[:, None].astype(np.float64) + protocol.epsilon),
    )


def f_measure(precision: Floats, recall: Floats, beta_squared: float) -> Floats:
    """Return (1 + b) P R / (b P + R); 0 where both are 0."""
    return divide((1 + beta_squared) * precision * recall, beta_squared * precision + recall)


def divide(numerator: Floats, denominator: Floats) -> Floats:
    """Divide, with 0 for anything over 0."""
    return np.asarray(np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0))


def _first_levels(protocol: Protocol) -> NDArray[np.intp]:
    """Return the lowest level that each threshold predicts to be foreground; 256 for none."""
    levels = protocol.levels()
    first = np.ceil(levels) if protocol.inclusive else np.floor(levels) + 1
    return first.astype(np.intp)
