"""Maps and masks as 8-bit levels, and the counts of their pixels from which nearly all metrics follow."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..._checks import ArgumentError, ArgumentTypeError
from ._protocol import Protocol

_SHAPES = "(H, W), (B, H, W) or (B, 1, H, W)"


def to_levels(prediction: Tensor, mask: Tensor, rounding: Literal["truncate", "nearest"]) -> tuple[Tensor, Tensor]:
    """Return maps and masks as uint8 tensors of shape (B, H, W) on the maps' device.

    Both are levels (uint8), probabilities (floating point) or bool, in one of the three shapes. ``rounding`` says how
    probabilities become levels; masks are always rounded to the nearest level.
    """
    maps, truth = _as_batch(prediction, "prediction"), _as_batch(mask, "mask")
    if maps.shape != truth.shape:
        expected = f"as many and as large as the masks, {tuple(mask.shape)}"
        cure = "resize the predictions to their masks' sizes, and pass images of different sizes in separate calls"
        raise ArgumentError("prediction", prediction, expected, cure)
    if truth.dtype == torch.uint8 and int(truth.max()) == 1:
        problem = "has the values 0 and 1, and a foreground of 1 would count as background"
        raise ArgumentError("mask", mask, "0 to 255", "pass mask.bool(), or mask * 255", problem=problem)
    return _quantize(maps, "prediction", rounding), _quantize(truth.to(maps.device), "mask", "nearest")


def to_counted(ignored: Tensor, levels: Tensor) -> Tensor:
    """Return which pixels count, of the shape (B, H, W) of the maps, given those that are ignored."""
    batch = _as_batch(ignored, "ignored")
    if batch.dtype != torch.bool:
        raise ArgumentTypeError("ignored", ignored, "a bool tensor", "pass mask == 255")
    if batch.shape != levels.shape:
        raise ArgumentError("ignored", ignored, f"as many and as large as the masks, {tuple(levels.shape)}")
    return ~batch.to(levels.device)


def _as_batch(tensor: Tensor, name: str) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ArgumentTypeError(name, tensor, "a tensor", "pass torch.as_tensor(numpy.asarray(...))")
    batch = tensor.detach()
    if batch.ndim == 4 and batch.shape[1] == 1:
        batch = batch[:, 0]
    elif batch.ndim == 2:
        batch = batch[None]
    if batch.ndim != 3 or 0 in batch.shape:
        raise ArgumentError(name, tensor, f"{_SHAPES} with at least one pixel", "pass one channel of grey levels")
    return batch


def _quantize(tensor: Tensor, name: str, rounding: Literal["truncate", "nearest"]) -> Tensor:
    if tensor.dtype == torch.uint8:
        return tensor
    if tensor.dtype == torch.bool:
        return tensor.to(torch.uint8) * 255
    if not tensor.is_floating_point():
        expected, cure = "uint8 (0 to 255), bool or floating point (0 to 1)", f"convert with {name}.to(torch.uint8)"
        raise ArgumentTypeError(name, tensor, expected, cure, problem=f"is of type {tensor.dtype}")
    low, high = (float(bound) for bound in torch.aminmax(tensor))  # NaN where any value is NaN
    if not (low >= 0 and high <= 1):
        if math.isnan(low) or math.isnan(high):
            cure = "load trained weights, or call goctconv.saliency.calibrate_batch_norm"
            raise ArgumentError(name, tensor, "numbers", cure, problem="holds NaN")
        cure = "divide by 255, or pass uint8" if low >= 0 and high <= 255 else "apply torch.sigmoid to logits first"
        raise ArgumentError(name, tensor, "0 to 1", cure, problem=f"has values from {low:.6g} to {high:.6g}")
    scaled = (tensor if tensor.dtype == torch.float64 else tensor.float()) * 255
    return (scaled.round() if rounding == "nearest" else scaled).to(torch.uint8)


LEVELS = 256
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Histograms:
    """How many pixels of each image have which level, in background and foreground, in each part of the image."""

    # (B, Q, 2, 256) pixels, in Q = 4 parts (upper left, upper right, lower left, lower right of the foreground's
    # centroid) or 1; then background and foreground; then the map's levels.
    parts: Counts
    offsets: Counts  # (B, 256): each level, less the lowest one where the protocol rescales
    span: Counts  # (B,): the offset that stands for the probability 1
    bins: NDArray[np.intp] | None  # (B, 256): the level that a level becomes by the protocol's rescaling; None without

    @cached_property
    def values(self) -> Floats:
        """The probabilities that levels stand for: (B, 256); of levels that do not occur, outside 0 to 1."""
        return np.asarray(self.offsets / self.span[:, None])

    @cached_property
    def joint(self) -> Counts:
        """Pixels per image, background or foreground, and level: (B, 2, 256)."""
        return np.asarray(self.parts.sum(axis=1))

    @cached_property
    def pixels(self) -> Counts:
        """Pixels per image: (B,)."""
        return np.asarray(self.joint.sum(axis=(1, 2)))

    @cached_property
    def foreground(self) -> Counts:
        """Foreground pixels of the masks: (B,)."""
        return np.asarray(self.joint[:, 1].sum(axis=1))


def count_levels(
    levels: Tensor, foreground: Tensor, protocol: Protocol, *, quadrants: bool, counted: Tensor | None = None
) -> Histograms:
    """Count the pixels of a batch of maps (uint8) and binary masks (bool), both (B, H, W) and of one device.

    With ``quadrants``, those that lie on different sides of the foreground's centroid are counted apart. None but those
    that are ``counted`` are.
    """
    batch, parts = levels.shape[0], 4 if quadrants else 1
    bins = parts * 2 * LEVELS
    codes = torch.arange(0, batch * bins, bins, device=levels.device, dtype=torch.int32)[:, None, None]
    if quadrants:
        right, lower = (side.to(levels.device, torch.int32) for side in _beyond_centroid(foreground))
        codes = codes + right[:, None, :] * (2 * LEVELS) + lower[:, :, None] * (4 * LEVELS)
    codes = torch.add(codes, foreground, alpha=LEVELS).add_(levels)
    chosen = codes.flatten() if counted is None else codes[counted]
    totals = torch.bincount(chosen, minlength=batch * bins).cpu().numpy()
    histogram = totals.reshape(batch, parts, 2, LEVELS).astype(np.int64, copy=False)
    return Histograms(histogram, *_rescaling(histogram.sum(axis=(1, 2)) > 0, rescale=protocol.rescale))


def _beyond_centroid(foreground: Tensor) -> tuple[Tensor, Tensor]:
    """Return which columns (B, W) lie right of the foreground's centroid and which rows (B, H) below it."""
    sides = []
    for axis in (1, 2):
        profile = foreground.sum(dim=axis).cpu().numpy()  # pixels per column, then per row
        positions = np.arange(profile.shape[1])
        centroid = np.rint(profile @ positions / np.maximum(profile.sum(axis=1), 1))
        sides.append(torch.from_numpy(positions > centroid[:, None]))
    return sides[0], sides[1]


def _rescaling(present: NDArray[np.bool_], *, rescale: bool) -> tuple[Counts, Counts, NDArray[np.intp] | None]:
    """Return offsets, span and bins of images, given which levels occur in them."""
    levels = np.broadcast_to(np.arange(LEVELS), present.shape)
    if not rescale:
        return levels, np.full(len(present), LEVELS - 1), None
    low, high = present.argmax(axis=1), LEVELS - 1 - present[:, ::-1].argmax(axis=1)
    constant = low == high
    low, high = np.where(constant, 0, low)[:, None], np.where(constant, LEVELS - 1, high)[:, None]
    # In this order, because the rounding decides on which side of a whole level the result falls.
    stretched = (levels / 255 - low / 255) / (high / 255 - low / 255)
    bins = (np.clip(stretched, 0, 1) * 255).astype(np.intp)
    return levels - low, (high - low)[:, 0], bins
