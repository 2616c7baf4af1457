"""Slow oracles of the losses: loops over pixels, in float64."""

from __future__ import annotations

import math

import numpy as np


def bce(logits, masks):
    terms = []
    for logit, mask in zip(logits.ravel(), masks.ravel(), strict=True):
        log_p = -math.log1p(math.exp(-logit)) if logit > 0 else logit - math.log1p(math.exp(logit))
        terms.append(-(mask * log_p + (1 - mask) * (log_p - logit)))
    return math.fsum(terms) / len(terms)


def iou(logits, masks, smooth=1.0):
    losses = []
    for image, mask in zip(sigmoid(logits), masks, strict=True):
        both = math.fsum(p * m for p, m in zip(image.ravel(), mask.ravel(), strict=True))
        either = math.fsum(p + m - p * m for p, m in zip(image.ravel(), mask.ravel(), strict=True))
        losses.append(1 - (both + smooth) / (either + smooth))
    return math.fsum(losses) / len(losses)


def dice(logits, masks, smooth=1.0):
    losses = []
    for image, mask in zip(sigmoid(logits), masks, strict=True):
        both = math.fsum(p * m for p, m in zip(image.ravel(), mask.ravel(), strict=True))
        total = math.fsum(image.ravel()) + math.fsum(mask.ravel())
        losses.append(1 - (2 * both + smooth) / (total + smooth))
    return math.fsum(losses) / len(losses)


def ssim(logits, masks):
    """Pixel by pixel over an 11x11 window, with central moments instead of differences of squares."""
    weights = {(dy, dx): math.exp(-(dy * dy + dx * dx) / (2 * 1.5**2)) for dy in range(-5, 6) for dx in range(-5, 6)}
    total = math.fsum(weights.values())
    values = []
    for image, mask in zip(sigmoid(logits)[:, 0], masks[:, 0], strict=True):
        x, y = np.pad(image, 5), np.pad(mask, 5)
        for row in range(5, 5 + image.shape[0]):
            for column in range(5, 5 + image.shape[1]):
                window = [
                    (weight / total, x[row + dy, column + dx], y[row + dy, column + dx])
                    for (dy, dx), weight in weights.items()
                ]
                values.append(_similarity(window))
    return 1 - math.fsum(values) / len(values)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def _similarity(window):
    mean_x = math.fsum(w * x for w, x, _ in window)
    mean_y = math.fsum(w * y for w, _, y in window)
    variance_x = math.fsum(w * (x - mean_x) ** 2 for w, x, _ in window)
    variance_y = math.fsum(w * (y - mean_y) ** 2 for w, _, y in window)
    covariance = math.fsum(w * (x - mean_x) * (y - mean_y) for w, x, y in window)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * covariance + c2) / (variance_x + variance_y + c2)


def boundary_dice(logits, masks, width, smooth=1.0):
    losses = []
    for image, mask in zip(sigmoid(logits)[:, 0], masks[:, 0], strict=True):
        mine, theirs = (_highest(_edge(plane), width) for plane in (image, mask))
        both = math.fsum((mine * theirs).ravel())
        losses.append(1 - (2 * both + smooth) / (math.fsum(mine.ravel()) + math.fsum(theirs.ravel()) + smooth))
    return math.fsum(losses) / len(losses)


def _edge(image):
    return _highest(1 - image, 3) - (1 - image)


def _highest(image, width):
    """The highest value in the window around each pixel, as far as the window lies in the image."""
    radius = width // 2
    result = np.zeros_like(image)
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            rows = slice(max(0, row - radius), row + radius + 1)
            columns = slice(max(0, column - radius), column + radius + 1)
            result[row, column] = image[rows, columns].max()
    return result
