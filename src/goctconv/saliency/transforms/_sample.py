"""Samples: a photograph and its mask, as transforms take and return them."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..._checks import ArgumentError, ArgumentTypeError


class Sample(NamedTuple):
    """A photograph, its mask, and the size that the batch wants.

    Both arrays are uint8 from 0 to 255 as they come from the files, and float32 from 0 to 1 from the first transform on
    that computes values. Transforms return new arrays (or views) and leave the given ones as they are.

    Args:
        image: RGB of shape (H, W, 3).
        mask: The mask of shape (H, W).
        size: The (height, width) that `Resize` without a size of its own resizes to; None: the photograph's own.

    Example:
        >>> import numpy as np
        >>> from goctconv.saliency.transforms import Sample
        >>> Sample(np.zeros((30, 40, 3), np.uint8), np.zeros((30, 40), np.uint8), size=(224, 224)).size
        (224, 224)
    """

    image: NDArray[Any]
    mask: NDArray[Any]
    size: tuple[int, int] | None


_TYPES = {np.dtype(np.uint8), np.dtype(np.float32)}

Transform: TypeAlias = Callable[[Sample, np.random.Generator], Sample]


def to_float(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return 8-bit values as float32 from 0 to 1, and others as they are."""
    return np.divide(values, 255, dtype=np.float32) if values.dtype == np.uint8 else values


def apply(transform: Transform, sample: Sample, rng: np.random.Generator) -> Sample:
    """Apply a transform, and check that photograph and mask still belong together."""
    result: object = transform(sample, rng)
    if not isinstance(result, Sample):
        problem = f"returned {type(result).__name__}"
        cure = "end it with return sample._replace(image=..., mask=...)"
        raise ArgumentTypeError("transforms", transform, "a Sample", cure, problem=problem)
    image, mask = result.image, result.mask
    if image.shape[2:] != (3,) or image.shape[:2] != mask.shape:
        problem = f"returned a photograph of shape {image.shape} and a mask of shape {mask.shape}"
        cure = "move, cut and resize both alike"
        raise ArgumentError("transforms", transform, "(H, W, 3) and (H, W)", cure, problem=problem)
    if not {image.dtype, mask.dtype} <= _TYPES:
        problem = f"returned a photograph of type {image.dtype} and a mask of type {mask.dtype}"
        raise ArgumentError("transforms", transform, "uint8 (0 to 255) or float32 (0 to 1)", problem=problem)
    return result
