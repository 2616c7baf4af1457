"""Colours of the object without those of the old background, which shine through where alpha is below 1."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from ._planes import Box, Linear, Plane, colors_of, resized, to_image

_PURE = 0.1  # alpha up to this far from 1 or 0 counts as object or background alone
_TILE = 256  # pixels a side, of the photograph, that are worked on together


class Layers(NamedTuple):
    """The colours of object and background at the guide's size, each continued to where it is hidden."""

    object: Image.Image
    behind: Image.Image


def separated(guide: Image.Image, alpha: Plane) -> Layers:
    """Continue the colours of the object and of the background to where the other is seen."""
    colors = colors_of(guide)
    layers = []
    for share in (alpha, 1 - alpha):
        weight: Plane = np.clip((share - (1 - _PURE)) * (1 / _PURE), 0, 1).astype(np.float32) ** 2
        layers.append(to_image(np.dstack(_continued(colors, weight))))
    return Layers(*layers)


def _continued(colors: list[Plane], weight: Plane) -> list[Plane]:
    """Fill what has no weight with the nearest colours that have, from averages over ever larger squares."""
    if min(weight.shape) < 2:
        total = weight.sum() + 1e-6
        return [np.full_like(color, (color * weight).sum() / total) for color in colors]
    half = (-(-weight.shape[0] // 2), -(-weight.shape[1] // 2))
    smaller = resized(weight, half)
    means = [resized(color * weight, half) / np.maximum(smaller, np.float32(1e-6)) for color in colors]
    coarse = _continued(means, np.minimum(4 * smaller, 1))  # a quarter of the pixels is enough to know a colour
    size = (weight.shape[0], weight.shape[1])
    return [weight * color + (1 - weight) * resized(mean, size) for color, mean in zip(colors, coarse, strict=True)]


def painted(photograph: Image.Image, alpha: Plane, model: Linear, layers: Layers) -> tuple[Image.Image, Image.Image]:
    """Return the object's colours and alpha at the photograph's size, as images of modes RGB and L.

    Tile by tile, where alpha is neither 0 nor 1 all over; the rest is copied.
    """
    colors = photograph.copy()
    opacity = Image.new("L", photograph.size)
    for top in range(0, photograph.height, _TILE):
        for left in range(0, photograph.width, _TILE):
            corners = (left, top, min(left + _TILE, photograph.width), min(top + _TILE, photograph.height))
            tile = _Tile(*(corner / photograph.size[index % 2] for index, corner in enumerate(corners)))
            x, y, right, bottom = map(int, tile.within((alpha.shape[1], alpha.shape[0])))
            near = alpha[max(0, y - 2) : bottom + 3, max(0, x - 2) : right + 3]
            if near.max() < 1 / 255:
                continue
            if near.min() > 254 / 255:
                opacity.paste(255, corners)
                continue
            ours, share = _separate(photograph.crop(corners), tile, model, layers)
            colors.paste(ours, corners[:2])
            opacity.paste(share, corners[:2])
    return colors, opacity


class _Tile(NamedTuple):
    """A part of the photograph, as shares of its sides."""

    left: float
    top: float
    right: float
    bottom: float

    def within(self, size: tuple[int, int]) -> Box:
        """Return the part of an image of (width, height)."""
        return self.left * size[0], self.top * size[1], self.right * size[0], self.bottom * size[1]


def _separate(photograph: Image.Image, tile: _Tile, model: Linear, layers: Layers) -> tuple[Image.Image, Image.Image]:
    """Return the object's colours and alpha of a tile."""
    size = (photograph.height, photograph.width)
    seen = colors_of(photograph)
    share = model.mapped(resized, size, tile.within(model.offset.shape[::-1])).at(seen)
    bilinear = Image.Resampling.BILINEAR
    hidden = [colors_of(layer.resize(photograph.size, bilinear, tile.within(layer.size))) for layer in layers]
    # The smallest change of both layers by which their mixture is what is seen (least squares).
    gain = share / (share * share + (1 - share) * (1 - share))
    found = [
        ours + gain * (color - share * ours - (1 - share) * behind)
        for color, ours, behind in zip(seen, *hidden, strict=True)
    ]
    return to_image(np.dstack(found)), to_image(share)
