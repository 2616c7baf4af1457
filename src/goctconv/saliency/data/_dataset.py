"""Photographs and masks as tensors, read and changed at random, and batches of them."""

import operator
import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..._checks import ArgumentError, ArgumentTypeError, check_choice, check_integer
from .._resize import MEAN, MIN_SIZE, STD, Size, check_size_or_own
from ..transforms._geometry import Resize
from ..transforms._sample import Sample, Transform, apply, to_float
from ._images import ImageError
from ._mask_kinds import understand_masks
from ._pairs import DataSet, DataSetError, ImagePair, SkippedPair
from ._read import Copies, Pixels, read_pixels
from ._sampler import HIGHEST, Purpose, SampleKey, generator

Broken = Literal["replace", "drop", "raise"]

_MEAN, _STD = (values.astype(np.float32)[:, None, None] for values in (MEAN, STD))


class TensorPair(NamedTuple):
    """A photograph and its mask, ready for a network."""

    image: Tensor  # (3, H, W), normalised by ImageNet's mean and standard deviation, float32
    mask: Tensor  # (1, H, W), from 0 to 1, float32; NaN where it says nothing
    name: str  # of the photograph's file
    skipped: tuple[SkippedPair, ...] = ()  # pairs that could not be read and in whose place this one stands


class Dropped(NamedTuple):
    """Stands where no example could be made; collating drops and counts it."""

    size: tuple[int, int] | None
    skipped: tuple[SkippedPair, ...]


class Batch(NamedTuple):
    """Photographs and masks of one size."""

    images: Tensor  # (B, 3, H, W), normalised, float32
    masks: Tensor  # (B, 1, H, W), from 0 to 1, float32; NaN where they say nothing
    names: tuple[str, ...]  # of the photographs' files
    skipped: tuple[SkippedPair, ...] = ()  # pairs that could not be read

    def to(self, device: torch.device | str | int, *, non_blocking: bool = False) -> "Batch":
        """Return the batch with its tensors on a device."""
        images, masks = (tensor.to(device, non_blocking=non_blocking) for tensor in (self.images, self.masks))
        return self._replace(images=images, masks=masks)


def collate(examples: Sequence[TensorPair | Dropped]) -> Batch:
    """Join the examples of a `SaliencyDataset` to a batch."""
    kept = [example for example in examples if isinstance(example, TensorPair)]
    skipped = tuple(pair for example in examples for pair in example.skipped)
    if not kept:
        size = next(example.size for example in examples if isinstance(example, Dropped)) or (MIN_SIZE, MIN_SIZE)
        return Batch(torch.zeros(0, 3, *size), torch.zeros(0, 1, *size), (), skipped)
    sizes = {tuple(example.image.shape[1:]) for example in kept}
    if len(sizes) > 1:
        raise ArgumentError("sizes", sorted(sizes), "one size for all images of a batch")
    images = torch.stack([example.image for example in kept])
    masks = torch.stack([example.mask for example in kept])
    return Batch(images, masks, tuple(example.name for example in kept), skipped)


class SaliencyDataset(Dataset[TensorPair | Dropped]):
    """Photographs and masks for training, changed at random.

    What ``dataset[index]`` gives depends only on the files, the seed, the epoch and the index: not on what was read
    before, nor on which process reads it. The mask goes through the same transforms as its photograph.

    Photographs are prepared as by `preprocess`: RGB / 255, resized bilinearly without antialiasing, ImageNet's mean and
    standard deviation. Masks are resized the same way and keep their grey levels, as numbers from 0 to 1.

    A pair that cannot be read is replaced by the next that can, so that batches stay full (``broken="replace"``), left
    out (``"drop"``), or an error (``"raise"``). The other arguments are those of `training_loader`.
    """

    def __init__(
        self,
        pairs: DataSet | Iterable[ImagePair],
        *,
        size: Size = 224,
        transforms: Iterable[Transform] = (),
        seed: int = 0,
        shrink: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        broken: Broken = "replace",
    ) -> None:
        self.size = check_size_or_own(size)
        self.pairs = understand_masks(pairs).pairs
        if not self.pairs:
            raise DataSetError("there are no pairs of photographs and masks: pass at least one")
        self.transforms = _check_transforms(transforms)
        self.seed = check_integer("seed", seed, 0, HIGHEST)
        self.shrink = None if shrink is None else check_integer("shrink", shrink, least=1)
        self.broken = check_choice("broken", broken, get_args(Broken))
        self.epoch = 0
        self._copies = None if cache is None else Copies(cache, self.shrink)

    def set_epoch(self, epoch: int) -> None:
        """Choose the random numbers of an epoch, for samplers that ask by index; running workers do not learn of it."""
        self.epoch = check_integer("epoch", epoch, 0, HIGHEST)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int | SampleKey) -> TensorPair | Dropped:
        epoch, index, size = key if isinstance(key, SampleKey) else (self.epoch, self._index(key), self.size)
        rng = generator(Purpose.TRANSFORMS, self.seed, epoch, index)
        skipped: list[SkippedPair] = []
        for step in range(len(self.pairs)):
            pair = self.pairs[(index + step) % len(self.pairs)]
            try:
                pixels = read_pixels(pair, self.shrink) if self._copies is None else self._copies.read(pair)
            except ImageError as error:
                if self.broken == "raise":
                    raise
                skipped.append(SkippedPair(pair.name, str(error)))
                if self.broken == "drop":
                    return Dropped(size, tuple(skipped))
                continue
            return self._example(pair, Sample(pixels.image, _with_nan(pixels), size), rng, tuple(skipped))
        raise DataSetError(f"none of the {len(self.pairs)} pairs can be read, such as {skipped[0].reason}")

    def _index(self, key: int) -> int:
        index = operator.index(key)
        index += len(self.pairs) if index < 0 else 0
        if not 0 <= index < len(self.pairs):
            raise IndexError(f"index {key} of {len(self.pairs)} pairs")
        return index

    def _example(
        self, pair: ImagePair, sample: Sample, rng: np.random.Generator, skipped: tuple[SkippedPair, ...]
    ) -> TensorPair:
        for transform in self.transforms:
            sample = apply(transform, sample, rng)
        image, mask, _ = Resize()(sample, rng)
        pixels = np.empty((3, *mask.shape), dtype=np.float32)
        np.subtract(image.transpose(2, 0, 1), _MEAN, out=pixels)
        pixels /= _STD
        levels = torch.from_numpy(np.ascontiguousarray(mask)).unsqueeze(0)
        return TensorPair(torch.from_numpy(pixels), levels, str(pair.image), skipped)


def _with_nan(pixels: Pixels) -> NDArray[Any]:
    """Return the mask's levels; if it ignores pixels, as float32 from 0 to 1, with NaN in their place."""
    if pixels.ignored is None:
        return pixels.mask
    levels = to_float(pixels.mask)
    levels[pixels.ignored] = np.nan
    return levels


def _check_transforms(transforms: Iterable[Transform]) -> tuple[Transform, ...]:
    if callable(transforms):
        raise ArgumentTypeError("transforms", transforms, "several transforms", f"pass a list, [{transforms!r}]")
    found = tuple(transforms)
    for transform in found:
        if not callable(transform) or isinstance(transform, type):
            raise ArgumentTypeError("transforms", transform, "functions of (sample, rng)", "pass RandomFlip()")
    return found
