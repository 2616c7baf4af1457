"""Masks: what a file takes for foreground, and its 8-bit levels."""

from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ._color import is_transparent, transparency
from ._images import (
    MAX_PIXELS,
    ImageError,
    damaged_data,
    deep_grey,
    is_deep,
    load,
    open_path,
    orientation,
    to_rgb,
    upright,
)

Kind: TypeAlias = Literal["grey", "ones", "index", "color", "alpha", "chosen"]
Levels: TypeAlias = NDArray[np.uint8]

IGNORED = 255  # the index of palettes that is neither foreground nor background, as in PASCAL VOC
HALF = 128  # the published rule: greater levels are foreground
_COLORED = 32  # the difference of channels from which a pixel has a colour; resampled or compressed grey has less
_NOISE = 48  # the level up to which a pixel of a lossy format is black
_LOSSY = frozenset({"AVIF", "JPEG", "JPEG2000", "MPO", "WEBP"})


class MaskRule(NamedTuple):
    """How the masks of a data set are read where a file alone leaves it open; by default as published."""

    by_index: bool = False  # those with a grey palette: by index, as those with colours
    by_alpha: bool = False  # those of constant transparency: by it, as those where it varies
    not_black: bool = False  # those of three equal channels: what is not black, as those with colours
    ones: bool = False  # 1 is the highest value, and foreground
    shallow: bool = False  # values of more than 8 bits are 8-bit levels
    no_void: bool = False  # the index 255 is foreground, as no index but 0 occurs beside it
    foreground: tuple[int, ...] | None = None  # the values that are foreground, whatever the kind


class Mask(NamedTuple):
    """A mask of shape (H, W): levels, foreground where they are above 128, and which pixels it says nothing about."""

    levels: Levels
    ignored: NDArray[np.bool_] | None = None


class Look(NamedTuple):
    """What tells how a mask is meant."""

    mode: str  # as Pillow opens it
    kind: Kind  # of this file alone
    highest: int  # value, 65535 at most; of grey palettes, of their colours; of floats, 65535
    is_empty: bool  # read by its own kind
    is_full: bool  # nothing is background, read by its own kind
    values: NDArray[np.int64] | None = None  # the pixels of each 8-bit grey value, or of each index


def read_mask(path: Path, rule: MaskRule) -> Mask:
    """Read a mask, upright."""
    with open_path(path, MAX_PIXELS) as opened, damaged_data(str(path)):
        load(opened)
        kind = kind_of(opened, rule)
        if kind in {"grey", "ones"}:
            levels = _grey(opened, rule)
            _check_highest(levels, kind, path)
            return Mask(np.asarray(levels) if kind == "grey" else _white(np.asarray(levels) == 1))
        if kind == "chosen" and _is_colored(opened):
            problem = "the mask is coloured, so it has no values of which some could be foreground"
            raise ImageError(f"{path}: {problem}: leave foreground (--foreground) out, or save it with a palette")
        found, ignored = _foreground(opened, kind, rule)
        picture = upright(opened, Image.fromarray(found))
        if ignored is None or not ignored.any():
            return Mask(np.asarray(picture))
        return Mask(np.asarray(picture), np.asarray(upright(opened, Image.fromarray(ignored.astype(np.uint8)))) > 0)


def _check_highest(levels: Image.Image, kind: Kind, path: Path) -> None:
    highest = levels.getextrema()[1]
    if kind == "grey" and highest == 1:
        problem = "the mask's highest value is 1, expected 0 to 255"
        cure = "multiply its values by 255 and save it again, or pass foreground=(1, 255) (--foreground 1,255)"
        raise ImageError(f"{path}: {problem}: {cure}")
    if kind == "ones" and highest not in {0, 1}:
        problem = f"the mask's highest value is {highest}, and other masks hold 0 and 1 alone"
        raise ImageError(
            f"{path}: {problem}: pass the values that are foreground, such as foreground=1 (--foreground 1)"
        )


def look_at(path: Path, foreground: tuple[int, ...] | None = None) -> Look | None:
    """Look at a mask on its own; None where it cannot be read, which reading it will say."""
    try:
        with open_path(path, MAX_PIXELS) as opened, damaged_data(str(path)):
            load(opened)
            return _look(opened, MaskRule(foreground=foreground))
    except (ImageError, MemoryError):
        return None


def kind_of(image: Image.Image, rule: MaskRule) -> Kind:
    """Return how a decoded mask is read."""
    if rule.foreground is not None:
        return "chosen"
    if image.mode in {"P", "PA"} and (rule.by_index or _has_colors(_palette(image))):
        return "index"
    if is_transparent(image) and (rule.by_alpha or _alpha_varies(image)):
        return "alpha"
    if _may_have_colors(image) and (rule.not_black or _is_colored(image)):
        return "color"
    return "ones" if rule.ones and image.mode != "1" else "grey"


