"""Synthetic photographs of objects with their masks, for demonstrations and tests."""

import colorsys
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.float64]
Colors = tuple[Pixels, Pixels]  # each of shape (3,) or (H, W, 3)
Spot = tuple[float, float, float]  # centre y, centre x, radius
Solid = tuple[Pixels, Pixels]  # the coverage of each pixel, and the height above the ground
T = TypeVar("T")

_SIDES = (240, 400)  # pixels, the shortest and the longest


class Grid(NamedTuple):
    """The coordinates of the pixels, each of shape (H, W)."""

    y: Pixels
    x: Pixels


def _palette(rng: np.random.Generator) -> tuple[Colors, Colors, Colors]:
    """Return two colours each for ground, clutter and objects; the objects' hue stands out."""
    hue = rng.uniform()
    ground_value = rng.uniform(0.35, 0.85)
    object_hue = hue + rng.uniform(0.25, 0.75)
    object_value = ground_value + (0.25 if ground_value < 0.6 else -0.15)
    ground = _pair(rng, hue, rng.uniform(0.05, 0.4), ground_value)
    clutter = _pair(rng, hue + rng.uniform(-0.06, 0.06), 0.3, ground_value * 0.85)
    return ground, clutter, _pair(rng, object_hue, rng.uniform(0.55, 0.95), object_value)


def _pair(rng: np.random.Generator, hue: float, saturation: float, value: float) -> Colors:
    shift, contrast = rng.uniform(-0.06, 0.06), rng.uniform(0.08, 0.3)
    first = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    second = colorsys.hsv_to_rgb((hue + shift) % 1, saturation * rng.uniform(0.6, 1), max(value - contrast, 0.1))
    return np.array(first), np.array(second)


def smooth_noise(rng: np.random.Generator, grid: Grid, cells: int, octaves: int = 1) -> Pixels:
    """Return noise about -1 to 1, smooth over 1/cells of the image, with finer octaves of half the height each."""
    height, width = grid.y.shape
    total = np.zeros((height, width))
    for octave in range(octaves):
        side = min(cells * 2**octave + 1, height, width)
        coarse = Image.fromarray(rng.uniform(-1, 1, (side, side)).astype(np.float32))
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / 2**octave
    return total


def _mix(colors: Colors, share: Pixels) -> Pixels:
    return colors[0] + np.clip(share, 0, 1)[..., None] * (colors[1] - colors[0])


def _turned(rng: np.random.Generator, grid: Grid) -> Pixels:
    angle = rng.uniform(0, np.pi)
    return np.asarray(np.cos(angle) * grid.x + np.sin(angle) * grid.y)


def _clouds(rng: np.random.Generator, grid: Grid, colors: Colors) -> Pixels:
    return _mix(colors, 0.5 + 0.5 * smooth_noise(rng, grid, int(rng.integers(2, 12)), 5))


def _grain(rng: np.random.Generator, grid: Grid, colors: Colors) -> Pixels:
    """Wood: stripes bent by noise."""
    bent = _turned(rng, grid) / rng.uniform(8, 26) + 2.5 * smooth_noise(rng, grid, 3, 3)
    return _mix(colors, 0.5 + 0.4 * np.sin(bent) + 0.15 * smooth_noise(rng, grid, 40, 2))


def _tiles(rng: np.random.Generator, grid: Grid, colors: Colors) -> Pixels:
    """Tiles with joints, each of its own shade."""
    side = rng.uniform(24, 64)
    angle = rng.uniform(0, np.pi / 2)
    u = (np.cos(angle) * grid.x + np.sin(angle) * grid.y) / side
    v = (np.cos(angle) * grid.y - np.sin(angle) * grid.x) / side
    row = np.floor(v).astype(np.int64)
    column = np.floor(u + 0.5 * (row % 2)).astype(np.int64)
    shades = rng.uniform(0, 0.6, (64, 64))
    edge = np.maximum(np.abs(u + 0.5 * (row % 2) - column - 0.5), np.abs(v - row - 0.5))
    joint = np.clip((edge - 0.5) * side + 2, 0, 1)
    return _mix(colors, shades[row % 64, column % 64] + 0.15 * smooth_noise(rng, grid, 20, 3) + 0.6 * joint)


