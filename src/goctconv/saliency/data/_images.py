"""Photographs as upright RGB: files, open files, Pillow images and arrays, and one clear error for each problem."""

import io
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from ..._checks import ArgumentTypeError, FileNote
from ._color import Shown, as_shown, is_transparent, space_of
from ._formats import DRAWINGS, RAW, hint, register_plugins
from ._incomplete import completed
from ._libtiff import quiet_libtiff

MAX_PIXELS = 178_956_970  # the number of pixels at which Pillow itself refuses a file


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
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        if path.is_dir():
            raise ImageError(f"{name}: this is a folder, not an image: pass the files in it") from None
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{name}: the file cannot be opened ({reason}): check its permissions") from error
    with stream:
        yield open_stream(stream, name, max_pixels)


def open_stream(stream: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    """Open an image from a seekable binary stream, without decoding it.

    ``PIL.Image.open`` warns above one fixed number of pixels and raises above another; both can only be changed for
    the whole process. So the registered plugins are asked here in the same order, and the size is checked.
    """
    with damaged_data(name):
        stream.seek(0)
        prefix = stream.read(16)
        image = _identify(stream, prefix) if prefix else None
    if not prefix:
        raise ImageError(f"{name}: the file is empty (0 bytes): copy or download it again")
    if image is None:
        known = hint(Path(name).suffix)
        cure = "convert it to JPEG or PNG" + (f" ({known})" if known else "")
        raise ImageError(f"{name}: this is not an image that Pillow can read: {cure}")
    if image.format == "TIFF" and (Path(name).suffix.lower() in RAW or _DNG_VERSION in getattr(image, "tag_v2", {})):
        raise ImageError(
            f"{name}: this is a raw photograph, of which Pillow reads a preview: develop it to JPEG or TIFF"
        )
    check_pixels(image.size, name, max_pixels)
    return _as_viewers(image, stream, name)


_DNG_VERSION, _BITS, _MAX_SAMPLE, _SAMPLE_FORMAT = 50706, 258, 281, 339  # tags of TIFF
_ANIMATED = {"AVIF": "frames", "GIF": "frames", "PNG": "frames", "TIFF": "pages", "WEBP": "frames"}


def _as_viewers(image: ImageFile.ImageFile, stream: BinaryIO, name: str) -> ImageFile.ImageFile:
    """Return an image that lacks only its last bytes as viewers show it; notes tell of that and of several frames."""
    if image.format == "JPEG" and (whole := completed(stream)) is not None:
        text, detail = "the file ends too early: the end of its picture was filled in", f"{whole.lost:.2%} of it"
        warnings.warn(FileNote(name, text, detail), stacklevel=2)
        with damaged_data(name):
            return _identify(whole.stream, whole.stream.read(16)) or image
    if image.format in _ANIMATED and _has_more(image):
        text = f"of several {_ANIMATED[image.format]}, the first was read"
        warnings.warn(FileNote(name, text), stacklevel=2)
    return image


def _has_more(image: ImageFile.ImageFile) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # noqa: BLE001  (plugins raise anything where a further frame is damaged; the first may be read)
        return False


def check_pixels(size: tuple[int, int], name: str, max_pixels: int) -> None:
    """Refuse an image of (width, height) pixels that has none or more than ``max_pixels``."""
    pixels = size[0] * size[1]
    if pixels == 0:
        raise ImageError(f"{name}: the image has {size[0]} x {size[1]} pixels: pass one with at least one pixel")
    if pixels > max_pixels:
        cure = "make the image smaller, or raise max_pixels (--max-pixels) if you trust the file and have the memory"
        problem = f"{size[0]} x {size[1]} = {pixels:,} pixels, but max_pixels is {max_pixels:,}"
        raise ImageError(f"{name}: {problem}: {cure}")


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
    asked = [*DRAWINGS]
    for load_plugins in (Image.preinit, Image.init, register_plugins):
        load_plugins()
        for name in [name for name in Image.ID if name not in asked]:
            asked.append(name)
            if (image := _ask(name, stream, prefix)) is not None:
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


ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]"


