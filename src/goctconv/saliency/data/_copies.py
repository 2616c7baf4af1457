"""Decoded copies of photographs and masks, kept in a folder."""

import hashlib
import json
import os
import warnings
from pathlib import Path

import numpy as np

from ..._files import write_atomic
from .._pairs import DataSetError, ImagePair
from ._read import Pixels, read_pixels

_FORMAT = 1  # to be raised where copies change, so that old ones are not taken for new ones


class Copies:
    """Pairs as `read_pixels` reads them, kept in a folder so that they are decoded only once.

    A copy belongs to the paths, times and sizes of both files and to ``shrink``: where one of these changes, the pair
    is read anew. Copies are complete or not there, several processes may share a folder, and a damaged copy
    (its checksum tells) is replaced.

    Args:
        folder: Where the copies lie; made where missing. It may be deleted at any time.
        shrink: As for `read_pixels`.

    Raises:
        DataSetError: The folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], shrink: int | None) -> None:
        self.folder = Path(folder)
        self.shrink = shrink
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataSetError(f"{folder}: the folder for copies cannot be made ({error}): pass another.") from error

    def read(self, pair: ImagePair) -> Pixels:
        """Return the copy of a pair, and make it first where there is none.

        Raises:
            ImageError: The pair cannot be read.
        """
        try:
            path = self._path(pair)
        except (OSError, ValueError):  # ValueError: a zero byte in the name
            return read_pixels(pair, self.shrink)  # which says what is wrong
        try:
            return _load(path)
        except FileNotFoundError:
            pass
        except Exception:  # noqa: BLE001, S110  (zipfile and numpy raise anything on damaged files; the copy is made anew)
            pass
        pixels = read_pixels(pair, self.shrink)
        try:
            write_atomic(path, lambda stream: np.savez(stream, image=pixels.image, mask=pixels.mask))
        except OSError as error:
            warnings.warn(
                f"{self.folder}: copies cannot be written ({error.strerror or error}), so photographs are decoded "
                "every time: free some space, or pass another folder.",
                stacklevel=2,
            )
        return pixels

    def _path(self, pair: ImagePair) -> Path:
        facts = []
        for path in (pair.image, pair.mask):
            found = path.stat()
            facts.append([os.path.abspath(path), found.st_mtime_ns, found.st_size])  # noqa: PTH100  (no resolving)
        key = hashlib.sha256(json.dumps([_FORMAT, self.shrink, facts]).encode()).hexdigest()
        return self.folder / key[:2] / f"{key[2:]}.npz"


def _load(path: Path) -> Pixels:
    with np.load(path, allow_pickle=False) as arrays:
        pixels = Pixels(arrays["image"], arrays["mask"])
    if pixels.image.shape != (*pixels.mask.shape, 3) or {pixels.image.dtype, pixels.mask.dtype} != {np.dtype(np.uint8)}:
        raise ValueError(f"{path} is no copy of a photograph and its mask")
    return pixels
