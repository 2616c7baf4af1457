"""Limits of files of others, whose size is checked before they are read."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

MAX_TEXT = 32 << 20
"""Bytes of a text that is read, such as JSON: as Python objects it may take twenty times as much."""
MAX_SETTINGS = 1 << 20
"""Bytes of a text that people write, such as a configuration."""
MAX_INDEX = 8 << 20
"""Bytes of the list of contents of a file of tensors."""
MAX_NETWORK = 2 << 30
"""Bytes of an exported network, or of the weights beside it: no longer ones of ONNX can be read."""
_MIB = 1 << 20
# Records at the end of a zip file, and the bytes that they take; of a long file, two more stand before the last.
_END, _END_64, _LOCATOR_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_END_SIZE, _END_64_SIZE = 22, 56 + 20


class FileSizeError(ValueError):
    """A file holds more, or would take more memory once read, than such a file may."""


def read_text(path: Path, most: int = MAX_TEXT) -> str:
    """Return a text in UTF-8; of a larger file, ``most`` bytes are read before it is refused.

    Raises:
        FileSizeError: The file is larger.
        ValueError: It is not UTF-8.
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise FileSizeError(f"it has more than {most / _MIB:g} MiB")
    return content.decode("utf-8")


def read_json(path: Path, most: int = MAX_TEXT) -> Any:
    """Return what a file of JSON holds, with the errors of `read_text` for what is not JSON, too."""
    try:
        return json.loads(read_text(path, most))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def check_length(path: Path, most: int) -> None:
    """Refuse a file of more than ``most`` bytes, with a `FileSizeError`, before it is opened."""
    if (size := path.stat().st_size) > most:
        raise FileSizeError(f"{path.name} has {size / _MIB:,.1f} MiB, of at most {most / _MIB:,.0f}")


def check_safetensors(path: Path) -> None:
    """Refuse a file of safetensors whose header is longer than the file, or than `MAX_INDEX`.

    The header is parsed before anything else is checked; the tensors take the bytes that they have in the file.
    """
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
    if length > min(MAX_INDEX, path.stat().st_size - 8):
        raise FileSizeError(f"its header is to have {length:,} bytes, of at most {MAX_INDEX / _MIB:g} MiB")


def zip_contents(stream: BinaryIO) -> dict[str, int]:
    """Return the sizes, unpacked, of what a zip file holds, none of which is unpacked.

    Files of arrays and tensors are not compressed, so what they hold is no larger than they are. Where somebody has
    compressed one, it may hold four times as much, or 64 MiB.

    Raises:
        FileSizeError: It holds more, or has too many entries.
        ValueError: It is no zip file, or holds two entries of one name, which is looked up in any case.
    """
    size = stream.seek(0, os.SEEK_END)
    _check_index(stream, size)
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"it is a damaged zip file ({error})") from error
    stored = sum(entry.file_size for entry in entries if entry.compress_type == zipfile.ZIP_STORED)
    unpacked = sum(entry.file_size for entry in entries)
    most = size if stored == unpacked else max(4 * size, 64 * _MIB)
    if unpacked > most or stored > size:
        raise FileSizeError(f"it has {size / _MIB:.1f} MiB, and {unpacked / _MIB:,.1f} MiB once unpacked")
    sizes = {entry.filename: entry.file_size for entry in entries}
    if len({name.lower() for name in sizes}) < len(entries):
        raise ValueError("it is a zip file with two entries of one name")
    return sizes


def _check_index(stream: BinaryIO, size: int) -> None:
    """Check the place and length of a zip file's list of contents, all of which is read at once.

    Readers differ in where they look for it, unless it ends where the records at the end of the file begin.
    """
    before = stream.seek(max(0, size - (1 << 16) - _END_SIZE - _END_64_SIZE))
    tail = stream.read()
    place = tail.rfind(_END, 0, len(tail) - _END_SIZE + len(_END))
    if place < 0:
        raise ValueError("it is a zip file that lacks its end")
    length, start = (int.from_bytes(tail[place + at : place + at + 4], "little") for at in (12, 16))
    long = tail[max(0, place - _END_64_SIZE) : place]
    if long[56:60] == _LOCATOR_64:
        place -= _END_64_SIZE
        if not long.startswith(_END_64) or int.from_bytes(long[64:72], "little") != before + place:
            raise ValueError("it is a zip file whose end is damaged")
        length, start = (int.from_bytes(long[at : at + 8], "little") for at in (40, 48))
    if start + length != before + place:
        raise ValueError("it is a zip file whose list of contents is not where it says")
    if length > MAX_INDEX:
        raise FileSizeError(f"its list of contents has {length:,} bytes, of at most {MAX_INDEX / _MIB:g} MiB")