def _may_have_colors(image: Image.Image) -> bool:
    return image.mode not in {"1", "L", "LA", "P", "PA"} and not is_deep(image)


def _is_colored(image: Image.Image) -> bool:
    return _may_have_colors(image) and _has_colors(np.asarray(_colors(image)))


def _look(image: Image.Image, rule: MaskRule) -> Look:
    kind = kind_of(image, rule)
    if kind == "chosen" and _is_colored(image):
        kind = "color"
    if kind != "grey":
        found, void = _foreground(image, kind, rule)
        values = np.bincount(_values(image).ravel(), minlength=256) if kind == "index" else None
        some, every = found > HALF, found > HALF if void is None else (found > HALF) | void
        return Look(image.mode, kind, int(found.max()), not some.any(), bool(every.all() and some.any()), values)
    if is_deep(image):
        highest = float(np.asarray(image).max())
        if highest > 255 or image.mode == "F":
            levels = np.asarray(_grey(image, rule))
            top = 65535 if image.mode == "F" else int(min(highest, 65535))
            return Look(image.mode, kind, top, bool(levels.max() <= HALF), bool(levels.min() > HALF))
        rule = rule._replace(shallow=True)
    values = np.bincount(np.asarray(_grey(image, rule)).ravel(), minlength=256)
    lowest, highest = (int(level) for level in np.flatnonzero(values)[[0, -1]])
    return Look(image.mode, kind, highest, highest <= HALF, lowest > HALF or lowest == highest == 1, values)


def _grey(image: Image.Image, rule: MaskRule) -> Image.Image:
    """Return the levels of a grey mask, upright: its own, or those of its colours by the published weights."""
    if image.mode == "L" and "transparency" not in image.info and orientation(image) == 1:
        return image
    if is_deep(image):
        values = np.asarray(image)
        grey = np.clip(values, 0, 255).astype(np.uint8) if rule.shallow else deep_grey(image)
        return upright(image, Image.fromarray(grey))
    if is_transparent(image):
        return upright(image, _colors(image).convert("L"))
    return to_rgb(image).convert("L")


def _foreground(image: Image.Image, kind: Kind, rule: MaskRule) -> tuple[Levels, NDArray[np.bool_] | None]:
    """Return levels of a mask that is not grey, and which pixels are ignored; not turned."""
    if kind == "alpha":
        alpha = transparency(image)
        return np.full((image.height, image.width), 255, np.uint8) if alpha is None else np.asarray(alpha), None
    if kind == "color":
        colors = np.asarray(_colors(image))
        return _white(colors.max(axis=-1) > (_NOISE if image.format in _LOSSY else 0)), None
    values = _values(image)
    void = values == IGNORED if image.mode in {"P", "PA"} and not rule.no_void else None
    if rule.foreground is not None:
        is_named = IGNORED in rule.foreground
        return _white(np.isin(values, rule.foreground)), None if is_named else void
    used = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    black = _palette(image).max(axis=-1) == 0
    if black[used].any() and not (black[0] and 0 in used):  # palettes as drawing programs make them
        return _white(~black[values]), None
    return _white(values != 0 if void is None else (values != 0) & ~void), void


def _white(where: NDArray[np.bool_]) -> Levels:
    """Return 255 where something holds, else 0."""
    return np.asarray(where * np.uint8(255), np.uint8)


def _values(image: Image.Image) -> NDArray[np.integer]:
    """Return the values of a mask as they are in the file: indices of a palette, grey levels, or 0 and 1 of one bit."""
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if image.mode == "P" or is_deep(image):
        return np.asarray(image)
    if image.mode == "PA":
        return np.asarray(image)[..., 0]
    return np.asarray(_colors(image).convert("L"))


def _colors(image: Image.Image) -> Image.Image:
    """Return the colours of a mask without its transparency."""
    if image.mode == "RGB":
        return image
    return image.convert("RGBA").convert("RGB") if is_transparent(image) else image.convert("RGB")


def _palette(image: Image.Image) -> Levels:
    """Return the colours of a palette, (256, 3); those that it lacks are black."""
    colors = np.zeros((256, 3), np.uint8)
    given = np.asarray(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)[:256]
    colors[: len(given)] = given
    return colors


def _has_colors(colors: Levels) -> bool:
    red, green, blue = (colors[..., channel] for channel in range(3))
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return bool((spread > _COLORED).any())


def _alpha_varies(image: Image.Image) -> bool:
    alpha = transparency(image)
    if alpha is None:
        return False
    low, high = alpha.getextrema()
    return low != high
