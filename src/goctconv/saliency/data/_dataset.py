"""Photographs and masks as tensors, read and changed at random."""

import operator
import os
from collections.abc import Iterable
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..._checks import ArgumentTypeError, check_choice, check_integer
from .._resize import MEAN, STD, Size, check_size_or_own
from ..transforms._geometry import Resize
from ..transforms._sample import Sample, Transform, apply
from ._examples import Dropped, Purpose, SampleKey, SkippedPair, TensorPair, check_epoch, check_seed, generator
from ._images import ImageError
from ._pairs import DataSet, DataSetError, ImagePair
from ._read import Copies, Pixels, read_pixels

Broken = Literal["replace", "drop", "raise"]

_MEAN, _STD = (values.astype(np.float32)[:, None, None] for values in (MEAN, STD))


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
        self.pairs = tuple(pairs)
        if not self.pairs:
            raise DataSetError("there are no pairs of photographs and masks: pass at least one")
        self.size = check_size_or_own(size)
        self.transforms = _check_transforms(transforms)
        self.seed = check_seed(seed)
        self.shrink = None if shrink is None else check_integer("shrink", shrink, least=1)
        self.broken = check_choice("broken", broken, get_args(Broken))
        self.epoch = 0
        self._copies = None if cache is None else Copies(cache, self.shrink)
        self._resize = Resize()

    def set_epoch(self, epoch: int) -> None:
        """Choose the random numbers of an epoch, for samplers that ask by index.

        Copies of the data set in worker processes that are already running do not learn of it: `EpochBatchSampler`,
        which `training_loader` uses, tells them with each index.
        """
        self.epoch = check_epoch(epoch)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int | SampleKey) -> TensorPair | Dropped:
        epoch, index, size = key if isinstance(key, SampleKey) else (self.epoch, self._index(key), self.size)
        rng = generator(Purpose.TRANSFORMS, self.seed, epoch, index)
        skipped: list[SkippedPair] = []
        for step in range(len(self.pairs)):
            pair = self.pairs[(index + step) % len(self.pairs)]
            try:
                pixels = self._read(pair)
            except ImageError as error:
                if self.broken == "raise":
                    raise
                skipped.append(SkippedPair(pair.name, str(error)))
                if self.broken == "drop":
                    return Dropped(size, tuple(skipped))
                continue
            return self._example(pair, Sample(*pixels, size), rng, tuple(skipped))
        raise DataSetError(f"none of the {len(self.pairs)} pairs can be read, such as {skipped[0].reason}")

    def _index(self, key: int) -> int:
        index = operator.index(key)
        index += len(self.pairs) if index < 0 else 0
        if not 0 <= index < len(self.pairs):
            raise IndexError(f"index {key} of {len(self.pairs)} pairs")
        return index

    def _read(self, pair: ImagePair) -> Pixels:
        return read_pixels(pair, self.shrink) if self._copies is None else self._copies.read(pair)

    def _example(
        self, pair: ImagePair, sample: Sample, rng: np.random.Generator, skipped: tuple[SkippedPair, ...]
    ) -> TensorPair:
        for transform in self.transforms:
            sample = apply(transform, sample, rng)
        image, mask, _ = self._resize(sample, rng)
        return TensorPair(
            _normalised(image), torch.from_numpy(np.ascontiguousarray(mask)).unsqueeze(0), str(pair.image), skipped
        )


def _normalised(image: NDArray[np.float32]) -> Tensor:
    pixels = np.empty((3, *image.shape[:2]), dtype=np.float32)
    np.subtract(image.transpose(2, 0, 1), _MEAN, out=pixels)
    pixels /= _STD
    return torch.from_numpy(pixels)


def _check_transforms(transforms: Iterable[Transform]) -> tuple[Transform, ...]:
    if callable(transforms):
        raise ArgumentTypeError("transforms", transforms, "several transforms", f"pass a list, [{transforms!r}]")
    found = tuple(transforms)
    for transform in found:
        if not callable(transform) or isinstance(transform, type):
            raise ArgumentTypeError("transforms", transform, "functions of (sample, rng)", "pass RandomFlip()")
    return found
