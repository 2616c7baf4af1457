"""Colours and transparency of images as viewers show them, for pictures that are written.

Needs NumPy and Pillow alone.
"""

import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms

_GREY_MODES = frozenset({"1", "L", "LA", "La"})
_TRANSPARENT_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_SPACES = {"L": "GRAY", "CMYK": "CMYK"}  # of modes whose profiles no RGB file can have
_CANNOT = (ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError)  # ImportError: Pillow without LittleCMS
OPAQUE = 255


class Shown(NamedTuple):
    """An image as viewers show it."""

    colors: Image.Image  # of mode RGB
    alpha: Image.Image | None  # of mode L; None: opaque
    profile: bytes | None  # of the colours; None: sRGB

    def merged(self) -> Image.Image:
        """Return one image, of mode ``RGB``, or ``RGBA`` with colour 0 where it is transparent, with its profile."""
        if self.alpha is None:
            picture = self.colors.copy()
        else:
            black = Image.new("RGB", self.colors.size)
            picture = Image.composite(self.colors, black, self.alpha.point([0] + [OPAQUE] * 255))
            picture.putalpha(self.alpha)
        picture.info = {} if self.profile is None else {"icc_profile": self.profile}
        return picture

    def through(self, mask: Image.Image) -> "Shown":
        """Return the image with its transparency multiplied by a mask of mode L: nowhere more opaque than before."""
        return self._replace(alpha=mask if self.alpha is None else ImageChops.multiply(self.alpha, mask))


def as_shown(image: Image.Image, grey: NDArray[np.uint8] | None = None) -> Shown:
    """Return a decoded image as viewers show it; as it lies in the file, not turned.

    RGB keeps its values and its profile. Colours of other spaces (CMYK, grey) with a profile of their own are converted
    to sRGB; without one, as Pillow converts them. Profiles that are damaged or of another space than the image are left
    out, as viewers do. ``grey`` are the 8-bit levels of an image of more than 8 bits.
    """
    alpha = transparency(image)
    if grey is not None:
        image = _like(image, Image.fromarray(grey))
    profile = image.info.get("icc_profile")
    space = space_of(profile)
    if space == "RGB" and image.mode not in {"CMYK", "LAB"}:
        return Shown(_without_alpha(image), alpha, profile if _transform(profile, "RGB") else None)
    own = image.convert("L") if space == "GRAY" and image.mode in _GREY_MODES else image
    if space == _SPACES.get(own.mode) and (transform := _transform(profile, own.mode)) is not None:
        return Shown(transform.apply(own), alpha, None)
    return Shown(_without_alpha(image), alpha, None)


def transparency(image: Image.Image) -> Image.Image | None:
    """Return the transparency of a decoded image, of mode L, or None where it is opaque."""
    if not is_transparent(image):
        return None
    if image.mode.startswith("I") or image.mode == "F":
        alpha = Image.fromarray(np.where(np.asarray(image) == image.info["transparency"], 0, OPAQUE).astype(np.uint8))
    else:
        alpha = image.convert("RGBA").getchannel("A")
    return None if alpha.getextrema() == (OPAQUE, OPAQUE) else alpha


def is_transparent(image: Image.Image) -> bool:
    """Whether an image has an alpha channel or a transparent colour."""
    palette_has_alpha = image.palette is not None and image.palette.mode.endswith("A")
    return image.mode in _TRANSPARENT_MODES or "transparency" in image.info or palette_has_alpha


def space_of(profile: object) -> str:
    """Return the colour space that the header of an ICC profile names, such as ``RGB``; empty if it is no profile."""
    if not isinstance(profile, bytes) or len(profile) < 128 or profile[36:40] != b"acsp":
        return ""
    return profile[16:20].decode("latin-1").strip()


def _without_alpha(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    return image.convert("RGBA").convert("RGB") if is_transparent(image) else image.convert("RGB")


def _like(image: Image.Image, levels: Image.Image) -> Image.Image:
    levels.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return levels


def _transform(profile: object, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from a profile to sRGB, or None where the profile does not give any."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile if isinstance(profile, bytes) else b""))
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except _CANNOT:
        return None
