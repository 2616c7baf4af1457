"""Reading a photograph and its mask."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .._open import MAX_PIXELS, ImageError, damaged_data, open_path
from .._pairs import ImagePair
from .._pixels import orientation, to_rgb

Levels = NDArray[np.uint8]


class Pixels(NamedTuple):
    """A photograph of shape (H, W, 3) and its mask of shape (H, W)."""

    image: Levels
    mask: Levels


def read_pixels(pair: ImagePair, shrink: int | None = None) -> Pixels:
    """Read a photograph and its mask, upright; where the mask is the photograph itself, there is none: it is empty.

    Args:
        pair: The files.
        shrink: Larger photographs are shrunk until their shorter side has this many pixels, JPEG files in part while
            they are decoded, which is much faster. Their masks are shrunk alike.

    Raises:
        ImageError: A file cannot be read, their sizes differ, or the mask holds only 0 and 1.
    """
    image, size = _read_photograph(pair.image, shrink)
    if pair.mask == pair.image:
        return Pixels(np.asarray(image), np.zeros((image.height, image.width), np.uint8))
    mask = _read_mask(pair.mask)
    check_same_size(pair, size, mask.size)
    if image.size != size:
        mask = mask.resize(image.size, Image.Resampling.BILINEAR)
    return Pixels(np.asarray(image), np.asarray(mask))


def check_same_size(pair: ImagePair, image: tuple[int, int], mask: tuple[int, int]) -> None:
    """Compare the (width, height) of a photograph and its mask.

    Raises:
        ImageError: They differ.
    """
    if image != mask:
        raise ImageError(
            f"{pair.image} is {image[0]} x {image[1]}, its mask {pair.mask} {mask[0]} x {mask[1]}: they must be "
            "equally large, so one of them belongs to another picture or was resized."
        )


def _read_photograph(path: Path, shrink: int | None) -> tuple[Image.Image, tuple[int, int]]:
    """Return the photograph, shrunk, and the (width, height) that it has in the file, upright."""
    with open_path(path, MAX_PIXELS) as opened, damaged_data(str(path)):
        width, height = opened.size
        if shrink is not None:
            opened.draft(None, _shrunk((width, height), shrink))
        image = to_rgb(opened)
        if orientation(opened) >= 5:
            width, height = height, width
        target = (width, height) if shrink is None else _shrunk((width, height), shrink)
        if image.size != target:
            image = image.resize(target, Image.Resampling.BILINEAR)
        return image, (width, height)


def _read_mask(path: Path) -> Image.Image:
    with open_path(path, MAX_PIXELS) as opened, damaged_data(str(path)):
        mask = to_rgb(opened).convert("L") if opened.mode != "L" or "transparency" in opened.info else _upright(opened)
    highest = mask.getextrema()[1]
    if highest == 1:
        raise ImageError(
            f"{path}: the mask's highest value is 1, expected 0 to 255: multiply its values by 255 and save it again."
        )
    return mask


def _upright(opened: Image.Image) -> Image.Image:
    """Return an image of mode ``L``, by way of RGB only where it has to be turned."""
    opened.load()
    return to_rgb(opened).convert("L") if orientation(opened) != 1 else opened


def _shrunk(size: tuple[int, int], shrink: int) -> tuple[int, int]:
    factor = min(1.0, shrink / min(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
