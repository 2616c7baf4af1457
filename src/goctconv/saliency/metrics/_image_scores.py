"""The sums that one batch of images adds."""

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from ._counts import Floats, Histograms, count_levels
from ._e_measure import e_measure
from ._f_measure import Confusion, adaptive_counts, f_measure, precision_recall, threshold_counts
from ._protocol import Protocol
from ._s_measure import s_measure
from ._weighted_f import weighted_f


def score_images(levels: Tensor, masks: Tensor, protocol: Protocol, metrics: Collection[str]) -> dict[str, Floats]:
    """Return what each image of a batch scores.

    Args:
        levels: The maps, uint8 of shape (B, H, W).
        masks: The masks, uint8 of the same shape and device.
        protocol: How to compute.
        metrics: Names of metrics; precision, recall and F are always computed.

    Returns:
        Arrays of shape (B,) or (B, T), by name; "empty" is 1 for images without foreground.
    """
    foreground = masks > protocol.mask_threshold
    histograms = count_levels(levels, foreground, protocol, quadrants="s_measure" in metrics)
    # The adaptive threshold is computed with the others, as a last one.
    fixed, adaptive = threshold_counts(histograms, protocol), adaptive_counts(histograms)
    confusion = Confusion(*(np.concatenate(pair, axis=1) for pair in zip(fixed, adaptive, strict=True)))
    precision, recall = precision_recall(confusion, histograms.foreground, protocol)
    curves = {"precision": precision, "recall": recall, "f": f_measure(precision, recall, protocol.beta_squared)}
    if {"max_e", "mean_e", "adaptive_e"} & set(metrics):
        curves["e"] = e_measure(confusion, histograms, protocol)
    result = {"empty": (histograms.foreground == 0).astype(np.float64)}
    for name, values in curves.items():
        result |= {name: values[:, :-1], f"adaptive_{name}": values[:, -1]}
    if "mae" in metrics:
        result["mae"] = _absolute_error(levels, masks, histograms) if protocol.grey_masks else _binary_error(histograms)
    if "s_measure" in metrics:
        result["s_measure"] = s_measure(histograms)
    if "weighted_f" in metrics:
        result["weighted_f"] = _weighted(levels, foreground, histograms)
    return result


def _absolute_error(levels: Tensor, masks: Tensor, histograms: Histograms) -> Floats:
    """Return the mean absolute difference of rescaled levels and grey masks."""
    if histograms.bins is None:
        rescaled = levels.short()
    else:
        table = torch.from_numpy(histograms.bins.astype(np.int16)).to(levels.device)
        rescaled = table.gather(1, levels.flatten(1).long()).view_as(levels)
    total = (rescaled - masks).abs_().sum(dim=(1, 2)).cpu().numpy()
    return np.asarray(total / (255 * histograms.pixels))


def _binary_error(histograms: Histograms) -> Floats:
    """Return the mean absolute difference of rescaled probabilities and binary masks."""
    background, foreground = histograms.joint[:, 0], histograms.joint[:, 1]
    total = (background * histograms.values + foreground * (1 - histograms.values)).sum(axis=1)
    return np.asarray(total / histograms.pixels)


def _weighted(levels: Tensor, foreground: Tensor, histograms: Histograms) -> Floats:
    maps, masks = levels.cpu().numpy(), foreground.cpu().numpy()
    scores = []
    for saliency, mask, offsets, span in zip(maps, masks, histograms.offsets, histograms.span, strict=True):
        chance = np.add(saliency, offsets[0], dtype=np.float64)
        chance /= span
        scores.append(weighted_f(chance, mask))
    return np.array(scores)
