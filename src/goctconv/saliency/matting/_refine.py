"""Alpha whose edges follow the photograph, from a saliency map of low resolution.

Around each place the colours of the object and of the background are two clouds, which the map tells apart well enough
to know their means and spread. Fisher's linear discriminant between them is alpha as a linear function of colour, 0 at
the background's mean and 1 at the object's, which mixtures of both follow exactly. It replaces the map where the clouds
lie far apart and the map is in doubt; repeated, the map gets sharper and the clouds purer. At last the alpha is fitted
as a linear function of colour in small windows (the guided filter: He, Sun, Tang, TPAMI 2013; on a reduced picture: He
and Sun, arXiv 1505.00996), whose coefficients are interpolated to the photograph's size.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ._planes import Linear, Plane, block_mean, box_mean, colors_of, from_blocks, products, resized, solve

# Chosen on composites with known alpha and on photographs (benchmarks/cutout_edges.py).
GUIDE = 3.0  # pixels of the guide for one of the map, along the longer side
GUIDE_PIXELS = (100_000, 1_000_000)
_ROUNDS = 3
_RADIUS = 3  # of windows, in blocks, of which there are about 1.3 for a pixel of the map
_BLOCKS = 1.3
_PURITY = 4  # power of the map by which pixels count as the object's or the background's
_NOISE = 1e-3  # variance of colours (0 to 1) that counts as noise
_OVERLAP = 2.0  # squared distance of the clouds, in standard deviations, at which the map counts as much as they
_DOUBT = (0.05, 0.2)  # how far from 0 and from 1 the map has to be before colours may overrule it
_AGREE, _DIFFER = 0.05, 0.2  # means over a window may differ from the map's by the first, not by both together
_FIT = 1e-4  # of the last fit, as the noise
_LEAST = 0.01  # alpha that the last fit leaves of 0 and 1
_SNAP = 0.05  # alpha nearer to 0 or 1 becomes 0 or 1, and what is between is stretched: faint haze is none


def guide_size(size: tuple[int, int], map_size: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) at which alpha is computed, for a photograph of ``size``."""
    pixels = size[0] * size[1]
    wanted = pixels * (GUIDE * max(map_size) / max(size)) ** 2
    share = min(1.0, (min(max(wanted, GUIDE_PIXELS[0]), GUIDE_PIXELS[1]) / pixels) ** 0.5)
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def refined(guide: Image.Image, probability: Plane) -> tuple[Plane, Linear]:
    """Return alpha at the guide's size, and the linear function of colours that gives it at any size.

    Args:
        guide: The photograph in RGB, reduced to `guide_size`.
        probability: The map of the object (h, w), from 0 to 1.
    """
    size = (guide.height, guide.width)
    colors = colors_of(guide)
    first = alpha = resized(probability, size)
    side = max(1, round(max(size) / (_BLOCKS * max(probability.shape))))
    doubt = _ramp(first / _DOUBT[0]) * _ramp((1 - first) / _DOUBT[1])
    before = box_mean(block_mean(first, side), 2)
    for _ in range(_ROUNDS):
        model, trust = _discriminant(colors, alpha, side)
        weight = trust * doubt
        weight *= model.at(colors) - alpha
        alpha = alpha + weight
        excess = np.abs(box_mean(block_mean(alpha, side), 2) - before) - _AGREE
        alpha = first + from_blocks(np.clip(1 - excess / _DIFFER, 0, 1), side, size) * (alpha - first)
    return fitted(colors, snapped(alpha))


def snapped(alpha: Plane) -> Plane:
    """Return alpha without what is nearly 0 or 1."""
    return np.asarray(np.clip((alpha - _SNAP) * (1 / (1 - 2 * _SNAP)), 0, 1), dtype=np.float32)


def fitted(colors: list[Plane], alpha: Plane) -> tuple[Plane, Linear]:
    """Fit alpha as a linear function of colour in windows of 3 x 3, as the guided filter does."""
    means, mean = [box_mean(color, 1) for color in colors], box_mean(alpha, 1)
    spread = {key: box_mean(value, 1) - means[key[0]] * means[key[1]] for key, value in products(colors).items()}
    for channel in range(3):
        spread[channel, channel] += _FIT
    along = [box_mean(color * alpha, 1) - center * mean for color, center in zip(colors, means, strict=True)]
    slopes = solve(spread, along)
    offset = mean - sum(slope * center for slope, center in zip(slopes, means, strict=True))
    model = Linear(slopes, offset).mapped(box_mean, 1)
    stretch = 1 / (1 - 2 * _LEAST)
    model = Linear([slope * stretch for slope in model.slopes], (model.offset - _LEAST) * stretch)
    return model.at(colors), model


def _discriminant(colors: list[Plane], alpha: Plane, side: int) -> tuple[Linear, Plane]:
    """Return Fisher's discriminant around each pixel, and how far it is to be trusted, from 0 to 1."""

    def mean(plane: Plane) -> Plane:
        return box_mean(block_mean(plane, side), _RADIUS)

    squares = products(colors)
    spread: dict[tuple[int, int], Plane] = {}
    centers, shares = [], []
    for weight in (alpha**_PURITY, (1 - alpha) ** _PURITY):
        share = mean(weight) + 1e-6
        center = [mean(weight * color) / share for color in colors]
        for key, square in squares.items():
            part = 0.5 * (mean(weight * square) / share - center[key[0]] * center[key[1]])
            spread[key] = spread[key] + part if key in spread else part
        centers.append(center)
        shares.append(share)
    for channel in range(3):
        spread[channel, channel] = np.maximum(spread[channel, channel], np.float32(0)) + np.float32(_NOISE)
    apart = [inside - outside for inside, outside in zip(*centers, strict=True)]
    direction = solve(spread, apart)
    distance = np.maximum(sum(step * along for step, along in zip(apart, direction, strict=True)), 1e-6)
    slopes = [along / distance for along in direction]
    offset = -sum(slope * outside for slope, outside in zip(slopes, centers[1], strict=True))
    rarer = np.minimum(*shares)
    trust = distance / (distance + _OVERLAP) * (rarer / (rarer + 0.01))
    size = (alpha.shape[0], alpha.shape[1])
    return Linear(slopes, np.asarray(offset)).mapped(from_blocks, side, size), from_blocks(trust, side, size)


def _ramp(values: Plane) -> Plane:
    """Rise smoothly from 0 at 0 to 1 at 1."""
    values = np.clip(values, 0, 1)
    return values * values * (3 - 2 * values)
