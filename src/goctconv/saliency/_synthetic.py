"""Made-up photographs of objects, with their masks: for demonstrations and tests."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ._synthetic_parts import SHAPES, TEXTURES, Grid, make_grid, palette, smooth_noise

Pixels = NDArray[np.float64]
T = TypeVar("T")


SIDES = (240, 400)  # pixels, the shortest and the longest


def synthetic_photographs(
    count: int, seed: int = 0, *, sides: tuple[int, int] = SIDES
) -> Iterator[tuple[Image.Image, Image.Image]]:
    """Yield made-up photographs and their masks.

    Each shows one to three textured, shaded objects with soft shadows on a textured background, with some clutter that
    is not salient. The i-th pair depends on the seed, i and the sides only.

    Args:
        count: How many.
        seed: Of the random numbers.
        sides: The least and the largest height and width in pixels. Small ones are drawn faster.

    Yields:
        An image of mode ``RGB`` and its mask of mode ``L`` (255 where salient), of equal size.
    """
    for index in range(count):
        yield _photograph(np.random.default_rng([seed, index]), sides)


def _photograph(rng: np.random.Generator, sides: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    height, width = (int(side) for side in rng.integers(sides[0], sides[1] + 1, 2))
    grid = make_grid(height, width)
    ground, clutter_colors, object_colors = palette(rng)
    pixels = _choose(rng, TEXTURES)(rng, grid, ground)
    for _ in range(rng.integers(0, 7)):
        alpha, _ = _choose(rng, SHAPES)(rng, grid, _place(rng, grid, 0.02, 0.06, 0.5))
        pixels = _paint(pixels, 0.45 * alpha, _choose(rng, TEXTURES)(rng, grid, clutter_colors))
    mask = np.zeros((height, width))
    spots = [_place(rng, grid, 0.16, 0.3, 0.14)]
    spots += [_place(rng, grid, 0.09, 0.14, 0.33) for _ in range(rng.choice(3, p=(0.6, 0.3, 0.1)))]
    for spot in spots:
        alpha, height_map = _choose(rng, SHAPES)(rng, grid, spot)
        pixels = _shade_ground(rng, pixels, alpha, spot[2])
        surface = _choose(rng, TEXTURES)(rng, grid, object_colors)
        pixels = _paint(pixels, alpha, surface * _light(rng, grid, height_map)[..., None])
        mask = np.maximum(mask, alpha)
    return _expose(rng, grid, pixels), Image.fromarray(_to_bytes(mask))


def _place(
    rng: np.random.Generator, grid: Grid, smallest: float, largest: float, spread: float
) -> tuple[float, float, float]:
    """Return a centre (y, x) about the middle and a radius, in pixels."""
    height, width = grid.y.shape
    y, x = (0.5 + rng.uniform(-spread, spread, 2)) * (height, width)
    return float(y), float(x), float(rng.uniform(smallest, largest) * min(height, width) * 1.3)


def _choose(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _paint(pixels: Pixels, alpha: Pixels, surface: Pixels) -> Pixels:
    return pixels + alpha[..., None] * (surface - pixels)


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
