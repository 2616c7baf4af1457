"""The published set of transforms."""

from ._geometry import RandomCrop, RandomFlip
from ._sample import Transform


def published_transforms() -> tuple[Transform, ...]:
    """Return how CSNet was trained: up to 15 pixels off each side, and half of the images mirrored.

    Example:
        >>> from goctconv.saliency.transforms import published_transforms
        >>> published_transforms()
        (RandomCrop(15), RandomFlip(0.5, vertical=0.5))
    """
    return RandomCrop(15), RandomFlip(0.5, vertical=0.5)
