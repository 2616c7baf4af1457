"""Islands and holes of a map, and whether there is an object in it at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ._planes import Plane, box_mean, resized

Flags = NDArray[np.bool_]
OBJECT = 0.5  # mean probability of the 3 x 3 pixels that an object has at least
_HOLE = 0.35  # mean probability of 3 x 3 pixels, below which a hole is one
_MARGIN = 0.1  # how far from 0 and 1 islands and holes reach
_SIDE = 256  # of the map at which they are looked for


def has_object(probability: Plane) -> float:
    """Return the highest mean probability of 3 x 3 pixels: how sure it is that there is an object."""
    return float(np.clip(box_mean(_reduced(probability), 1).max(), 0, 1))


def cleaned(probability: Plane, level: float = OBJECT) -> Plane:
    """Return a map without islands that nowhere reach ``level``, nor holes that nowhere reach the background.

    Each is judged by means of 3 x 3 pixels, so what is smaller is none. What is left of the map is not changed.
    """
    small = _reduced(probability)
    means = box_mean(small, 1)
    objects = _connected(means >= level, small > _MARGIN * level)
    outside = means < min(_HOLE, level)
    outside[[0, -1]] |= small[[0, -1]] < level
    outside[:, [0, -1]] |= small[:, [0, -1]] < level
    filled = ~_connected(outside, small < 1 - _MARGIN)
    if objects.shape != probability.shape:  # what is kept reaches further at the map's own size
        objects, filled = (_enlarged(flags, probability.shape) for flags in (objects, filled))
    nowhere = probability <= _MARGIN * level
    result = np.where(objects | (nowhere & objects.any()), probability, np.float32(0))
    return np.asarray(np.where(filled & objects & (probability < 1 - _MARGIN), np.float32(1), result))


def _reduced(probability: Plane) -> Plane:
    share = _SIDE / max(probability.shape)
    height, width = (max(1, round(length * share)) for length in probability.shape)
    return probability if share >= 1 else resized(probability, (height, width))


def _enlarged(flags: Flags, shape: tuple[int, ...]) -> Flags:
    image = Image.fromarray(flags.astype(np.uint8)).resize((shape[1], shape[0]), Image.Resampling.NEAREST)
    return np.asarray(image) > 0


def _connected(seeds: Flags, inside: Flags) -> Flags:
    """Return the parts of ``inside`` that hang together with ``seeds``, diagonally too."""
    found = seeds & inside
    while True:
        before = int(found.sum())
        for view, limits in ((found, inside), (found.T, inside.T)):
            for order in (range(1, len(view)), range(len(view) - 2, -1, -1)):
                step = -1 if order.step > 0 else 1
                for row in order:
                    near = view[row + step].copy()
                    near[1:] |= view[row + step, :-1]
                    near[:-1] |= view[row + step, 1:]
                    view[row] |= near & limits[row]
        if int(found.sum()) == before:
            return found
