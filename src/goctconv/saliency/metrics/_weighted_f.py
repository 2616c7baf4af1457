"""The weighted F-measure (Margolin et al., CVPR 2014)."""

import importlib
import importlib.util
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._counts import Floats

_REACH = 3  # of the 7 x 7 Gaussian
_SIGMA = 5.0
_TINY = np.finfo(np.float64).eps
_DECAY = np.log(0.5) / 5  # the weight of a false alarm goes half of the way from 1 to 2 in 5 pixels

Box: TypeAlias = "tuple[slice, slice]"


def load_scipy() -> Any:
    """Return ``scipy.ndimage``.

    Raises:
        ImportError: scipy is not installed.
    """
    try:
        return importlib.import_module("scipy.ndimage")
    except ImportError as error:
        raise ImportError(
            "the metric 'weighted_f' needs scipy for its distance transform: pip install goctconv[eval], or leave this "
            "metric out with metrics=(...)."
        ) from error


def has_scipy() -> bool:
    """Return whether the weighted F can be computed here."""
    return importlib.util.find_spec("scipy") is not None


def weighted_f(levels: NDArray[np.uint8], foreground: NDArray[np.bool_], values: Floats) -> float:
    """Return the weighted F of one image (beta 1).

    Errors inside the object count less where the surroundings are right (a Gaussian mean, to which a pixel outside
    brings the error of the nearest pixel inside), errors outside count more, the farther from the object. Of pixels
    that are equally near, scipy's distance transform decides. Without foreground it is 0.

    Args:
        levels: The map's levels, shape (H, W).
        foreground: The binary mask.
        values: The probability of each level, shape (256,).
    """
    size = int(np.count_nonzero(foreground))
    if size == 0:
        return 0.0
    ndimage = load_scipy()
    chance = values[levels]
    box = _grow(_bounding_box(foreground), foreground.shape)
    window = _union(box, _bounding_box(chance > 0))  # nothing outside it has any weight
    inside, chance = foreground[window], chance[window]
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    missed = _missed(ndimage, inside, chance, nearest, _relative(box, window))
    false_alarms = _false_alarms(inside, chance, nearest)
    hits = size - missed
    precision, recall = hits / (hits + false_alarms + _TINY), hits / size
    return float(2 * precision * recall / (precision + recall + _TINY))


def _missed(ndimage: Any, inside: NDArray[np.bool_], chance: Floats, nearest: NDArray[np.int32], box: Box) -> float:
    """Return the weighted error inside the object, summed."""
    inside, error = inside[box], 1 - chance[box]
    rows, columns = (indices[box][~inside] for indices in nearest)
    error[~inside] = 1 - chance[rows, columns]
    kernel = np.exp(-0.5 * (np.arange(-_REACH, _REACH + 1) / _SIGMA) ** 2)
    kernel /= kernel.sum()
    around = ndimage.correlate1d(error, kernel, axis=0, mode="constant")
    around = ndimage.correlate1d(around, kernel, axis=1, mode="constant")
    return float(np.minimum(error, around)[inside].sum())


def _false_alarms(inside: NDArray[np.bool_], chance: Floats, nearest: NDArray[np.int32]) -> float:
    """Return the weighted error outside the object, summed."""
    height, width = inside.shape
    down = nearest[0] - np.arange(height, dtype=np.int32)[:, None]
    right = nearest[1] - np.arange(width, dtype=np.int32)
    where = ~inside & (chance > 0)
    distance = np.sqrt((down * down + right * right)[where], dtype=np.float64)
    # Not the product @: it wakes all of BLAS's threads, for a sum that takes a tenth of a millisecond.
    return float((chance[where] * (2 - np.exp(_DECAY * distance))).sum())


def _bounding_box(where: NDArray[np.bool_]) -> Box:
    """Return the smallest rectangle that holds all true pixels; an empty one where there are none."""
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    if not rows.size:
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _grow(box: Box, shape: tuple[int, ...]) -> Box:
    """Add the Gaussian's reach on each side, inside the image."""
    rows, columns = (
        slice(max(side.start - _REACH, 0), min(side.stop + _REACH, length))
        for side, length in zip(box, shape, strict=True)
    )
    return rows, columns


def _union(box: Box, other: Box) -> Box:
    if other[0].start == other[0].stop:
        return box
    rows, columns = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(box, other, strict=True))
    return rows, columns


def _relative(box: Box, window: Box) -> Box:
    """Return the box in the window's own coordinates."""
    rows, columns = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, window, strict=True))
    return rows, columns
