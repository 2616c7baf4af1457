"""Made-up maps and masks for the metrics, the same ones wherever they are generated (needs numpy alone)."""

from __future__ import annotations

import zlib

import numpy as np

SHAPES = ((7, 11), (13, 5), (17, 17), (1, 19), (23, 1), (2, 3), (31, 29), (47, 61), (97, 131))


def pairs():
    """Return (name, map, mask), both uint8 of equal shape, edge cases first."""
    found = []
    rng = np.random.default_rng(2020)
    ramp = np.arange(13 * 17, dtype=np.uint8).reshape(13, 17)
    noise = rng.integers(0, 256, (13, 17), dtype=np.uint8)
    half = np.zeros((13, 17), dtype=np.uint8)
    half[:, 8:] = 255
    dot = np.zeros((13, 17), dtype=np.uint8)
    dot[4, 6] = 255
    corner = np.zeros((13, 17), dtype=np.uint8)
    corner[-1, -1] = 255
    pair_at_6, pair_at_7 = dot * 0, dot * 0  # centroids at 6.5 and 7.5
    pair_at_6[3:5, 6:8] = 255
    pair_at_7[3:5, 7:9] = 255
    masks = {"empty": dot * 0, "full": dot | 255, "half": half, "one_pixel": dot, "corner": corner, "hole": 255 - dot}
    masks |= {"pair_at_6": pair_at_6, "pair_at_7": pair_at_7}
    maps = {"ramp": ramp, "noise": noise, "black": dot * 0, "white": dot | 255, "grey": dot * 0 + 77, "right": None}
    maps |= {
        "inverted": None,
        "narrow": 100 + noise // 40,
        "two_levels": np.where(noise > 99, np.uint8(153), np.uint8(51)),
    }
    for mask_name, mask in masks.items():
        for map_name, saliency in maps.items():
            chosen = {"right": mask, "inverted": 255 - mask}.get(map_name, saliency)
            found.append((f"{map_name} on {mask_name}", chosen.astype(np.uint8), mask))
    for index, shape in enumerate(SHAPES * 3):
        found.append((f"blobs {index}", *_blobs(rng, shape, soft_mask=index % 3 == 2)))
    return found


def _blobs(rng, shape, *, soft_mask):
    """An ellipse, and a map that is about right: smooth, noisy and shifted."""
    y, x = np.indices(shape)
    centre = rng.uniform(0.2, 0.8, 2) * shape
    radii = rng.uniform(0.15, 0.5, 2) * shape + 0.5
    distance = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2
    shifted = ((y - centre[0] - 1) / radii[0]) ** 2 + ((x - centre[1] + 1) / radii[1]) ** 2
    top = rng.uniform(120, 255)
    level = top / (1 + shifted**2) + rng.uniform(-20, 20, shape)
    mask = 255 * np.clip(1.5 - distance, 0, 1) if soft_mask else 255.0 * (distance < 1)
    return np.clip(level, 0, 255).astype(np.uint8), mask.astype(np.uint8)


def checksum(pair):
    """A number that tells whether a pair is the one that was recorded."""
    _, saliency, mask = pair
    return zlib.crc32(mask.tobytes(), zlib.crc32(saliency.tobytes()))
