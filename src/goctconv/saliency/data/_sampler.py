"""Batches of an epoch: which images, of which size, in which process; and their random numbers."""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from ... import _distributed as distributed
from ..._checks import ArgumentError, ArgumentTypeError, check_integer
from .._resize import OWN, Size, check_size_or_own

HIGHEST = 2**32 - 1  # of seeds and epochs: one word of NumPy's seeds, so that different lists stay different


class SampleKey(NamedTuple):
    """The number of a pair, an epoch and a size (None: its own): all that an example depends on besides the seed."""

    epoch: int
    number: int
    size: tuple[int, int] | None


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


class EpochBatchSampler(Sampler[list[SampleKey]]):
    """Batches of a `SaliencyDataset` in an order that depends only on seed and epoch.

    Each index comes with its epoch and size, so that worker processes of any age make the right example. Rank r of w
    takes the batches r, r + w, r + 2w and so on of those that a single process would take. So w processes, each with
    ``accumulate=a``, see in each optimizer step what one process with ``accumulate=w * a`` sees.

    With ``drop_last``, images that do not fill a batch on each rank for a whole optimizer step are left out, others in
    each epoch. Without it every image comes once, the last batch may be smaller, and ranks may have one batch more or
    less. The other arguments are those of `training_loader`.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int = 0,
        sizes: Sequence[Size] = (224,),
        shuffle: bool = True,
        drop_last: bool = True,
        accumulate: int = 1,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self.length = check_integer("length", length, least=1)
        self.batch_size = check_integer("batch_size", batch_size, least=1)
        self.seed = check_integer("seed", seed, 0, HIGHEST)
        self.sizes = _check_sizes(sizes, self.batch_size)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.accumulate = check_integer("accumulate", accumulate, least=1)
        self.rank, self.world_size = _processes(rank, world_size)
        self.epoch = self.start = 0
        self.total = self._count()

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch of the next pass, and how many batches of it (of this process) to leave out."""
        self.epoch = check_integer("epoch", epoch, 0, HIGHEST)
        self.start = check_integer("start", start, 0, self._mine(), cure=f"an epoch has {self._mine()} batches")

    def __len__(self) -> int:
        """The number of batches of the next pass: those of an epoch, less ``start``."""
        return self._mine() - self.start

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order: Sequence[int] = range(self.length)
        if self.shuffle:
            order = generator(Purpose.ORDER, self.seed, self.epoch).permutation(self.length).tolist()
        epoch = self.epoch
        for number in range(self.rank + self.start * self.world_size, self.total, self.world_size):
            drawn = generator(Purpose.SIZE, self.seed, epoch, number).integers(len(self.sizes))
            size, first = self.sizes[int(drawn)], number * self.batch_size
            yield [SampleKey(epoch, index, size) for index in order[first : first + self.batch_size]]

    def _mine(self) -> int:
        return len(range(self.rank, self.total, self.world_size))

    def _count(self) -> int:
        """Return how many batches all processes together take in an epoch."""
        if not self.drop_last:
            return -(-self.length // self.batch_size)
        step = self.world_size * self.accumulate
        total = self.length // self.batch_size // step * step
        if not total:
            times = f" x {self.accumulate} to accumulate" if self.accumulate > 1 else ""
            times += f" x {self.world_size} processes" if self.world_size > 1 else ""
            problem = f"needs {self.batch_size * step} pairs for an optimizer step{times}, but there are {self.length}"
            cure = "lower {batch_size} or {accumulate}"
            raise ArgumentError("batch_size", self.batch_size, problem=problem, cure=cure)
        return total


def _processes(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if (rank is None) != (world_size is None):
        raise ArgumentError("rank", rank, problem=f"and world_size={world_size}", cure="pass both or neither")
    if rank is None or world_size is None:
        return distributed.rank(), distributed.world_size()
    world_size = check_integer("world_size", world_size, least=1)
    return check_integer("rank", rank, 0, world_size - 1), world_size


def _check_sizes(sizes: object, batch_size: int) -> tuple[tuple[int, int] | None, ...]:
    if not isinstance(sizes, (tuple, list, range)):
        raise ArgumentTypeError("sizes", sizes, "a list of sizes", f"pass [{sizes!r}]")
    if not sizes:
        raise ArgumentError("sizes", sizes, "at least one size", "pass [224]")
    checked = tuple(check_size_or_own(size) for size in sizes)
    if None in checked and len(checked) > 1:
        raise ArgumentError("sizes", sizes, problem=f"holds {OWN!r}, which goes with no other", cure="pass it alone")
    if None in checked and batch_size > 1:
        problem = "does not go with {size='own'}: images of different sizes make no batch"
        cure = "pass {batch_size=1}, and {accumulate=10} for steps of ten images; or one size for all"
        raise ArgumentError("batch_size", batch_size, problem=problem, cure=cure)
    return checked
