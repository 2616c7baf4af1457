"""New backgrounds: a colour, a picture, or the old background blurred."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image, ImageCms, ImageColor, ImageFilter

from ..._checks import ArgumentError, ArgumentTypeError
from ..data._images import ImageLike, read_image

Background: TypeAlias = "ImageLike | tuple[int, int, int] | Literal['blur']"
Color = tuple[int, int, int]
Place: TypeAlias = "Color | Literal['blur'] | Image.Image"
_BLUR = 0.02  # of the longer side
_CURE = "pass a colour such as 'white', '#ffcc00' or (255, 204, 0), 'blur', or a picture"


def find_background(background: Background | None) -> Place | None:
    """Return a colour, "blur" or a picture in sRGB for what stands for it.

    A text that names a colour is one; other texts are paths.
    """
    if background is None:
        return None
    if isinstance(background, str):
        if background == "blur":
            return "blur"
        if (levels := _named(background)) is not None:
            return levels
    if isinstance(background, tuple | list):
        return _color(background)
    if not isinstance(background, str | os.PathLike | bytes | Image.Image | np.ndarray):
        raise ArgumentTypeError("background", background, "a colour, 'blur' or a picture", _CURE)
    picture = read_image(background, shown=True, name="background" if isinstance(background, bytes) else None)
    if picture.mode == "RGBA":
        info, white = picture.info, Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
        picture.info = info
    return in_srgb(picture)


def _named(text: str) -> Color | None:
    """Return the colour that a text names; None of a path."""
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        path = Path(text)
        if path.suffix or path.exists():
            return None
        raise ArgumentError("background", text, "a colour, 'blur' or a picture", _CURE) from None
    return red, green, blue


def _color(levels: Sequence[int]) -> Color:
    if len(levels) != 3 or not all(isinstance(level, int) and 0 <= level <= 255 for level in levels):
        raise ArgumentError("background", levels, "red, green and blue from 0 to 255", _CURE)
    return levels[0], levels[1], levels[2]


def composed(cutout: Image.Image, background: Place, behind: Image.Image) -> Image.Image:
    """Lay a cut-out over a background, of which ``behind`` is the old one."""
    if isinstance(background, str):
        radius = _BLUR * max(behind.size)
        place = behind.filter(ImageFilter.GaussianBlur(radius)).resize(cutout.size, Image.Resampling.BICUBIC)
        front, info = cutout, dict(cutout.info)
    else:
        if isinstance(background, tuple):
            place = Image.new("RGB", cutout.size, background)
        else:
            place = _covering(background, cutout.size)
        front, info = in_srgb(cutout), {}
    place.paste(front.convert("RGB"), (0, 0), cutout.getchannel("A"))
    place.info = info
    return place


def _covering(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize a picture to cover (width, height), and cut what is too much at both ends."""
    scale = max(size[0] / picture.width, size[1] / picture.height)
    width, height = size[0] / scale, size[1] / scale
    left, top = (picture.width - width) / 2, (picture.height - height) / 2
    box = (max(0.0, left), max(0.0, top), min(left + width, picture.width), min(top + height, picture.height))
    return picture.resize(size, Image.Resampling.BICUBIC, box)


def in_srgb(picture: Image.Image) -> Image.Image:
    """Return the colours of an image in sRGB, of mode RGB."""
    colors = picture.convert("RGB")
    profile = picture.info.get("icc_profile")
    if profile is not None:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        colors = ImageCms.profileToProfile(colors, source, target, outputMode="RGB") or colors
    colors.info = {}
    return colors
