"""Bilinear resizing as the published inference does it, and sizes of a network's input."""

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from .._checks import ArgumentError, ArgumentTypeError

_ROUNDING = 1e-6  # by which resizing may leave the range

MIN_SIZE = 32  # CSNet accepts 16: one pixel at its coarsest scale, from which BatchNorm cannot be calibrated
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet's red, green and blue
OWN: Literal["own"] = "own"

Size: TypeAlias = "int | Sequence[int] | Literal['own']"
"""One integer, (height, width), or ``"own"``: what each photograph has."""

_SIZES = f"one integer or (height, width), each at least {MIN_SIZE}"
_BAND = 256  # rows of a photograph that are looked at together
_BLOCK_VALUES = 1 << 16  # values per block of rows: small enough for the processor's cache


class _Taps(NamedTuple):
    """For each output position along one axis: its two neighbours, and how far it is from the first."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    fraction: NDArray[np.float64]


def resize_bilinear(image: NDArray[Any], size: tuple[int, int], *, dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """Resize an image bilinearly, without antialiasing.

    Pixel centres lie at half-integers; positions outside the outermost centres are mirrored about them. The values are
    those of ``skimage.transform.resize(order=1, mode="reflect", anti_aliasing=False)``, but 8-bit ones stay 0 to 255.
    """
    result = np.empty((*size, *image.shape[2:]), dtype=dtype)
    for rows, block in resized_blocks(image, size, dtype=dtype):
        result[rows] = block
    return result


def resize_photograph(image: Image.Image, size: tuple[int, int]) -> NDArray[np.float64]:
    """Resize a Pillow image as `resize_bilinear` its array, of which only the rows that count are made."""
    height = image.height
    _, used = _compact(_taps(height, size[0]), height)
    if isinstance(used, slice):
        return resize_bilinear(np.asarray(image), size)
    # NumPy's array of an image takes as much memory as the image twice. Rows that are not read hold anything.
    kept = np.empty((len(used), image.width, 3), np.uint8)
    for start in range(0, height, _BAND):
        first, last = np.searchsorted(used, (start, start + _BAND))
        band = np.asarray(image.crop((0, start, image.width, min(start + _BAND, height))))
        kept[first:last] = band[used[first:last] - start]
    result = np.empty((*size, 3))
    for rows, block in _blocks(kept, size, _compact(_taps(height, size[0]), height)[0], np.float64):
        result[rows] = block
    return result


def resized_blocks(
    image: NDArray[Any], size: tuple[int, int], *, dtype: DTypeLike = np.float64
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield the rows of `resize_bilinear` block by block, for results that are not kept in floating point."""
    if image.ndim not in {2, 3} or 0 in image.shape or min(size) < 1:
        raise ArgumentError("image", image, f"(H, W) or (H, W, C), and size={size!r}, all at least 1")
    rows, used = _compact(_taps(image.shape[0], size[0]), image.shape[0])
    yield from _blocks(image[used], size, rows, dtype)


def _blocks(
    image: NDArray[Any], size: tuple[int, int], rows: _Taps, dtype: DTypeLike
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield the rows of an image that has the rows which are read."""
    columns, used = _compact(_taps(image.shape[1], size[1]), image.shape[1])
    image = image[:, used]
    if image.dtype != np.uint8:
        image = image.astype(dtype, copy=False)
    height, width = image.shape[:2]
    columns_first = height * size[1] <= size[0] * width
    half_way = _lerp(image, columns, 1, dtype) if columns_first else image
    step = max(1, _BLOCK_VALUES // half_way[0].size)
    for start in range(0, size[0], step):
        part = slice(start, min(start + step, size[0]))
        block = _lerp(half_way, _Taps(rows.low[part], rows.high[part], rows.fraction[part]), 0, dtype)
        yield part, block if columns_first else _lerp(block, columns, 1, dtype)


def _taps(length: int, new_length: int) -> _Taps:
    position = (np.arange(new_length) + 0.5) * (length / new_length) - 0.5
    last = length - 1
    position = last - np.abs(last - np.abs(position)) if length > 1 else np.zeros(new_length)
    low = position.astype(np.intp)
    return _Taps(low, np.minimum(low + 1, last), position - low)


def _compact(taps: _Taps, length: int) -> tuple[_Taps, slice | NDArray[np.intp]]:
    """Renumber the taps to the positions that are read at all, where these are fewer than half."""
    if 4 * len(taps.low) >= length:
        return taps, slice(None)
    used = np.unique(np.concatenate([taps.low, taps.high]))
    return _Taps(np.searchsorted(used, taps.low), np.searchsorted(used, taps.high), taps.fraction), used


def _lerp(image: NDArray[Any], taps: _Taps, axis: int, dtype: DTypeLike) -> NDArray[Any]:
    if axis == 1 and image.ndim == 3:  # single values are taken faster than those of all channels at once
        flat = image.reshape(len(image), -1)
        wide = _lerp(flat, _of_channels(taps, image.shape[2]), 1, dtype)
        return wide.reshape(len(image), -1, image.shape[2])
    low, high = image.take(taps.low, axis), image.take(taps.high, axis)
    # Bytes are gathered as they are, and the difference of two is exact in 16 bits.
    how: dict[str, Any] = {"dtype": np.int16} if image.dtype == np.uint8 else {"out": high}
    result: NDArray[Any] = np.subtract(high, low, **how).astype(dtype, copy=False)
    shape = [1] * image.ndim
    shape[axis] = -1
    result *= taps.fraction.astype(result.dtype).reshape(shape)
    result += low
    return result


def _of_channels(taps: _Taps, channels: int) -> _Taps:
    """Return the taps of rows whose pixels are spread out into their channels."""
    offsets = np.arange(channels)
    low, high = ((position[:, None] * channels + offsets).ravel() for position in (taps.low, taps.high))
    return _Taps(low, high, np.repeat(taps.fraction, channels))


def check_size(size: int | Sequence[int]) -> tuple[int, int]:
    """Return the network's input size as (height, width)."""
    pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if not all(isinstance(side, Integral) for side in pair):
        raise ArgumentTypeError("size", size, _SIZES)
    if len(pair) != 2 or min(pair) < MIN_SIZE:
        raise ArgumentError("size", size, _SIZES)
    return int(pair[0]), int(pair[1])


def check_size_or_own(size: Size) -> tuple[int, int] | None:
    """Return an input size as (height, width), or None for what each photograph has."""
    if isinstance(size, str) and size != OWN:
        raise ArgumentTypeError("size", size, f"{_SIZES}, or {OWN!r}")
    return None if isinstance(size, str) else check_size(size)


def check_probability(probability: Any) -> NDArray[Any]:
    """Return a map (H, W) of probabilities, without what rounding puts beyond 0 and 1; refuse anything else."""
    if not isinstance(probability, np.ndarray):
        raise ArgumentTypeError("probability", probability, "a NumPy array", "pass numpy.asarray(map.detach().cpu())")
    if probability.ndim != 2 or not probability.size:
        raise ArgumentError("probability", probability, "(height, width)", "pass one map at a time")
    low, high = float(probability.min()), float(probability.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # NaN is neither
        cure = "apply a sigmoid to logits, and divide a grey map by 255"
        problem = f"has values from {low:g} to {high:g}"
        raise ArgumentError("probability", probability, "probabilities from 0 to 1", cure, problem=problem)
    return np.clip(probability, 0, 1)
