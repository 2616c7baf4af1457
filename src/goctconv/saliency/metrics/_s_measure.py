"""The structure measure (Fan et al., ICCV 2017), from counts."""

from typing import NamedTuple

import numpy as np

from ._counts import Counts, Floats, Histograms
from ._f_measure import divide

ALPHA = 0.5  # the share of the object-aware part, as in the paper


def s_measure(histograms: Histograms) -> Floats:
    """Return the S-measure of each image, (B,).

    Half of it compares object and background as wholes (equations 4 to 6), half compares the four parts of the image
    around the object's centroid (equations 2 and 3). Where the mask is empty or full, it is how dark or bright the
    map is.

    Args:
        histograms: Counted by quadrants.
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
