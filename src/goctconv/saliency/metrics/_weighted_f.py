"""The weighted F-measure (Margolin et al., CVPR 2014)."""

import importlib
import importlib.util
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._counts import Floats

_REACH = 3  # of the 7 x 7 Gaussian
_SIGMA = 5.0
_BLOCK = 12_000  # pixels whose sums fit the processor's cache
_TINY = np.finfo(np.float64).eps
_DECAY = np.log(0.5) / 5  # the weight of a false alarm goes half of the way from 1 to 2 in 5 pixels

Box: TypeAlias = "tuple[slice, ...]"


def load_scipy() -> Any:
    """Return ``scipy.ndimage``."""
    try:
        return importlib.import_module("scipy.ndimage")
    except ImportError as error:
        cure = "pip install goctconv[eval], or leave this metric out with metrics=(...)"
        raise ImportError(f"the metric 'weighted_f' needs scipy for its distance transform: {cure}") from error


def has_scipy() -> bool:
    """Return whether the weighted F can be computed here."""
    return importlib.util.find_spec("scipy") is not None


def weighted_f(chance: Floats, foreground: NDArray[np.bool_]) -> float:
    """Return the weighted F of one image (beta 1).

    Errors inside the object count less where the surroundings are right (a Gaussian mean, to which a pixel outside
    brings the error of the nearest pixel inside), errors outside count more, the farther from the object. Of pixels
    that are equally near, scipy's distance transform decides. Without foreground it is 0.
    """
    size = int(np.count_nonzero(foreground))
    if size == 0:
        return 0.0
    ndimage = load_scipy()
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
    position = nearest[0][box] * np.int32(inside.shape[1])
    position += nearest[1][box]
    error = 1 - chance.ravel().take(position)  # a pixel inside is its own nearest one
    kernel = np.exp(-0.5 * (np.arange(-_REACH, _REACH + 1) / _SIGMA) ** 2)
    kernel /= kernel.sum()
    around = ndimage.correlate1d(error, kernel, axis=0, mode="constant")
    around = ndimage.correlate1d(around, kernel, axis=1, mode="constant")
    return float(np.minimum(error, around, out=around)[inside[box]].sum())


def _false_alarms(inside: NDArray[np.bool_], chance: Floats, nearest: NDArray[np.int32]) -> float:
    """Return the weighted error outside the object, summed.

    A few rows at a time and in place: fresh memory for each step of the formula takes three times as long.
    """
    height, width = inside.shape
    rows, columns = np.arange(height, dtype=np.int32)[:, None], np.arange(width, dtype=np.int32)
    total = -float(chance[inside].sum())  # below, pixels inside have distance 0 and so weight 1
    step = max(1, _BLOCK // width)
    for start in range(0, height, step):
        block = slice(start, start + step)
        square, across = nearest[0, block] - rows[block], nearest[1, block] - columns
        square *= square
        across *= across
        square += across
        weight = np.sqrt(square, dtype=np.float64)
        weight *= _DECAY
        np.exp(weight, out=weight)
        np.subtract(2, weight, out=weight)
        weight *= chance[block]
        total += float(weight.sum())
    return total


def _bounding_box(where: NDArray[np.bool_]) -> Box:
    """Return the smallest rectangle that holds all true pixels; an empty one where there are none."""
    sides = [np.flatnonzero(where.any(axis=axis)) for axis in (1, 0)]
    return tuple(slice(int(side[0]), int(side[-1]) + 1) if side.size else slice(0, 0) for side in sides)


def _grow(box: Box, shape: tuple[int, ...]) -> Box:
    """Add the Gaussian's reach on each side, inside the image."""
    sides = zip(box, shape, strict=True)
    return tuple(slice(max(side.start - _REACH, 0), min(side.stop + _REACH, length)) for side, length in sides)


def _union(box: Box, other: Box) -> Box:
    if other[0].start == other[0].stop:
        return box
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(box, other, strict=True))


def _relative(box: Box, window: Box) -> Box:
    """Return the box in the window's own coordinates."""
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, window, strict=True))