def _gradient(rng: np.random.Generator, grid: Grid, colors: Colors) -> Pixels:
    ramp = _turned(rng, grid)
    ramp = (ramp - ramp.min()) / max(float(np.ptp(ramp)), 1.0)
    return _mix(colors, ramp + 0.08 * smooth_noise(rng, grid, 30, 3))


def _spots(rng: np.random.Generator, grid: Grid, colors: Colors) -> Pixels:
    """Dots on a lattice that noise has bent."""
    step = rng.uniform(14, 40)
    y = grid.y / step + 0.35 * smooth_noise(rng, grid, 6)
    x = grid.x / step + 0.35 * smooth_noise(rng, grid, 6)
    distance = np.hypot(y - np.round(y), x - np.round(x))
    return _mix(colors, np.clip((rng.uniform(0.2, 0.38) - distance) * step + 0.5, 0, 1))


TEXTURES = (_clouds, _grain, _tiles, _gradient, _spots)


def _radial(rng: np.random.Generator, grid: Grid, spot: Spot, least: float) -> tuple[Pixels, Pixels]:
    """Return polar coordinates (angle, radius in pixels) about a spot, turned, one axis squeezed by ``least`` to 1."""
    angle, squeeze = rng.uniform(0, np.pi), rng.uniform(least, 1)
    y, x = grid.y - spot[0], grid.x - spot[1]
    u = np.cos(angle) * x + np.sin(angle) * y
    v = (np.cos(angle) * y - np.sin(angle) * x) / squeeze
    return np.arctan2(v, u), np.hypot(u, v)


def _solid(edge: Pixels | float, radius: Pixels) -> Solid:
    """Return a domed solid whose outline lies at ``edge``."""
    inside = np.clip(1 - (radius / edge) ** 2, 0, 1)
    return np.clip(edge - radius + 0.5, 0, 1), edge * np.sqrt(inside) * 0.8


def _ellipse(rng: np.random.Generator, grid: Grid, spot: Spot) -> Solid:
    return _solid(spot[2], _radial(rng, grid, spot, 0.5)[1])


def _blob(rng: np.random.Generator, grid: Grid, spot: Spot) -> Solid:
    theta, radius = _radial(rng, grid, spot, 0.6)
    waves = [rng.normal(0, 0.22 / k) * np.cos(k * theta + rng.uniform(0, 2 * np.pi)) for k in range(1, 7)]
    return _solid(spot[2] * np.clip(1 + np.sum(waves, axis=0), 0.35, 1.6), radius)


def _polygon(rng: np.random.Generator, grid: Grid, spot: Spot) -> Solid:
    theta, radius = _radial(rng, grid, spot, 0.6)
    sector = np.pi / rng.integers(3, 7)
    return _solid(spot[2] * np.cos(sector) / np.cos(theta % (2 * sector) - sector), radius)


def _flower(rng: np.random.Generator, grid: Grid, spot: Spot) -> Solid:
    theta, radius = _radial(rng, grid, spot, 0.75)
    petals, depth = rng.integers(4, 9), rng.uniform(0.15, 0.4)
    return _solid(spot[2] * (1 - depth + depth * np.abs(np.cos(petals * theta / 2)) * 2), radius)


def _ring(rng: np.random.Generator, grid: Grid, spot: Spot) -> Solid:
    radius = _radial(rng, grid, spot, 0.6)[1]
    half = spot[2] * rng.uniform(0.15, 0.3)
    return _solid(half, np.abs(radius - spot[2] + half))


SHAPES = (_ellipse, _blob, _polygon, _flower, _ring)


def synthetic_images(
    count: int, seed: int = 0, *, sides: tuple[int, int] = _SIDES
) -> Iterator[tuple[Image.Image, Image.Image]]:
    """Yield synthetic photographs and their masks, for demonstrations and tests.

    Each shows one to three textured, shaded objects with soft shadows on a textured background, with some clutter that
    is not salient. The i-th pair depends on the seed, i and the sides only.

    Args:
        count: How many.
        seed: Of the random numbers.
        sides: The least and the largest height and width in pixels. Small ones are drawn faster.

    Yields:
        An image of mode ``RGB`` and its mask of mode ``L`` (255 where salient), of equal size.

    Example:
        >>> from goctconv.saliency import synthetic_images
        >>> [(photograph.mode, mask.mode) for photograph, mask in synthetic_images(2, sides=(32, 48))]
        [('RGB', 'L'), ('RGB', 'L')]
    """
    for index in range(count):
        yield _photograph(np.random.default_rng([seed, index]), sides)


