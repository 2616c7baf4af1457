"""From any of Pillow's modes to upright 8-bit RGB."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TRANSPARENT_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; damaged or absent EXIF data counts as upright."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001  (the EXIF parser raises anything on bad data, and viewers ignore such data too)
        return 1
    return value if value in _UPRIGHT else 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to an upright image of mode ``RGB``.

    Transparent images are composited over white. 16-bit grey is scaled, so that 65535 becomes 255. Values of the
    modes ``I`` and ``F`` are taken as 16-bit, as 8-bit or as 0 to 1, whichever range holds them all
    (``I``: always 16-bit); where none does, their own range is stretched to 0 to 255.

    Args:
        image: An image of any mode, opened or decoded.

    Returns:
        The upright image; may be ``image`` itself.
    """
    image.load()  # before EXIF is read, which loads a PNG too, but takes damaged pixels for damaged EXIF
    turn = _UPRIGHT.get(orientation(image))
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_scale_grey(np.asarray(image))).convert("RGB")
    elif _is_transparent(image):
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    elif image.mode != "RGB":
        image = image.convert("RGB")
    if turn is None:
        return image
    upright = image.transpose(turn)
    upright.info.clear()  # of its EXIF data, which would have it turned again
    return upright


def _is_transparent(image: Image.Image) -> bool:
    palette_has_alpha = image.palette is not None and image.palette.mode.endswith("A")
    return image.mode in _TRANSPARENT_MODES or "transparency" in image.info or palette_has_alpha


def _scale_grey(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale 16-bit, 32-bit or floating point grey to 8 bits, rounding to nearest."""
    if values.dtype == bool:
        return np.asarray(np.where(values, 255, 0), dtype=np.uint8)
    is_float = np.issubdtype(values.dtype, np.floating)
    grey: NDArray[np.floating] = values.astype(np.float32 if values.dtype == np.uint16 else np.float64)
    grey[~np.isfinite(grey)] = 0
    low, high = float(grey.min()), float(grey.max())
    if low >= 0 and is_float and high <= 1:
        factor = 255.0
    elif low >= 0 and is_float and high <= 255:
        factor = 1.0
    elif low >= 0 and high <= 65535:
        factor = 1 / 257
    else:
        grey -= low
        factor = 255 / max(high - low, 1e-300)
    grey *= factor
    grey += 0.5  # to the nearest
    return np.asarray(grey.astype(np.uint8))