def read_image(
    image: ImageLike, *, max_pixels: int = MAX_PIXELS, name: str | None = None, shown: bool = False
) -> Image.Image:
    """Read an image of any mode as an upright 8-bit RGB image.

    The EXIF orientation is applied, transparency is composited over white, 16-bit grey is scaled (65535
    becomes 255; in TIFF files, what their bits or tags name as the highest), and of an animation or several pages the
    first is taken. JPEG files that lack only their last bytes are read as viewers do. A warning tells of the last two.

    Args:
        image: A path, the bytes of an image file, a Pillow image, or an array of shape (H, W, 3) or (H, W) and
            type uint8.
        max_pixels: Images of more pixels are refused before they are decoded.
        name: What error messages call the image; the path by default.
        shown: Return what viewers show, for pictures to be written: of mode ``RGBA`` where the image is transparent;
            other colours than RGB, such as CMYK, are converted to sRGB by their ICC profile. Networks take the default.

    Returns:
        An image of mode ``RGB``; ``numpy.asarray`` gives its (H, W, 3) uint8 array. Its ``info["icc_profile"]`` is the
        ICC profile of an RGB image, if that has one.

    Raises:
        ImageError: The image is missing, damaged, empty, too large or not an image.
        ArgumentTypeError: ``image`` is of none of these types.

    Example:
        >>> import numpy as np
        >>> from goctconv.saliency import read_image
        >>> read_image(np.full((5, 7), 128, dtype=np.uint8)).getpixel((0, 0))
        (128, 128, 128)
    """
    convert = to_shown if shown else to_rgb
    if isinstance(image, np.ndarray):
        return _read_array(image, name or "array", max_pixels)
    if isinstance(image, Image.Image):
        name = name or str(getattr(image, "filename", "") or "image")
        check_pixels(image.size, name, max_pixels)
        with damaged_data(name):
            return convert(image)
    if isinstance(image, bytes):
        name = name or "image"
        opened = open_stream(io.BytesIO(image), name, max_pixels)
        with damaged_data(name):
            return convert(opened)
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        with open_path(path, max_pixels) as opened, damaged_data(name or str(path)):
            return convert(opened)
    raise ArgumentTypeError("image", image, "a path, bytes of an image file, a PIL image or uint8 (H, W, 3) or (H, W)")


def image_size(image: Image.Image) -> tuple[int, int]:
    """Return the (height, width) that an image has once it is upright."""
    width, height = image.size
    is_turned = orientation(image) >= 5 and image.format != "TIFF"  # whose size is the upright one before it is decoded
    return (width, height) if is_turned else (height, width)


def _read_array(array: NDArray[np.uint8], name: str, max_pixels: int) -> Image.Image:
    if array.dtype != np.uint8:
        cure = "scale the values and convert with array.astype(numpy.uint8)"
        raise ImageError(f"{name}: dtype {array.dtype}, expected uint8 with values 0 to 255: {cure}")
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] == 3):
        cure = "move the channels to the end and drop an alpha channel"
        raise ImageError(f"{name}: shape {array.shape}, expected (H, W, 3) in RGB order or (H, W): {cure}")
    check_pixels((array.shape[1], array.shape[0]), name, max_pixels)
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; damaged or absent EXIF data counts as upright."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001  (the EXIF parser raises anything on bad data, and viewers ignore such data too)
        return 1
    return value if value in _UPRIGHT else 1


def load(image: Image.Image) -> None:
    """Decode an image."""
    with _unmapped(image), quiet_libtiff(image):
        image.load()


