"""Slow and obvious metrics of salient object detection: loops over thresholds and pixels, in float64."""

from __future__ import annotations

import numpy as np


def precision_recall(saliency, mask, thresholds=range(256), *, inclusive=False, epsilon=1e-4):
    """Precision and recall of one 8-bit map at each threshold."""
    truth = mask > 128
    curves = []
    for threshold in thresholds:
        predicted = saliency >= threshold if inclusive else saliency > threshold
        correct = (predicted & truth).sum()
        curves.append(
            ((correct + epsilon) / (predicted.sum() + epsilon), (correct + epsilon) / (truth.sum() + epsilon))
        )
    return np.array(curves, dtype=np.float64).T


def data_set_f(pairs):
    """The published maximum and mean F of (map, mask) pairs, with the averaged curves."""
    precision, recall = np.mean([precision_recall(*pair) for pair in pairs], axis=0)
    f = 1.3 * precision * recall / (0.3 * precision + recall)
    return precision, recall, f


def mean_absolute_error(pairs):
    """The published mean absolute error of (map, mask) pairs."""
    return float(np.mean([np.abs(saliency.astype(float) - mask).mean() / 255 for saliency, mask in pairs]))


def adaptive_f(pairs):
    """F of averaged precision and recall, at twice each map's mean or its largest possible value."""
    points = []
    for saliency, mask in pairs:
        threshold = min(2 * saliency.astype(float).mean(), 255)
        points.append(precision_recall(saliency, mask, [threshold], inclusive=True)[:, 0])
    precision, recall = np.mean(points, axis=0)
    return float(1.3 * precision * recall / (0.3 * precision + recall))


def e_measure(predicted, mask):
    """The enhanced-alignment measure of a binary map: Fan et al. (2018), equations 2 to 5, over N pixels."""
    truth = mask > 128
    if truth.all():
        return predicted.mean()
    if not truth.any():
        return 1 - predicted.mean()
    map_bias = predicted - predicted.mean()
    mask_bias = truth - truth.mean()
    total = 0.0
    for a, b in zip(map_bias.flat, mask_bias.flat, strict=True):
        total += (1 + 2 * a * b / (a * a + b * b)) ** 2 / 4
    return total / truth.size


def s_measure(saliency, mask):
    """The structure measure: Fan et al. (2017), equations 2 to 7."""
    # In float64 this very formula loses up to 5e-12 on nearly constant maps.
    values, truth = saliency.astype(np.longdouble) / 255, mask > 128
    if truth.all():
        return values.mean()
    if not truth.any():
        return 1 - values.mean()
    share = truth.mean(dtype=np.longdouble)
    s_object = share * _likeness(values[truth]) + (1 - share) * _likeness(1 - values[~truth])
    rows, columns = np.nonzero(truth)
    below, right = round(rows.mean()) + 1, round(columns.mean()) + 1
    s_region = 0.0
    for part in (0, 1):
        for side in (0, 1):
            window = np.s_[below:, :] if part else np.s_[:below, :]
            inner = np.s_[:, right:] if side else np.s_[:, :right]
            part_values, part_truth = values[window][inner], truth[window][inner]
            s_region += part_values.size / values.size * _structural_similarity(part_values, part_truth)
    return max(0.5 * s_object + 0.5 * s_region, 0)


def _likeness(values):
    deviation = np.sqrt(sum((value - values.mean()) ** 2 for value in values) / max(values.size - 1, 1))
    return 2 * values.mean() / (values.mean() ** 2 + 1 + deviation)


def _structural_similarity(values, truth):
    if values.size == 0:
        return 0.0
    if values.min() == values.max() and truth.min() == truth.max():
        return 1.0  # both constant: 0/0
    mean, share, freedom = values.mean(), truth.mean(dtype=np.longdouble), max(values.size - 1, 1)
    covariance = ((values - mean) * (truth - share)).sum() / freedom
    variances = ((values - mean) ** 2).sum() / freedom + ((truth - share) ** 2).sum() / freedom
    luminance = mean**2 + share**2
    return 4 * mean * share * covariance / (luminance * variances) if covariance * share * mean else 0.0
