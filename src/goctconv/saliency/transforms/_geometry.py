"""Transforms that move pixels of photograph and mask alike, and the published set."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._checks import check_integer, check_share
from .._resize import MIN_SIZE, check_size, resize_bilinear
from ._sample import Sample, Transform, to_float


class RandomCrop:
    """Cut up to some pixels off each side, each side by itself, as published (15).

    Args:
        pixels: The most that is cut off a side; of small images less, so that something is left.

    Raises:
        ArgumentError: ``pixels`` is no integer of at least 0.

    Example:
        >>> import numpy as np
        >>> from goctconv.saliency.transforms import RandomCrop, Sample
        >>> sample = Sample(np.zeros((80, 90, 3), np.uint8), np.zeros((80, 90), np.uint8), size=(64, 64))
        >>> RandomCrop(15)(sample, np.random.default_rng(0)).mask.shape
        (57, 78)
    """

    def __init__(self, pixels: int = 15) -> None:
        self.pixels = check_integer("pixels", pixels, least=0)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        kept = tuple(_kept(length, self.pixels, rng) for length in sample.mask.shape)
        return sample._replace(image=sample.image[kept], mask=sample.mask[kept])

    def __repr__(self) -> str:
        return f"RandomCrop({self.pixels})"


class RandomFlip:
    """Mirror some images, some of these top to bottom and the others left to right.

    The default is the published one: half of all images, half of these top to bottom.

    Args:
        probability: Of being mirrored at all.
        vertical: The share of the mirrored images that are mirrored top to bottom.

    Raises:
        ArgumentError: One of them is no share from 0 to 1.

    Example:
        >>> import numpy as np
        >>> from goctconv.saliency.transforms import RandomFlip, Sample
        >>> sample = Sample(np.zeros((1, 2, 3), np.uint8), np.array([[0, 255]], np.uint8), size=(64, 64))
        >>> print(RandomFlip(probability=1, vertical=0)(sample, np.random.default_rng(0)).mask)
        [[255   0]]
    """

    def __init__(self, probability: float = 0.5, vertical: float = 0.5) -> None:
        self.probability = check_share("probability", probability)
        self.vertical = check_share("vertical", vertical)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        drawn = rng.random()
        if drawn >= self.probability:
            return sample
        axis = 0 if drawn < self.probability * self.vertical else 1
        return sample._replace(image=np.flip(sample.image, axis), mask=np.flip(sample.mask, axis))

    def __repr__(self) -> str:
        return f"RandomFlip({self.probability}, vertical={self.vertical})"


class Resize:
    """Resize bilinearly, without antialiasing, as `preprocess` does it.

    Data sets resize at the end by themselves. Put it earlier to have what follows work on fewer pixels.

    Args:
        size: One integer or (height, width), each at least 32; by default what the batch wants: where photographs keep
            their size, sides below 32 become 32.

    Raises:
        ArgumentError: ``size`` is no size.

    Example:
        >>> import numpy as np
        >>> from goctconv.saliency.transforms import Resize, Sample
        >>> sample = Sample(np.zeros((80, 90, 3), np.uint8), np.zeros((80, 90), np.uint8), size=(64, 64))
        >>> Resize()(sample, np.random.default_rng(0)).image.shape
        (64, 64, 3)
    """

    def __init__(self, size: int | Sequence[int] | None = None) -> None:
        self.size = None if size is None else check_size(size)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:  # noqa: ARG002  (every transform's arguments)
        height, width = sample.mask.shape
        size = self.size or sample.size or (max(height, MIN_SIZE), max(width, MIN_SIZE))
        mask = np.clip(_resized(sample.mask, size), 0, 1)  # rounding may leave 0 to 1
        return sample._replace(image=_resized(sample.image, size), mask=mask)

    def __repr__(self) -> str:
        return f"Resize({self.size or ''})"


def _kept(length: int, pixels: int, rng: np.random.Generator) -> slice:
    most = min(pixels, (length - 1) // 2)
    first, last = rng.integers(0, most, 2, endpoint=True)
    return slice(int(first), length - int(last))


def _resized(values: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    if values.shape[:2] == size:
        return to_float(values)
    resized: NDArray[np.float32] = resize_bilinear(values, size, dtype=np.float32)
    return resized / np.float32(255) if values.dtype == np.uint8 else resized


def published_transforms() -> tuple[Transform, ...]:
    """Return the transforms that CSNet was trained with: up to 15 pixels off each side, half of the images mirrored."""
    return RandomCrop(15), RandomFlip(0.5, vertical=0.5)
