"""F, E and S measures of images, from counts of their pixels."""

from typing import NamedTuple

import numpy as np

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
    levels = protocol.levels()
    first = (np.ceil(levels) if protocol.inclusive else np.floor(levels) + 1).astype(np.intp)  # predicted; 256: none
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


def e_measure(confusion: Confusion, histograms: Histograms, protocol: Protocol) -> Floats:
    """Return the E-measure of each image at each threshold, (B, T).

    The alignment of a binary map with a binary mask takes one value where both are foreground, one where both are
    background, and one for each way in which they differ. So the mean over the pixels (equations 2 to 5)
    needs only the numbers of these four kinds. Where the mask is empty or full, the paper's formula is 0/0, and the
    measure is the share of pixels that are right.
    """
    pixels = histograms.pixels[:, None]
    truth = histograms.foreground[:, None]
    predicted, both = confusion.predicted, confusion.correct
    map_mean, mask_mean = predicted / pixels, truth / pixels
    total = np.zeros(predicted.shape)
    for in_map, in_mask, number in (
        (1, 1, both),
        (1, 0, predicted - both),
        (0, 1, truth - both),
        (0, 0, pixels - predicted - truth + both),
    ):
        map_bias, mask_bias = in_map - map_mean, in_mask - mask_mean
        alignment = divide(2 * map_bias * mask_bias, map_bias**2 + mask_bias**2)
        total += number * (1 + alignment) ** 2 / 4
    total = np.where(truth == 0, pixels - predicted, np.where(truth == pixels, predicted, total))
    divisor = pixels if protocol.alignment_divisor == "N" else np.maximum(pixels - 1, 1)
    return np.asarray(total / divisor)


ALPHA = 0.5  # the share of the object-aware part, as in the paper


def s_measure(histograms: Histograms) -> Floats:
    """Return the S-measure of each image, (B,).

    Half of it compares object and background as wholes (equations 4 to 6), half compares the four parts of the image
    around the object's centroid (equations 2 and 3). Where the mask is empty or full, it is how dark or bright the
    map is.
    """
    share = histograms.foreground / histograms.pixels
    mean = _moments(histograms.joint.sum(axis=1), histograms.offsets, histograms.span).mean
    structure = np.maximum(ALPHA * _object_aware(histograms, share) + (1 - ALPHA) * _region_aware(histograms), 0)
    return np.asarray(np.where(share == 0, 1 - mean, np.where(share == 1, mean, structure)))


def _object_aware(histograms: Histograms, share: Floats) -> Floats:
    offsets, span = histograms.offsets, histograms.span
    background = _similarity(histograms.joint[:, 0], span[:, None] - offsets, span)
    foreground = _similarity(histograms.joint[:, 1], offsets, span)
    return share * foreground + (1 - share) * background


def _similarity(counts: Counts, offsets: Counts, span: Counts) -> Floats:
    """Compare values with a constant 1: 2 m / (m^2 + 1 + s), of their mean and standard deviation."""
    mean, _, squares = _moments(counts, offsets, span)
    deviation = np.sqrt(squares / np.maximum(counts.sum(axis=-1) - 1, 1))
    return np.asarray(2 * mean / (mean**2 + 1 + deviation))


def _region_aware(histograms: Histograms) -> Floats:
    """Return the structural similarity of map and mask in each part, weighted by the parts' areas."""
    parts, offsets, span = histograms.parts, histograms.offsets[:, None], histograms.span[:, None]
    area = parts.sum(axis=(2, 3))
    inside = parts[:, :, 1].sum(axis=-1)
    mean, deviations, squares = _moments(parts.sum(axis=2), offsets, span)
    mask_mean = inside / np.maximum(area, 1)
    mask_squares = inside * (1 - mask_mean)
    # Deviations add up to nothing, so the sum of their products with the mask's is their sum where the mask is 1.
    products = (parts[:, :, 1] * deviations).sum(axis=-1)
    freedom = np.maximum(area - 1, 1)
    luminance = mean**2 + mask_mean**2
    contrast = (squares + mask_squares) / freedom
    numerator = 4 * mean * mask_mean * products / freedom
    similarity = np.where(numerator != 0, divide(numerator, luminance * contrast), luminance * contrast == 0)
    return np.asarray((similarity * area).sum(axis=1) / histograms.pixels)


class _Moments(NamedTuple):
    """Of values that occur so often: their mean, each value less the mean, and the sum of squares of that."""

    mean: Floats
    deviations: Floats
    squares: Floats


def _moments(counts: Counts, offsets: Counts, span: Counts) -> _Moments:
    """Return the moments of the values ``offsets / span``.

    Offsets are whole numbers, so that a constant map has exactly no variance: where map and mask are both constant, it
    would be left to rounding whether they count as equal (1) or as unlike (0).
    """
    mean = (counts * offsets).sum(axis=-1) / np.maximum(counts.sum(axis=-1), 1)
    deviations = (offsets - mean[..., None]) / span[..., None]
    return _Moments(mean / span, deviations, (counts * deviations**2).sum(axis=-1))
