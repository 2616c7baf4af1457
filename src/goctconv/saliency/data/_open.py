"""Opening image files with Pillow, and one clear error for each problem."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile

MAX_PIXELS = 178_956_970  # the number of pixels at which Pillow itself refuses a file

_HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})


class ImageError(ValueError):
    """An image cannot be read; the message names it, what is wrong and the cure.

    Example:
        >>> from goctconv.saliency import ImageError, read_image
        >>> try:
        ...     read_image("holiday.jpg")
        ... except ImageError as error:
        ...     print(error)
        holiday.jpg: there is no such file: check the path
    """


@contextmanager
def open_path(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image file, without decoding it."""
    name = str(path)
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise ImageError(f"{name}: there is no such file: check the path") from None
    except IsADirectoryError:
        raise ImageError(f"{name}: this is a folder, not an image: pass the files in it") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        if path.is_dir():  # Windows reports a folder as "permission denied"
            raise ImageError(f"{name}: this is a folder, not an image: pass the files in it") from None
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{name}: the file cannot be opened ({reason}): check its permissions") from error
    with stream:
        yield open_stream(stream, name, max_pixels)


def open_stream(stream: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    """Open an image from a seekable binary stream, without decoding it.

    ``PIL.Image.open`` warns above one fixed number of pixels and raises above another; both can only be
    changed for the whole process. So the registered plugins are asked here in the same order, and
    the size is checked against ``max_pixels``.
    """
    with damaged_data(name):
        stream.seek(0)
        prefix = stream.read(16)
        image = _identify(stream, prefix) if prefix else None
    if not prefix:
        raise ImageError(f"{name}: the file is empty (0 bytes): copy or download it again")
    if image is None:
        raise ImageError(f"{name}: this is not an image that Pillow can read: {_cure(name)}")
    check_pixels(image.size, name, max_pixels)
    return image


def check_pixels(size: tuple[int, int], name: str, max_pixels: int) -> None:
    """Refuse an image of (width, height) pixels that has none or more than ``max_pixels``."""
    pixels = size[0] * size[1]
    if pixels == 0:
        raise ImageError(f"{name}: the image has {size[0]} x {size[1]} pixels: pass one with at least one pixel")
    if pixels > max_pixels:
        raise ImageError(
            f"{name}: {size[0]} x {size[1]} = {pixels:,} pixels, but max_pixels is {max_pixels:,}: make the "
            "image smaller, or raise max_pixels (--max-pixels) if you trust the file and have the memory"
        )


@contextmanager
def damaged_data(name: str) -> Iterator[None]:
    """Turn whatever a plugin raises on damaged data into an `ImageError` that names the image."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: Pillow refuses to decode this many pixels: make the image smaller") from error
    except Exception as error:  # plugins raise nearly every builtin exception, and struct's and zlib's, on bad data
        text = " ".join(str(error).split()) or type(error).__name__
        what = "ends too early" if _is_truncation(error, text) else "is damaged"
        raise ImageError(f"{name}: the image data {what} ({text}): copy or download the file again") from error


def _identify(stream: BinaryIO, prefix: bytes) -> ImageFile.ImageFile | None:
    """Ask the common plugins, then all of them, as ``PIL.Image.open`` does."""
    asked: set[str] = set()
    for load_plugins in (Image.preinit, Image.init):
        load_plugins()
        for name in tuple(Image.ID):
            if name in asked:
                continue
            asked.add(name)
            image = _ask(name, stream, prefix)
            if image is not None:
                return image
    return None


def _ask(plugin: str, stream: BinaryIO, prefix: bytes) -> ImageFile.ImageFile | None:
    """Return the plugin's image, or None where the data is of another format."""
    factory, accept = Image.OPEN[plugin]
    try:
        answer = accept(prefix) if accept is not None else True
        if not answer or isinstance(answer, str):  # a string says why the plugin cannot
            return None
        stream.seek(0)
        return factory(stream, "")
    except (SyntaxError, IndexError, TypeError, struct.error):
        return None  # how plugins say that the format is another one


def _is_truncation(error: Exception, text: str) -> bool:
    """Whether data ends too early, for which Pillow has no type of its own (tried with 13.0)."""
    return isinstance(error, EOFError) or "truncated" in text.lower() or "unexpected end" in text.lower()


def _cure(name: str) -> str:
    if Path(name).suffix.lower() in _HEIC_SUFFIXES:
        return "convert it to JPEG or PNG, or call pillow_heif.register_heif_opener() of the package pillow-heif"
    return "convert it to JPEG or PNG"
