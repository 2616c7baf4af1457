"""Reading pairs of photographs and masks: checks of their headers, pixels, and decoded copies in a folder."""

import hashlib
import json
import os
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..._files import write_atomic
from ..._limits import zip_contents
from ._images import MAX_PIXELS, ImageError, damaged_data, image_size, open_path, orientation, to_rgb
from ._masks import Mask, MaskRule, read_mask
from ._pairs import DataSetError, ImagePair, SkippedPair, TaughtPair

Levels = NDArray[np.uint8]


class Pixels(NamedTuple):
    """A photograph of shape (H, W, 3) and its mask of shape (H, W)."""

    image: Levels
    mask: Levels
    ignored: NDArray[np.bool_] | None = None  # where the mask says nothing


def read_pixels(pair: ImagePair, shrink: int | None = None) -> Pixels:
    """Read a photograph and its mask, upright; where the mask is the photograph itself, there is none: it is empty.

    Larger photographs are shrunk until their shorter side has ``shrink`` pixels, JPEG files in part while they are
    decoded, which is much faster; their masks are shrunk alike.
    """
    image, size = _read_photograph(pair.image, shrink)
    if pair.mask == pair.image:
        return Pixels(np.asarray(image), np.zeros((image.height, image.width), np.uint8))
    mask = mask_of(pair)
    check_same_size(pair, size, (mask.levels.shape[1], mask.levels.shape[0]))
    if image.size != mask.levels.shape[::-1]:
        mask = _resized(mask, image.size)
    return Pixels(np.asarray(image), *mask)


def mask_of(pair: ImagePair) -> Mask:
    """Read the mask of a pair by the rule of its data set, or as published where none is decided."""
    if isinstance(pair, TaughtPair):
        return _read_map(pair.mask)
    return read_mask(pair.mask, pair.rule or MaskRule())


def _read_map(path: Path) -> Mask:
    """Read the grey levels of a teacher's map, however low they are."""
    with open_path(path, MAX_PIXELS) as opened, damaged_data(str(path)):
        return Mask(np.asarray(to_rgb(opened).convert("L")))


def _resized(mask: Mask, size: tuple[int, int]) -> Mask:
    """Return a mask of another (width, height), which ignores pixels that have a share of ignored ones."""
    levels = np.asarray(Image.fromarray(mask.levels).resize(size, Image.Resampling.BILINEAR))
    if mask.ignored is None:
        return Mask(levels)
    ignored = Image.fromarray(mask.ignored.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return Mask(levels, np.asarray(ignored) > 0)


def check_same_size(pair: ImagePair, image: tuple[int, int], mask: tuple[int, int]) -> None:
    """Compare the (width, height) of a photograph and its mask; a teacher's map may have another."""
    if image != mask and not isinstance(pair, TaughtPair):
        problem = f"{pair.image} is {image[0]} x {image[1]}, its mask {pair.mask} {mask[0]} x {mask[1]}"
        cure = "they must be equally large, so one of them belongs to another picture or was resized"
        raise ImageError(f"{problem}: {cure}")


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


def _shrunk(size: tuple[int, int], shrink: int) -> tuple[int, int]:
    factor = min(1.0, shrink / min(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


class CheckedPairs(NamedTuple):
    """The pairs that can be used as far as their headers tell, and the others."""

    pairs: tuple[ImagePair, ...]
    skipped: tuple[SkippedPair, ...]


def check_pairs(pairs: Iterable[ImagePair]) -> CheckedPairs:
    """Find the pairs whose files are missing, empty, not images, or of different sizes.

    Only headers are read. Damage further on shows when an image is decoded: data sets and loaders deal with that.
    """
    pairs = tuple(pairs)
    with ThreadPoolExecutor(default_workers(), thread_name_prefix="goctconv") as executor:
        problems = list(executor.map(_problem, pairs))
    return CheckedPairs(
        tuple(pair for pair, problem in zip(pairs, problems, strict=True) if problem is None),
        tuple(SkippedPair(pair.name, text) for pair, text in zip(pairs, problems, strict=True) if text is not None),
    )


def header_sizes(pair: ImagePair) -> list[tuple[int, int]]:
    """Return the (width, height) of both files of a pair, upright, from their headers alone."""
    sizes = []
    for path in (pair.image, pair.mask):
        with open_path(path, MAX_PIXELS) as opened, damaged_data(str(path)):
            height, width = image_size(opened)
        sizes.append((width, height))
    return sizes


def _problem(pair: ImagePair) -> str | None:
    try:
        check_same_size(pair, *header_sizes(pair))
    except ImageError as error:
        return str(error)
    return None


_FORMAT = 2  # to be raised where copies change, so that old ones are not taken for new ones


class Copies:
    """Pairs as `read_pixels` reads them, kept in a folder so that they are decoded only once.

    A copy belongs to the paths, times and sizes of both files, to the rule of the mask and to ``shrink``: where one of
    these changes, the pair is read anew. Copies are complete or not there, several processes may share a folder, which
    may be deleted at any time, and a damaged copy (its checksum tells) is replaced.
    """

    def __init__(self, folder: str | os.PathLike[str], shrink: int | None) -> None:
        self.folder, self.shrink = Path(folder), shrink
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataSetError(f"{folder}: the folder for copies cannot be made ({error}): pass another") from error

    def read(self, pair: ImagePair) -> Pixels:
        """Return the copy of a pair, and make it first where there is none."""
        try:
            path = self._path(pair)
        except (OSError, ValueError):  # ValueError: a zero byte in the name
            return read_pixels(pair, self.shrink)  # which says what is wrong
        try:
            return _load(path)
        except Exception:  # noqa: BLE001, S110  (none yet, or damaged, of which zipfile and numpy raise anything)
            pass
        pixels = read_pixels(pair, self.shrink)
        try:
            arrays = {name: values for name, values in pixels._asdict().items() if values is not None}
            write_atomic(path, lambda stream: np.savez(stream, **arrays))
        except OSError as error:
            problem = f"copies cannot be written ({error.strerror or error}), so photographs are decoded every time"
            warnings.warn(f"{self.folder}: {problem}: free some space, or pass another folder", stacklevel=2)
        return pixels

    def _path(self, pair: ImagePair) -> Path:
        facts = []
        for path in (pair.image, pair.mask):
            found = path.stat()
            facts.append([os.path.abspath(path), found.st_mtime_ns, found.st_size])  # noqa: PTH100  (no resolving)
        key = hashlib.sha256(json.dumps([_FORMAT, self.shrink, facts, pair.rule]).encode()).hexdigest()
        return self.folder / key[:2] / f"{key[2:]}.npz"


def _load(path: Path) -> Pixels:
    with path.open("rb") as stream:
        zip_contents(stream)
    with np.load(path, allow_pickle=False) as arrays:
        pixels = Pixels(**arrays)
    if pixels.image.shape != (*pixels.mask.shape, 3) or {pixels.image.dtype, pixels.mask.dtype} != {np.dtype(np.uint8)}:
        raise ValueError(f"{path} is no copy of a photograph and its mask")
    return pixels


def default_workers() -> int:
    """Return how many threads decode and encode: one per processor, at most four."""
    return max(1, min(4, os.cpu_count() or 1))
