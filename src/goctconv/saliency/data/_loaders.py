"""Loaders for training and for validation in one call."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ... import _distributed as distributed
from .._resize import Size
from ..transforms._geometry import published_transforms
from ..transforms._sample import Transform
from ._dataset import SaliencyDataset
from ._loader import SaliencyLoader, SkippedPairWarning
from ._pairs import DataSet, DataSetError, ImagePair
from ._read import CheckedPairs, check_pairs
from ._sampler import EpochBatchSampler

_NAMED = 5  # pairs in a warning about many
_ALIKE = ("batch_size", "workers", "shrink", "cache", "pin_memory")


def training_loader(
    pairs: DataSet | Iterable[ImagePair],
    *,
    size: Size = 224,
    sizes: Sequence[Size] | None = None,
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
        batch_size: Images per batch of this process.
        workers: Processes that read images; 0: in this one.
        seed: Of the order and the transforms.
        transforms: Of photographs with their masks, in this order; by default those of `published_transforms`.
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
        >>> for index, images in enumerate(synthetic_images(2)):
        ...     for kind, image in zip(("images", "masks"), images):
        ...         (folder / kind).mkdir(exist_ok=True)
        ...         image.save(folder / kind / f"{index}.png")
        >>> loader = training_loader(find_pairs(folder), size=64, batch_size=2, workers=0)
        >>> loader.set_epoch(1)
        >>> [batch.images.shape for batch in loader]
        [torch.Size([2, 3, 64, 64])]
    """
    checked = _usable(pairs)
    dataset = SaliencyDataset(
        checked.pairs,
        size=size,
        transforms=published_transforms() if transforms is None else transforms,
        seed=seed,
        shrink=shrink,
        cache=cache,
    )
    sampler = EpochBatchSampler(
        len(dataset),
        batch_size,
        seed=seed,
        sizes=[size] if sizes is None else sizes,
        accumulate=accumulate,
        rank=rank,
        world_size=world_size,
    )
    return SaliencyLoader(dataset, sampler, workers=workers, pin_memory=pin_memory, skipped=checked.skipped)


def validation_loader(
    pairs: DataSet | Iterable[ImagePair],
    *,
    size: Size = 224,
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
        >>> for index, images in enumerate(synthetic_images(3)):
        ...     for kind, image in zip(("images", "masks"), images):
        ...         (folder / kind).mkdir(exist_ok=True)
        ...         image.save(folder / kind / f"{index}.png")
        >>> [len(batch.names) for batch in validation_loader(find_pairs(folder), size=64, batch_size=2, workers=0)]
        [2, 1]
    """
    checked = _usable(pairs)
    dataset = SaliencyDataset(checked.pairs, size=size, shrink=shrink, cache=cache, broken="drop")
    sampler = EpochBatchSampler(
        len(dataset),
        batch_size,
        sizes=[size],
        shuffle=False,
        drop_last=False,
        rank=rank,
        world_size=world_size,
    )
    return SaliencyLoader(dataset, sampler, workers=workers, pin_memory=pin_memory, skipped=checked.skipped)


def _usable(pairs: DataSet | Iterable[ImagePair]) -> CheckedPairs:
    """Check the headers of all pairs, and warn about those that cannot be used."""
    pairs = tuple(pairs)
    checked = check_pairs(pairs)
    if pairs and not checked.pairs:
        raise DataSetError(f"none of the {len(pairs)} pairs can be used, such as {checked.skipped[0].reason}")
    if checked.skipped:
        reasons = [f"{pair.name}: {pair.reason}" for pair in checked.skipped]
        more = len(reasons) - _NAMED
        text = "\n  ".join(reasons[:_NAMED] + ([f"and {more} more"] if more > 0 else []))
        warnings.warn(
            f"{len(reasons)} of {len(pairs)} pairs cannot be used and are skipped:\n  {text}",
            SkippedPairWarning,
            stacklevel=3,
        )
    return checked


class BothLoaders(NamedTuple):
    """What is learned from, and what maps are compared with, in the first process only."""

    train: SaliencyLoader
    validation: SaliencyLoader | None

    @property
    def skipped(self) -> dict[str, str]:
        """The names of pairs that could not be read in any process, and why; all processes ask at once."""
        own = [loader.skipped for loader in self if loader is not None]
        return {
            name: why for loaders in distributed.gathered(own) for skipped in loaders for name, why in skipped.items()
        }

    def close(self) -> None:
        """End the processes that read photographs."""
        for loader in self:
            if loader is not None:
                loader.close()

    def names(self) -> dict[str, list[str]]:
        """Return the names of the pairs of each."""
        return {
            part: [] if loader is None else [pair.name for pair in loader.pairs]
            for part, loader in zip(self._fields, self, strict=True)
        }


def both_loaders(
    train: DataSet | Iterable[ImagePair],
    validation: DataSet | Sequence[ImagePair] | None,
    *,
    sizes: Sequence[Any],
    **options: Any,
) -> BothLoaders:
    """Return loaders with the same options, those of `training_loader`; maps are compared at the first of the sizes."""
    learned_from = training_loader(train, sizes=sizes, **options)
    if validation is None or distributed.rank():
        return BothLoaders(learned_from, None)
    alike = {name: options[name] for name in _ALIKE if name in options}
    return BothLoaders(learned_from, validation_loader(validation, size=sizes[0], rank=0, world_size=1, **alike))
