"""Checks of loaders."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import BatchSampler, IterableDataset, RandomSampler, SequentialSampler

from . import _distributed as distributed
from ._errors import TrainingError


def length(loader: Any) -> int | None:
    """Return the number of batches, if the loader tells."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):  # an iterable data set need not know
        return None


def check_loader(loader: object) -> None:
    """Check that a loader gives batches, again in every epoch, and in every process its share.

    Raises:
        TypeError: It cannot be iterated, or only once.
        ValueError: It is empty.
        TrainingError: Processes have different numbers of batches: some would wait for ever.
    """
    if not isinstance(loader, Iterable):
        raise TypeError(f"train_loader={loader!r} must give batches, as a torch.utils.data.DataLoader or a list does")
    if isinstance(loader, Iterator):
        raise TypeError(
            f"train_loader is a {type(loader).__name__}, which gives its batches only once: pass what it iterates over"
        )
    count = length(loader)
    if count == 0:
        raise ValueError("train_loader is empty: it has no batch (fewer images than one batch, and drop_last=True?)")
    counts = distributed.gathered(count)
    if len(set(counts)) > 1:
        raise TrainingError(
            f"the processes have {', '.join(map(str, counts))} batches, and must have as many: use a "
            "torch.utils.data.DistributedSampler"
        )
    sampler = getattr(loader, "sampler", None)
    own = type(getattr(loader, "batch_sampler", None)) not in {BatchSampler, type(None)}  # which deals out the batches
    is_whole = not own and type(sampler) in {RandomSampler, SequentialSampler}
    if len(counts) > 1 and is_whole and not isinstance(getattr(loader, "dataset", None), IterableDataset):
        warnings.warn(
            f"every one of the {len(counts)} processes goes through the whole data set in an epoch (the loader's "
            f"sampler is a {type(sampler).__name__}): use a torch.utils.data.DistributedSampler",
            stacklevel=4,
        )
