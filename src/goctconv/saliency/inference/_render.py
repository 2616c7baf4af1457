"""Pictures of a saliency map: grey levels, a binary mask, a cutout, an overlay."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..._checks import ArgumentError, ArgumentTypeError, check_share
from .._resize import check_probability, resized_blocks
from ..data import image_size, shown_parts

OVERLAY_COLOR = (255, 45, 85)


def grey_map(
    probability: NDArray[Any], size: tuple[int, int] | None = None, *, threshold: float | None = None
) -> NDArray[np.uint8]:
    """Turn a map of probabilities into the published 8-bit map.

    Args:
        probability: An array of shape (H, W) with values from 0 to 1.
        size: The (height, width) to resize the probabilities to first; their own by default.
        threshold: Makes the map binary: 255 where the probability is greater, else 0.

    Returns:
        An array of shape ``size``: probability x 255, truncated.

    Raises:
        ArgumentError: The map is no NumPy array, or ``threshold`` or a value of the map is not between 0 and 1.

    Example:
        >>> import numpy as np
        >>> from goctconv.saliency import grey_map
        >>> print(grey_map(np.array([[0.0, 0.5, 1.0]])))
        [[  0 127 255]]
    """
    if threshold is not None:
        check_share("threshold", threshold)
    probability = check_probability(probability)
    shape = (probability.shape[0], probability.shape[1]) if size is None else size
    result = np.empty(shape, dtype=np.uint8)
    for rows, block in resized_blocks(probability, shape, dtype=np.float32):
        result[rows] = np.multiply(block, 255, out=block) if threshold is None else 255 * (block > threshold)
    return result


def cutout(photograph: Image.Image, grey: NDArray[np.uint8]) -> Image.Image:
    """Cut the salient object out: the photograph with the map as its transparency.

    What is transparent in the photograph is so in the cut-out; elsewhere its transparency is multiplied by the map.
    Visible colours are those of the photograph as viewers show it: an RGB photograph keeps its ICC profile, in
    ``info["icc_profile"]``, others are converted to sRGB. Where nothing is visible, the colour is 0.

    Args:
        photograph: An image of any mode, of the map's size once it is upright: ``PIL.Image.open(path)``, or
            ``read_image(path, shown=True)``, which raises clear errors.
        grey: The 8-bit map, soft or binary, of shape (H, W).

    Returns:
        An image of mode ``RGBA``.

    Raises:
        ArgumentError: They are no Pillow image and 8-bit map, or their sizes differ.

    Example:
        >>> import numpy as np
        >>> from PIL import Image
        >>> from goctconv.saliency import cutout
        >>> cutout(Image.new("RGB", (1, 1), "red"), np.array([[128]], np.uint8)).getpixel((0, 0))
        (255, 0, 0, 128)
    """
    _check(photograph, grey)
    return shown_parts(photograph).through(Image.fromarray(grey)).merged()


def overlay(
    photograph: Image.Image,
    grey: NDArray[np.uint8],
    *,
    color: tuple[int, int, int] = OVERLAY_COLOR,
    strength: float = 0.6,
) -> Image.Image:
    """Paint the map over the photograph in one colour.

    Args:
        photograph: As for `cutout`.
        grey: The 8-bit map, soft or binary, of shape (H, W).
        color: Red, green and blue, 0 to 255.
        strength: The share of the colour where the map is 255.

    Returns:
        An image of mode ``RGB``; of a transparent photograph ``RGBA``, as transparent. ICC profiles are kept as by
        `cutout`.

    Raises:
        ArgumentError: They are no Pillow image and 8-bit map, their sizes differ, or ``strength`` is no share from 0 to
            1 or ``color`` no colour.

    Example:
        >>> import numpy as np
        >>> from PIL import Image
        >>> from goctconv.saliency import overlay
        >>> white, full = Image.new("RGB", (1, 1), "white"), np.array([[255]], np.uint8)
        >>> overlay(white, full, color=(0, 0, 255), strength=1.0).getpixel((0, 0))
        (0, 0, 255)
    """
    check_share("strength", strength)
    levels = tuple(color) if isinstance(color, (tuple, list)) else ()
    if len(levels) != 3 or not all(isinstance(level, int) and 0 <= level <= 255 for level in levels):
        raise ArgumentError("color", color, "red, green and blue from 0 to 255")
    _check(photograph, grey)
    share = Image.fromarray(grey).point([round(strength * level) for level in range(256)])
    shown = shown_parts(photograph)
    painted = Image.composite(Image.new("RGB", shown.colors.size, levels), shown.colors, share)
    return shown._replace(colors=painted).merged()


def _check(photograph: Image.Image, grey: NDArray[np.uint8]) -> None:
    if not isinstance(photograph, Image.Image):
        raise ArgumentTypeError("photograph", photograph, "a Pillow image", "pass read_image(...)")
    if not isinstance(grey, np.ndarray) or grey.dtype != np.uint8:
        raise ArgumentTypeError("grey", grey, "an 8-bit array", "pass grey_map(probability)")
    size = image_size(photograph)
    if grey.shape != size:
        expected = f"of the photograph's (height, width) {size}"
        raise ArgumentError("grey", grey, expected, "make the map with grey_map(probability, size)")