@contextmanager
def _unmapped(image: Image.Image) -> Iterator[None]:
    """Keep Pillow from mapping a TIFF file into memory: it does so with sides swapped where EXIF turns the picture."""
    if not isinstance(image, ImageFile.ImageFile) or image.format != "TIFF":
        yield
        return
    name, image.filename = image.filename, ""
    try:
        yield
    finally:
        image.filename = name


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to an upright image of mode ``RGB``.

    Transparent images are composited over white. 16-bit grey is scaled, so that 65535 becomes 255. Values of the
    modes ``I`` and ``F`` are taken as 16-bit, as 8-bit or as 0 to 1, whichever range holds them all
    (``I``: always 16-bit); where none does, their own range is stretched to 0 to 255.
    """
    load(image)  # before EXIF is read, which loads a PNG too, but takes damaged pixels for damaged EXIF
    turn = _UPRIGHT.get(orientation(image))
    profile = image.info.get("icc_profile")
    if is_deep(image):
        image = Image.fromarray(deep_grey(image)).convert("RGB")
    elif is_transparent(image):
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    elif image.mode != "RGB":
        profile = None if image.mode in {"CMYK", "LAB"} else profile
        image = image.convert("RGB")
    elif turn is None:
        return image
    image = image if turn is None else image.transpose(turn)
    # Without the EXIF data, which would have it turned again.
    image.info = {"icc_profile": profile} if space_of(profile) == "RGB" else {}
    return image


def to_shown(image: Image.Image) -> Image.Image:
    """Convert to an upright image as viewers show it, of mode ``RGB`` or ``RGBA``."""
    return shown_parts(image).merged()


def shown_parts(image: Image.Image) -> Shown:
    """Return an upright image as viewers show it: colours, transparency and profile."""
    load(image)
    found = as_shown(image, deep_grey(image) if is_deep(image) else None)
    alpha = None if found.alpha is None else upright(image, found.alpha)
    return found._replace(colors=upright(image, found.colors), alpha=alpha)


def upright(image: Image.Image, picture: Image.Image) -> Image.Image:
    """Turn a picture as the EXIF data of a decoded image would have that turned."""
    turn = _UPRIGHT.get(orientation(image))
    return picture if turn is None else picture.transpose(turn)


def is_deep(image: Image.Image) -> bool:
    """Whether an image holds grey of more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def deep_grey(image: Image.Image) -> NDArray[np.uint8]:
    """Scale grey of more than 8 bits to 8; of a TIFF file, by the range that its tags name."""
    values: NDArray[np.generic] = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if values.dtype == np.int32 and tags.get(_BITS) == (32,) and tags.get(_SAMPLE_FORMAT, (1,)) == (1,):
        values = values.view(np.uint32)  # which Pillow has no mode for
    top = (1 << tags.get(_BITS, (16,))[0]) - 1 if image.mode.startswith("I;16") else None
    named = tags.get(_MAX_SAMPLE, (0,))
    named = named[0] if isinstance(named, tuple) else named
    if top is not None and 255 <= named < top and values.max() <= named:  # such as 12 bits in 16
        top = named
    return _scale_grey(values, top)


def _scale_grey(values: NDArray[np.generic], top: int | None = None) -> NDArray[np.uint8]:
    """Scale 16-bit, 32-bit or floating point grey to 8 bits, rounding to nearest."""
    if values.dtype == bool:
        return np.asarray(np.where(values, 255, 0), dtype=np.uint8)
    is_float = np.issubdtype(values.dtype, np.floating)
    grey: NDArray[np.floating] = values.astype(np.float32 if values.dtype == np.uint16 else np.float64)
    grey[~np.isfinite(grey)] = 0
    low, high = float(grey.min()), float(grey.max())
    limits = [1, 255, 65535] if is_float else [top or 65535]
    span: float | None = next((limit for limit in limits if high <= limit), None) if low >= 0 else None
    if span is None:
        grey -= low
        span = max(high - low, 1e-300)
    grey *= 255 / span
    grey += 0.5  # to the nearest
    return np.asarray(grey.astype(np.uint8))
