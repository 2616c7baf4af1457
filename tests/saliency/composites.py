"""Photographs composed of an object and a background with known alpha, and the maps that a network would make."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

PALETTES = (  # the darkest and the brightest colour of a texture
    ((40, 60, 30), (140, 170, 120)),
    ((120, 30, 20), (250, 150, 110)),
    ((20, 30, 90), (120, 150, 230)),
    ((160, 150, 130), (250, 245, 240)),
    ((10, 10, 10), (80, 70, 60)),
)


class Composite(NamedTuple):
    """A photograph and what it was composed of."""

    photograph: np.ndarray  # (H, W, 3), uint8
    alpha: np.ndarray  # (H, W), from 0 to 1
    object: np.ndarray  # (H, W, 3), from 0 to 255


def composite(seed, height, width, background=None):
    """Draw an object with holes, strands and an edge that is out of focus; over a texture, or a picture."""
    rng = np.random.default_rng(seed)
    ours, others = rng.choice(len(PALETTES), 2, replace=False)
    colors = _texture(rng, height, width, PALETTES[ours], 2.2)
    if background is None:
        behind = _texture(rng, height, width, PALETTES[others], 1.5)
    else:
        behind = np.asarray(background.convert("RGB").resize((width, height), Image.Resampling.BICUBIC), np.float32)
    alpha = _alpha(rng, height, width)
    share = alpha[..., None]
    return Composite(np.rint(share * colors + (1 - share) * behind).astype(np.uint8), alpha, colors)


def _texture(rng, height, width, palette, roughness):
    """Colours with detail of every size, as photographs have."""
    total, weight, amplitude, side = np.zeros((height, width, 3), np.float32), 0.0, 1.0, 3
    longer = max(height, width)
    while side < 2 * longer:
        shape = (max(2, round(side * height / longer)), max(2, round(side * width / longer)))
        for channel in range(3):
            grid = Image.fromarray(rng.uniform(0, 1, shape).astype(np.float32))
            total[..., channel] += amplitude * np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))
        weight, amplitude, side = weight + amplitude, amplitude / roughness, 2 * side
    share = np.clip((total / weight - 0.5) * 2.2 + 0.5, 0, 1)
    low, high = np.float32(palette)
    return low + (high - low) * share


def _alpha(rng, height, width):
    """Draw at twice the size: a body, holes of 1 to 6 % of the side, strands of 0.1 to 0.5 %."""
    picture = Image.new("L", (2 * width, 2 * height))
    draw = ImageDraw.Draw(picture)
    side = 2 * min(height, width)
    x, y, radius = width, 1.1 * height, 0.27 * side
    turn = np.linspace(0, 2 * np.pi, 400)
    rim = radius * (1 + 0.08 * np.sin(3 * turn + 1) + 0.05 * np.sin(7 * turn))
    draw.polygon(list(zip(x + rim * np.cos(turn), y + rim * np.sin(turn), strict=True)), fill=255)
    for _ in range(5):
        angle, away, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.6) * radius, rng.uniform(0.008, 0.03) * side
        left, top = x + away * np.cos(angle), y + away * np.sin(angle)
        draw.ellipse([left - size, top - 1.4 * size, left + size, top + 1.4 * size], fill=0)
    along = np.linspace(0, 1, 30)
    for _ in range(60):
        angle, length, bend = rng.uniform(1.05, 1.95) * np.pi, rng.uniform(0.15, 0.5) * radius, rng.uniform(-0.6, 0.6)
        away = 0.9 * radius + (length + 0.1 * radius) * along
        points = zip(
            x + away * np.cos(angle + bend * along**2), y + away * np.sin(angle + bend * along**2), strict=True
        )
        thickness = max(1, round(rng.uniform(0.001, 0.005) * side))
        draw.line(list(points), fill=int(rng.uniform(150, 255)), width=thickness)
    sharp = picture.resize((width, height), Image.Resampling.BOX)
    soft = sharp.filter(ImageFilter.GaussianBlur(0.008 * min(height, width)))
    mix = np.clip((np.linspace(0, 1, width) - 0.6) * 10, 0, 1).astype(np.float32)
    return (np.asarray(sharp, np.float32) * (1 - mix) + np.asarray(soft, np.float32) * mix) / 255


def network_map(alpha, side=224, sigma=1.0):
    """Reduce alpha to the size of a network, and blur it."""
    small = np.asarray(Image.fromarray(alpha).resize((side, side), Image.Resampling.BOX))
    taps = np.exp(-(np.arange(-4, 5) ** 2) / (2 * sigma**2)).astype(np.float32)
    taps /= taps.sum()
    for _ in range(2):
        padded = np.pad(small, ((4, 4), (0, 0)), "edge")
        small = sum(tap * padded[index : index + side] for index, tap in enumerate(taps)).T
    return np.ascontiguousarray(small)


def interpolated(probability, size):
    """The unrefined alpha: a map, resized bilinearly."""
    return np.asarray(Image.fromarray(probability).resize((size[1], size[0]), Image.Resampling.BILINEAR))


class Errors(NamedTuple):
    alpha: float  # mean absolute error
    gradient: float  # mean absolute error of differences between neighbours
    fringe: float  # of colours where the object is half transparent, by alpha; of 255


def errors(alpha, colors, truth):
    """Compare alpha and colours with those of a composite."""
    gradient = sum(np.abs(np.diff(alpha, axis=axis) - np.diff(truth.alpha, axis=axis)).mean() for axis in (0, 1))
    fringe = (truth.alpha > 0.02) & (truth.alpha < 0.98)
    away = np.abs(colors[fringe] - truth.object[fringe]).mean(-1)
    weighted = float((alpha[fringe] * away).sum() / alpha[fringe].sum())
    return Errors(float(np.abs(alpha - truth.alpha).mean()), float(gradient), weighted)
