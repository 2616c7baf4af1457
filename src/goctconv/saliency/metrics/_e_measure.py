"""The enhanced-alignment measure (Fan et al., IJCAI 2018), from counts."""

import numpy as np

from ._counts import Floats, Histograms
from ._f_measure import Confusion, divide
from ._protocol import Protocol


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