def _photograph(rng: np.random.Generator, sides: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    height, width = map(int, rng.integers(sides[0], sides[1] + 1, 2))
    grid = Grid(*np.mgrid[:height, :width].astype(np.float64))
    ground, clutter_colors, object_colors = _palette(rng)
    pixels = _choose(rng, TEXTURES)(rng, grid, ground)
    for _ in range(rng.integers(0, 7)):
        alpha, _ = _choose(rng, SHAPES)(rng, grid, _place(rng, grid, 0.02, 0.06, 0.5))
        pixels = _mix((pixels, _choose(rng, TEXTURES)(rng, grid, clutter_colors)), 0.45 * alpha)
    mask = np.zeros((height, width))
    spots = [_place(rng, grid, 0.16, 0.3, 0.14)]
    spots += [_place(rng, grid, 0.09, 0.14, 0.33) for _ in range(rng.choice(3, p=(0.6, 0.3, 0.1)))]
    for spot in spots:
        alpha, height_map = _choose(rng, SHAPES)(rng, grid, spot)
        pixels = _shade_ground(rng, pixels, alpha, spot[2])
        surface = _choose(rng, TEXTURES)(rng, grid, object_colors)
        pixels = _mix((pixels, surface * _light(rng, grid, height_map)[..., None]), alpha)
        mask = np.maximum(mask, alpha)
    return _expose(rng, grid, pixels), Image.fromarray(_to_bytes(mask))


def _place(rng: np.random.Generator, grid: Grid, smallest: float, largest: float, spread: float) -> Spot:
    """Return a centre (y, x) about the middle and a radius, in pixels."""
    height, width = grid.y.shape
    y, x = (0.5 + rng.uniform(-spread, spread, 2)) * (height, width)
    return float(y), float(x), float(rng.uniform(smallest, largest) * min(height, width) * 1.3)


def _choose(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _shade_ground(rng: np.random.Generator, pixels: Pixels, alpha: Pixels, radius: float) -> Pixels:
    """Darken the ground beside an object: a blurred copy of its shape, shifted away from the light."""
    blurred = Image.fromarray(_to_bytes(alpha)).filter(ImageFilter.GaussianBlur(radius * rng.uniform(0.08, 0.2)))
    shifted = Image.new("L", blurred.size)
    shifted.paste(blurred, (round(radius * rng.uniform(-0.2, 0.2)), round(radius * rng.uniform(0.08, 0.3))))
    shadow = np.asarray(shifted, dtype=np.float64) / 255
    return pixels * (1 - rng.uniform(0.3, 0.65) * shadow[..., None])


def _light(rng: np.random.Generator, grid: Grid, height_map: Pixels) -> Pixels:
    """Shade a surface, given its height in pixels, by light from above."""
    slope_y, slope_x = np.gradient(height_map)
    facing = np.clip(-(slope_y * -0.8 + slope_x * rng.uniform(-0.8, 0.8)), -0.8, 0.8)
    return np.asarray(0.92 - 0.35 * facing + 0.06 * smooth_noise(rng, grid, 6))


def _expose(rng: np.random.Generator, grid: Grid, pixels: Pixels) -> Image.Image:
    """Add what a camera adds: a falloff to the corners and a little noise."""
    height, width = grid.y.shape
    distance = np.hypot(grid.y / height - 0.5, grid.x / width - 0.5)
    pixels = pixels * (1 - rng.uniform(0, 0.5) * distance**2)[..., None]
    return Image.fromarray(_to_bytes(pixels + rng.normal(0, rng.uniform(0.003, 0.02), pixels.shape)))


def _to_bytes(values: Pixels) -> NDArray[np.uint8]:
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
