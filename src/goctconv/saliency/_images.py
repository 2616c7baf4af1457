"""Reading photographs: files, open files, Pillow images and arrays to upright RGB."""

import io
import os
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ._open import MAX_PIXELS, ImageError, check_pixels, damaged_data, open_path, open_stream
from ._pixels import orientation, to_rgb

ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]"


def read_image(image: ImageLike, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Image.Image:
    """Read an image of any mode as an upright 8-bit RGB image.

    The EXIF orientation is applied, transparency is composited over white, 16-bit grey is scaled (65535
    becomes 255), and of an animation the first frame is taken.

    Args:
        image: A path, the bytes of an image file, a Pillow image, or an array of shape (H, W, 3) or (H, W) and
            type uint8.
        max_pixels: Images of more pixels are refused before they are decoded.
        name: What error messages call the image; the path by default.

    Returns:
        An image of mode ``RGB``; ``numpy.asarray`` gives its (H, W, 3) uint8 array.

    Raises:
        ImageError: The image is missing, damaged, empty, too large or not an image.
        TypeError: ``image`` is of none of these types.

    Example:
        >>> import numpy as np
        >>> from goctconv.saliency import read_image
        >>> read_image(np.full((5, 7), 128, dtype=np.uint8)).getpixel((0, 0))
        (128, 128, 128)
    """
    if isinstance(image, np.ndarray):
        return _read_array(image, name or "array", max_pixels)
    if isinstance(image, Image.Image):
        name = name or str(getattr(image, "filename", "") or "image")
        check_pixels(image.size, name, max_pixels)
        with damaged_data(name):
            return to_rgb(image)
    if isinstance(image, bytes):
        name = name or "image"
        opened = open_stream(io.BytesIO(image), name, max_pixels)
        with damaged_data(name):
            return to_rgb(opened)
    if isinstance(image, (str, os.PathLike)):
        path = Path(image)
        with open_path(path, max_pixels) as opened, damaged_data(name or str(path)):
            return to_rgb(opened)
    raise TypeError(
        f"an image is {type(image).__name__}, expected a path, the bytes of an image file, a PIL image or a uint8 "
        "array of shape (H, W, 3) or (H, W)."
    )


def image_size(image: Image.Image) -> tuple[int, int]:
    """Return the (height, width) that an image has once it is upright."""
    width, height = image.size
    return (width, height) if orientation(image) >= 5 else (height, width)


def _read_array(array: NDArray[np.uint8], name: str, max_pixels: int) -> Image.Image:
    if array.dtype != np.uint8:
        raise ImageError(
            f"{name}: dtype {array.dtype}, expected uint8 with values 0 to 255: scale the values and convert with "
            "array.astype(numpy.uint8)."
        )
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] == 3):
        raise ImageError(
            f"{name}: shape {array.shape}, expected (H, W, 3) in RGB order or (H, W): move the channels to the end "
            "and drop an alpha channel."
        )
    check_pixels((array.shape[1], array.shape[0]), name, max_pixels)
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
