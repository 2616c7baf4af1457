"""Planes of numbers: resizing, means of windows, and linear models of three colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[np.float32]
Box = tuple[float, float, float, float]


def resized(plane: Plane, size: tuple[int, int], box: Box | None = None) -> Plane:
    """Resize a plane to (height, width): bilinearly where it grows, by averages where it shrinks.

    With a ``box`` (left, top, right, bottom), that part of it alone; its neighbours count, so parts fit together.
    """
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.array(image.resize((size[1], size[0]), Image.Resampling.BILINEAR, box))


def colors_of(image: Image.Image) -> list[Plane]:
    """Return red, green and blue of an RGB image, from 0 to 1."""
    values = np.asarray(image)
    return [np.multiply(values[..., channel], np.float32(1 / 255), dtype=np.float32) for channel in range(3)]


def to_image(values: NDArray[Any]) -> Image.Image:
    """Return numbers from 0 to 1, of shape (H, W) or (H, W, 3), as an image of 8 bits; others are clipped."""
    return Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))


def box_mean(plane: Plane, radius: int) -> Plane:
    """Return the mean of the window of ``2 * radius + 1`` pixels a side around each; edges are repeated."""
    for _ in range(2):  # rows, then columns
        padded = np.pad(plane, ((radius, radius), (0, 0)), "edge")
        total = padded[: len(plane)].copy()
        for offset in range(1, 2 * radius + 1):
            total += padded[offset : offset + len(plane)]
        plane = np.ascontiguousarray(total.T)
    plane *= np.float32(1 / (2 * radius + 1) ** 2)
    return plane


def block_mean(plane: Plane, side: int) -> Plane:
    """Return the means of blocks of ``side`` pixels a side; edges are repeated to whole blocks."""
    height, width = plane.shape
    if height % side or width % side:
        plane = np.pad(plane, ((0, -height % side), (0, -width % side)), "edge")
    blocks = plane.reshape(len(plane) // side, side, -1, side)
    return np.asarray(blocks.sum((1, 3)) * np.float32(1 / side**2), dtype=np.float32)


def from_blocks(plane: Plane, side: int, size: tuple[int, int]) -> Plane:
    """Return the values of blocks of ``side`` pixels a side, interpolated to pixels."""
    grown: Plane = resized(plane, (plane.shape[0] * side, plane.shape[1] * side))
    return grown[: size[0], : size[1]]


class Linear(NamedTuple):
    """Alpha as a linear function of colours: ``slopes · color + offset``, with values for each place."""

    slopes: list[Plane]
    offset: Plane

    def at(self, colors: Sequence[Plane]) -> Plane:
        """Return alpha of colours, from 0 to 1."""
        alpha: Plane = self.offset.copy()
        for slope, color in zip(self.slopes, colors, strict=True):
            alpha += slope * color
        np.clip(alpha, 0, 1, out=alpha)
        return alpha

    def mapped(self, change: Any, *arguments: Any) -> Linear:
        """Return the function with each of its planes changed."""
        return Linear([change(slope, *arguments) for slope in self.slopes], change(self.offset, *arguments))


def solve(matrix: dict[tuple[int, int], Plane], right: Sequence[Plane]) -> list[Plane]:
    """Solve a symmetric system of three equations for each pixel; ``matrix`` holds the upper triangle."""
    a, b, c, d, e, f = (matrix[key] for key in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)))
    minors = [d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b]
    scale = np.reciprocal(a * minors[0] + b * minors[1] + c * minors[2])
    rows = ((0, 1, 2), (1, 3, 4), (2, 4, 5))
    return [scale * (minors[i] * right[0] + minors[j] * right[1] + minors[k] * right[2]) for i, j, k in rows]


def products(colors: Sequence[Plane]) -> dict[tuple[int, int], Plane]:
    """Return the products of each two colours, the upper triangle."""
    return {(i, j): colors[i] * colors[j] for i in range(3) for j in range(i, 3)}
