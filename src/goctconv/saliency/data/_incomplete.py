"""JPEG files that lack only their last bytes, which viewers show."""

from __future__ import annotations

import io
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_END, _SCAN, _PROGRESSIVE = 0xD9, 0xDA, 0xC2
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
_LOST_AT_MOST = 0.02  # of the picture; in small ones 4 blocks of 8 x 8, a unit of decoding


class Completed(NamedTuple):
    """A file that ends as it should, and the share of its picture that is filled in."""

    stream: BinaryIO
    lost: float


def completed(stream: BinaryIO) -> Completed | None:
    """Return a JPEG file with the end that it lacks; None where it has one, or where more of the picture is missing.

    The decoder fills in what is missing. How much that is shows where other data in its place change the picture.
    """
    stream.seek(-2, io.SEEK_END)
    if stream.read() == bytes((0xFF, _END)):
        return None
    stream.seek(0)
    data = stream.read().rstrip(b"\xff")  # which began a marker
    found = _scan(data)
    if found is None or data.find(bytes((0xFF, _END)), found.start) >= 0:
        return None
    if found.is_progressive and not _has_all_scans(data, found.start):
        return None
    other = np.random.default_rng(0).integers(0, 255, max(4096, len(data) // 8), dtype=np.uint8).tobytes()
    end = bytes((0xFF, _END))
    scale = 1 if found.is_progressive else 8  # where all of a block comes at once, its mean tells
    try:
        filled, changed = (_decoded(data + part, scale) for part in (end, other + end))
    except Exception:  # noqa: BLE001  (the plugin raises anything on damaged data, and the reader of the file says so)
        return None
    lost = _lost((filled != changed).any(axis=-1), 16 // scale)
    most = 5 * _LOST_AT_MOST if found.is_progressive else _LOST_AT_MOST  # of its last scan, which only refines
    if lost > max(most, 4 * 64 / scale**2 / (filled.shape[0] * filled.shape[1])):
        return None
    return Completed(io.BytesIO(data + end), lost)


def _lost(changed: NDArray[np.bool_], unit: int) -> float:
    """Return the share of a picture from its first change on; it is stored in rows of units."""
    rows = changed.any(axis=1)
    if not rows.any():
        return 0.0
    height, width = int(changed.shape[0]), int(changed.shape[1])
    first = int(rows.argmax())
    column = int(changed[first : first + unit].any(axis=0).argmax())
    lost = min(unit, height - first) * (width - column) + max(0, height - first - unit) * width
    return lost / (height * width)


class _Scan(NamedTuple):
    start: int
    is_progressive: bool


def _scan(data: bytes) -> _Scan | None:
    """Return where the first scan begins, past the pictures in the metadata."""
    place, is_progressive = 2, False
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == _SCAN:
            return _Scan(place, is_progressive)
        is_progressive |= marker == _PROGRESSIVE
        if marker == 0xFF:
            place += 1
        elif marker in _WITHOUT_LENGTH:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def _has_all_scans(data: bytes, start: int) -> bool:
    """Whether scans of a progressive file have begun for the last bit of every coefficient of every component."""
    seen: dict[int, set[int]] = {}
    place = start
    while place >= 0:
        header = data[place + 4 : place + 20]
        if header and len(header) >= 4 + 2 * header[0]:
            components = header[1 : 1 + 2 * header[0] : 2]
            first, last, bits = header[1 + 2 * header[0] : 4 + 2 * header[0]]
            for component in components:
                seen.setdefault(component, set()).update(range(first, last + 1) if bits & 15 == 0 else ())
        place = data.find(bytes((0xFF, _SCAN)), place + 2)
    return all(len(found) == 64 for found in seen.values())


def _decoded(data: bytes, scale: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        if scale > 1:
            image.draft(None, (image.width // scale, image.height // scale))
        return np.atleast_3d(np.asarray(image))
