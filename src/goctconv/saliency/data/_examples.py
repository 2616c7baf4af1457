"""Examples and batches as tensors, and what an example depends on: a key and random numbers."""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..._checks import ArgumentError, check_integer
from .._resize import MIN_SIZE


class SampleKey(NamedTuple):
    """The number of a pair, an epoch and a size (None: its own): all that an example depends on besides the seed."""

    epoch: int
    number: int
    size: tuple[int, int] | None


_HIGHEST = 2**32 - 1  # one word of NumPy's seeds, so that different lists stay different


class Purpose(IntEnum):
    """What random numbers are for; each purpose has a stream of its own."""

    ORDER = 1
    SIZE = 2
    TRANSFORMS = 3


def generator(purpose: Purpose, seed: int, epoch: int, index: int = 0) -> np.random.Generator:
    """Return the generator of one purpose, epoch and index.

    The purpose comes first and is never 0, because NumPy takes [seed, epoch] and [seed, epoch, 0] for the same.
    """
    return np.random.default_rng([int(purpose), seed, epoch, index])


def check_seed(seed: object) -> int:
    """Return the seed."""
    return check_integer("seed", seed, 0, _HIGHEST)


def check_epoch(epoch: object) -> int:
    """Return the epoch."""
    return check_integer("epoch", epoch, 0, _HIGHEST)


class SkippedPair(NamedTuple):
    """A pair that cannot be used, and why."""

    name: str
    reason: str


class TensorPair(NamedTuple):
    """A photograph and its mask, ready for a network.

    Args:
        image: Of shape (3, H, W), normalised by ImageNet's mean and standard deviation, in float32.
        mask: Of shape (1, H, W), from 0 to 1, in float32.
        name: The photograph's file.
        skipped: Pairs that could not be read and in whose place this one stands.
    """

    image: Tensor
    mask: Tensor
    name: str
    skipped: tuple[SkippedPair, ...] = ()


class Dropped(NamedTuple):
    """Stands where no example could be made; collating drops and counts it."""

    size: tuple[int, int] | None
    skipped: tuple[SkippedPair, ...]


class Batch(NamedTuple):
    """Photographs and masks of one size.

    Args:
        images: Of shape (B, 3, H, W), normalised, in float32.
        masks: Of shape (B, 1, H, W), from 0 to 1, in float32.
        names: The photographs' files.
        skipped: Pairs that could not be read.
    """

    images: Tensor
    masks: Tensor
    names: tuple[str, ...]
    skipped: tuple[SkippedPair, ...] = ()

    def to(self, device: torch.device | str | int, *, non_blocking: bool = False) -> "Batch":
        """Return the batch with its tensors on a device."""
        return self._replace(
            images=self.images.to(device, non_blocking=non_blocking),
            masks=self.masks.to(device, non_blocking=non_blocking),
        )


def collate(examples: Sequence[TensorPair | Dropped]) -> Batch:
    """Join the examples of a `SaliencyDataset` to a batch."""
    kept = [example for example in examples if isinstance(example, TensorPair)]
    skipped = tuple(pair for example in examples for pair in example.skipped)
    if not kept:
        size = next(example.size for example in examples if isinstance(example, Dropped))
        height, width = size or (MIN_SIZE, MIN_SIZE)
        return Batch(torch.zeros(0, 3, height, width), torch.zeros(0, 1, height, width), (), skipped)
    sizes = {tuple(example.image.shape[1:]) for example in kept}
    if len(sizes) > 1:
        raise ArgumentError("sizes", sorted(sizes), "one size for all images of a batch")
    images = torch.stack([example.image for example in kept])
    masks = torch.stack([example.mask for example in kept])
    return Batch(images, masks, tuple(example.name for example in kept), skipped)
