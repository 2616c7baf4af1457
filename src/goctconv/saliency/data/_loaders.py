"""Batches read in worker processes, epoch by epoch, and loaders for training and validation in one call."""

from __future__ import annotations

import atexit
import os
import signal
import warnings
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from ... import _distributed as distributed
from ..._checks import FileNote, check_integer
from ..._torch import end_workers
from .._resize import Size
from ..transforms._geometry import published_transforms
from ..transforms._sample import Transform
from ._dataset import Dropped, SaliencyDataset, TensorPair, collate
from ._mask_kinds import understand_masks, warn_of_masks
from ._pairs import DataSet, DataSetError, ImagePair, SkippedPair
from ._read import CheckedPairs, check_pairs
from ._sampler import EpochBatchSampler

_GRACE = 30  # seconds in which a step that runs can end


class SkippedPairWarning(UserWarning):
    """A pair of photograph and mask could not be read, and is left out; the message names it and says why."""


class SaliencyLoader(DataLoader[TensorPair | Dropped]):
    """A ``DataLoader`` of a `SaliencyDataset` that knows about epochs, and counts the pairs that cannot be read.

    Its batches depend only on files, seed and epoch: not on the number of workers, nor on what was read before. It
    leaves torch's global random state alone. Worker processes stay for all epochs; where SIGTERM is sent to all
    processes at once, they outlive it by half a minute, so that a run can finish its step and write a checkpoint.

    Attributes:
        pairs: The pairs that batches are made of.
        skipped: What could not be read so far: the names of pairs, and what is wrong with each.
    """

    def __init__(
        self,
        dataset: SaliencyDataset,
        sampler: EpochBatchSampler,
        *,
        workers: int = 0,
        pin_memory: bool = False,
        skipped: Iterable[SkippedPair] = (),
    ) -> None:
        workers = check_integer("workers", workers, least=0)
        super().__init__(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=collate,
            pin_memory=pin_memory,
            worker_init_fn=_outlive_sigterm,
            generator=torch.Generator(),  # else each pass would draw from the global one
        )
        self._epochs = sampler
        self.pairs = dataset.pairs
        self.skipped = {pair.name: pair.reason for pair in skipped}
        if workers:
            atexit.register(_close, weakref.ref(self))

    def close(self) -> None:
        """End the worker processes; another pass starts new ones."""
        end_workers(self)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch of the next pass, and how many of its batches to leave out."""
        self._epochs.set_epoch(epoch, start)

    def __iter__(self) -> Any:  # an Iterator[Batch]; torch promises its own iterator class
        for batch in super().__iter__():
            for name, reason in batch.skipped:
                if name not in self.skipped:
                    self.skipped[name] = reason
                    warnings.warn(f"{name} is skipped: {reason}", SkippedPairWarning, stacklevel=2)
            if batch.names:
                yield batch


def _close(reference: weakref.ref[SaliencyLoader]) -> None:
    """End workers before multiprocessing ends them with SIGTERM, which they outlive, when the program ends."""
    if (loader := reference()) is not None:
        loader.close()


def _outlive_sigterm(_: int) -> None:
    warnings.filterwarnings("ignore", category=FileNote)  # the check of all headers has told of them
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE))


_ALIKE = ("foreground", "batch_size", "workers", "shrink", "cache", "pin_memory")


def training_loader(
    pairs: DataSet | Iterable[ImagePair],
    *,
    size: Size = 224,
    sizes: Sequence[Size] | None = None,
    foreground: int | Sequence[int] | None = None,
    batch_size: int = 24,
    workers: int = 2,
    seed: int = 0,
    transforms: Iterable[Transform] | None = None,
    shrink: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    accumulate: int = 1,
    rank: int | None = None,
    world_size: int | None = None,
    pin_memory: bool = False,
) -> SaliencyLoader:
    """Return a loader of batches to train a saliency network with.

    The batches after ``set_epoch(epoch)`` depend only on the files, the arguments and the epoch: they are bit-equal
    for any number of workers, and whatever was read before. Pairs that cannot be used are left out with a warning, and
    counted in the loader's ``skipped``: missing, empty and unequal ones before training, damaged ones when they are
    decoded, where the next readable pair takes their place. Of several processes each takes a share of the batches.

    Args:
        pairs: From `find_pairs`, `join_pairs` or `split_pairs`.
        size: One integer or (height, width), each at least 32; or ``"own"``: photographs keep the size that they have,
            in batches of one.
        sizes: Several sizes, of which each batch has one, drawn evenly; instead of ``size``.
        foreground: The values of masks, or indices of their palettes, that are foreground, such as ``(1, 2)``; by
            default decided for the whole data set, as for `goctconv.saliency.evaluate`.
        batch_size: Images per batch of this process.
        workers: Processes that read images; 0: in this one.
        seed: Of the order and the transforms.
        transforms: Of photographs with their masks, in this order; by default those that CSNet was trained with,
            ``RandomCrop(15), RandomFlip(0.5, vertical=0.5)``: up to 15 pixels off each side, half of the images
            mirrored, of which half top to bottom.
        shrink: First shrink larger photographs, with antialiasing, until their shorter side has this many pixels, which
            makes them much faster to read; about twice ``size`` is a good value.
        cache: A folder for decoded (and shrunk) copies, of about width x height x 4 bytes for each pair. It changes
            speed, not results.
        accumulate: Batches of a process per optimizer step; images that do not fill a step are left out.
        rank: Of this process; by default that of ``torch.distributed`` where it is initialised, else 0.
        world_size: The number of processes, by default likewise, else 1.
        pin_memory: Whether tensors are put into page-locked memory, from where GPUs copy faster.

    Raises:
        DataSetError: No pair can be used, or the folder for copies cannot be made.
        ArgumentError: An argument is out of range or of another type, or there are too few pairs for an optimizer step.

    Example:
        >>> import pathlib, tempfile
        >>> from goctconv.saliency import find_pairs, synthetic_images, training_loader
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for index, (photograph, mask) in enumerate(synthetic_images(2)):
        ...     photograph.save(folder / f"{index}.jpg")
        ...     mask.save(folder / f"{index}.png")
        >>> loader = training_loader(find_pairs(folder), size=64, batch_size=2, workers=0)
        >>> loader.set_epoch(1)
        >>> [batch.images.shape for batch in loader]
        [torch.Size([2, 3, 64, 64])]
    """
    checked = _usable(pairs, foreground)
    changes = published_transforms() if transforms is None else transforms
    dataset = SaliencyDataset(checked.pairs, size=size, transforms=changes, seed=seed, shrink=shrink, cache=cache)
    sizes = [size] if sizes is None else sizes
    sampler = EpochBatchSampler(
        len(dataset), batch_size, seed=seed, sizes=sizes, accumulate=accumulate, rank=rank, world_size=world_size
    )
    return SaliencyLoader(dataset, sampler, workers=workers, pin_memory=pin_memory, skipped=checked.skipped)


def validation_loader(
    pairs: DataSet | Iterable[ImagePair],
    *,
    size: Size = 224,
    foreground: int | Sequence[int] | None = None,
    batch_size: int = 24,
    workers: int = 2,
    shrink: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    pin_memory: bool = False,
) -> SaliencyLoader:
    """Return a loader that gives every usable pair once, in order and without random changes.

    The last batch may be smaller. Pairs that cannot be read are left out with a warning, as `training_loader` does it,
    but none takes their place. Photographs are prepared as by `preprocess`, masks are resized alike.

    Args:
        pairs: From `find_pairs`, `join_pairs` or `split_pairs`.
        size: As for `training_loader`; so are the others.
        foreground: As for `training_loader`.
        batch_size: Images per batch.
        workers: Processes that read images; 0: in this one.
        shrink: As for `training_loader`.
        cache: As for `training_loader`.
        rank: Of this process; ranks may have one batch more or less.
        world_size: The number of processes.
        pin_memory: As for `training_loader`.

    Raises:
        DataSetError: No pair can be used, or the folder for copies cannot be made.
        ArgumentError: An argument is out of range or of another type.

    Example:
        >>> import pathlib, tempfile
        >>> from goctconv.saliency import find_pairs, synthetic_images, validation_loader
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for index, (photograph, mask) in enumerate(synthetic_images(3)):
        ...     photograph.save(folder / f"{index}.jpg")
        ...     mask.save(folder / f"{index}.png")
        >>> [len(batch.names) for batch in validation_loader(find_pairs(folder), size=64, batch_size=2, workers=0)]
        [2, 1]
    """
    checked = _usable(pairs, foreground)
    dataset = SaliencyDataset(checked.pairs, size=size, shrink=shrink, cache=cache, broken="drop")
    sampler = EpochBatchSampler(
        len(dataset), batch_size, sizes=[size], shuffle=False, drop_last=False, rank=rank, world_size=world_size
    )
    return SaliencyLoader(dataset, sampler, workers=workers, pin_memory=pin_memory, skipped=checked.skipped)


def _usable(pairs: DataSet | Iterable[ImagePair], foreground: int | Sequence[int] | None) -> CheckedPairs:
    """Check the headers of all pairs, warn about those that cannot be used, and decide how masks are read."""
    pairs, findings = understand_masks(pairs, foreground)
    warn_of_masks(findings)
    checked = check_pairs(pairs)
    if pairs and not checked.pairs:
        raise DataSetError(f"none of the {len(pairs)} pairs can be used, such as {checked.skipped[0].reason}")
    if checked.skipped:
        reasons = listed((f"{pair.name}: {pair.reason}" for pair in checked.skipped), "\n  ")
        problem = f"{len(checked.skipped)} of {len(pairs)} pairs cannot be used and are skipped"
        warnings.warn(f"{problem}:\n  {reasons}", SkippedPairWarning, stacklevel=3)
    return checked


def listed(texts: Iterable[str], separator: str = "; ", most: int = 5) -> str:
    """Return the first of several texts, and how many more there are."""
    every = list(texts)
    more = [f"and {len(every) - most} more"] if len(every) > most else []
    return separator.join(every[:most] + more)


class BothLoaders(NamedTuple):
    """What is learned from, and what maps are compared with, in the first process only."""

    train: SaliencyLoader
    validation: SaliencyLoader | None

    @property
    def skipped(self) -> dict[str, str]:
        """The names of pairs that could not be read in any process, and why; all processes ask at once."""
        own = [loader.skipped for loader in self if loader is not None]
        return {name: why for found in distributed.gathered(own) for part in found for name, why in part.items()}

    def close(self) -> None:
        """End the processes that read photographs."""
        for loader in self:
            if loader is not None:
                loader.close()

    def names(self) -> dict[str, list[str]]:
        """Return the names of the pairs of each."""
        pairs = [() if loader is None else loader.pairs for loader in self]
        return {part: [pair.name for pair in own] for part, own in zip(self._fields, pairs, strict=True)}


def both_loaders(
    train: DataSet | Iterable[ImagePair],
    validation: DataSet | Sequence[ImagePair] | None,
    *,
    sizes: Sequence[Any],
    **options: Any,
) -> BothLoaders:
    """Return loaders with the same options, those of `training_loader`; maps are compared at the first of the sizes."""
    train, validation = tuple(train), None if validation is None else tuple(validation)
    known, findings = understand_masks(train + (validation or ()), options.get("foreground"))  # parts of one data set
    warn_of_masks(findings)
    train, validation = known[: len(train)], None if validation is None else known[len(train) :]
    learned_from = training_loader(train, sizes=sizes, **options)
    if validation is None or distributed.rank():
        return BothLoaders(learned_from, None)
    return BothLoaders(learned_from, comparison_loader(validation, sizes=sizes, **options))


def comparison_loader(pairs: DataSet | Iterable[ImagePair], *, sizes: Sequence[Any], **options: Any) -> SaliencyLoader:
    """Return a loader of all pairs in this process, of the first of the sizes; of `training_loader`'s options."""
    alike = {name: options[name] for name in _ALIKE if name in options}
    return validation_loader(pairs, size=sizes[0], rank=0, world_size=1, **alike)
