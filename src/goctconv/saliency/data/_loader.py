"""Batches read in worker processes, epoch by epoch."""

import atexit
import signal
import warnings
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..._checks import check_integer
from ..._torch import end_workers
from ._dataset import SaliencyDataset
from ._examples import Dropped, SkippedPair, TensorPair, collate
from ._pairs import ImagePair
from ._sampler import EpochBatchSampler

_GRACE = 30  # seconds in which a step that runs can end


class SkippedPairWarning(UserWarning):
    """A pair of photograph and mask could not be read, and is left out; the message names it and says why."""


class SaliencyLoader(DataLoader[TensorPair | Dropped]):
    """A ``DataLoader`` of a `SaliencyDataset` that knows about epochs, and counts the pairs that cannot be read.

    Its batches depend only on files, seed and epoch: not on the number of workers, nor on what was read before. It
    leaves torch's global random state alone. Worker processes stay for all epochs; where SIGTERM is sent to all
    processes at once, they outlive it by half a minute, so that a run can finish its step and write a checkpoint.

    Args:
        dataset: The images.
        sampler: Which of them make up which batch.
        workers: Processes that read images; 0: in this one.
        pin_memory: Whether tensors are put into page-locked memory, from where GPUs copy faster.
        skipped: Pairs that were left out already.
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
        self._pairs = dataset.pairs
        self._skipped = {pair.name: pair.reason for pair in skipped}
        if workers:
            atexit.register(_close, weakref.ref(self))

    @property
    def pairs(self) -> tuple[ImagePair, ...]:
        """The pairs that batches are made of."""
        return self._pairs

    @property
    def skipped(self) -> dict[str, str]:
        """What could not be read so far: the names of pairs, and what is wrong with each."""
        return dict(self._skipped)

    def close(self) -> None:
        """End the worker processes; another pass starts new ones."""
        end_workers(self)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch of the next pass, and how many of its batches to leave out."""
        self._epochs.set_epoch(epoch, start)

    def __iter__(self) -> Any:  # an Iterator[Batch]; torch promises its own iterator class
        for batch in super().__iter__():
            self._count(batch.skipped)
            if batch.names:
                yield batch

    def _count(self, skipped: Iterable[SkippedPair]) -> None:
        for pair in skipped:
            if pair.name not in self._skipped:
                self._skipped[pair.name] = pair.reason
                warnings.warn(f"{pair.name} is skipped: {pair.reason}", SkippedPairWarning, stacklevel=3)


def _close(reference: "weakref.ref[SaliencyLoader]") -> None:
    """End workers before multiprocessing ends them with SIGTERM, which they outlive, when the program ends."""
    if (loader := reference()) is not None:
        loader.close()


def _outlive_sigterm(_: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE))
