"""From a photograph to the network's input, as the published inference does it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._resize import MEAN, MIN_SIZE, STD, check_size, resize_bilinear
from ..data import MAX_PIXELS, ImageLike, read_image


class Prepared(NamedTuple):
    """A photograph as the network takes it, and the (height, width) it had."""

    pixels: NDArray[np.float32]
    size: tuple[int, int]


def prepare(
    image: ImageLike, size: tuple[int, int] | None, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> Prepared:
    """Read, resize and normalise one image; ``pixels`` has shape (3, height, width); with no size, its own."""
    photograph = read_image(image, max_pixels=max_pixels, name=name)
    height, width = size or (max(photograph.height, MIN_SIZE), max(photograph.width, MIN_SIZE))
    scaled = resize_bilinear(np.asarray(photograph), (height, width))
    pixels = np.empty((len(MEAN), height, width), dtype=np.float32)
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        plane = scaled[..., channel] - 255 * mean
        np.multiply(plane, 1 / (255 * std), out=pixels[channel], casting="same_kind")
    return Prepared(pixels, (photograph.height, photograph.width))


def preprocess(image: ImageLike, size: int | Sequence[int] = 224) -> Tensor:
    """Turn an image into a batch of one for a saliency network, as published.

    RGB / 255, resized bilinearly without antialiasing, ImageNet's mean and standard deviation, in float64 until the
    last step.

    Args:
        image: What `read_image` takes.
        size: The network's input size: one integer or (height, width), at least 32.

    Returns:
        A float32 tensor of shape (1, 3, height, width).

    Raises:
        ImageError: The image cannot be read.
        ArgumentError: ``size`` is no size.

    Example:
        >>> import numpy as np
        >>> from goctconv.saliency import preprocess
        >>> preprocess(np.zeros((30, 40, 3), dtype=np.uint8), size=64).shape
        torch.Size([1, 3, 64, 64])
    """
    return torch.from_numpy(prepare(image, check_size(size)).pixels).unsqueeze(0)
