"""Random generators that depend on nothing but what they are for."""

from enum import IntEnum

import numpy as np

from .._integers import check_integer

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
    """Return the seed.

    Raises:
        TypeError: It is no integer.
        ValueError: It is out of range.
    """
    return check_integer("seed", seed, lowest=0, highest=_HIGHEST)


def check_epoch(epoch: object) -> int:
    """Return the epoch.

    Raises:
        TypeError: It is no integer.
        ValueError: It is negative.
    """
    return check_integer("epoch", epoch, lowest=0, highest=_HIGHEST)
