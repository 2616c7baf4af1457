"""Random numbers that depend on the seed and the epoch alone."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch

_PARTS = ("sampler", "batch_sampler", "dataset")


def derived(*parts: object) -> int:
    """Return a seed of 63 bits that depends on all parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def begin_epoch(loader: Any, seed: int, epoch: int, rank: int) -> None:
    """Let everything that is random in an epoch begin anew, from the seed and the epoch.

    What has a ``set_epoch`` is told the epoch; generators of the loader and its samplers are seeded alike in all
    processes, the global ones differently.
    """
    parts = _parts(loader)
    for part in parts:
        if callable(set_epoch := getattr(part, "set_epoch", None)):
            set_epoch(epoch)
    generators = {
        id(one): one for part in parts if isinstance(one := getattr(part, "generator", None), torch.Generator)
    }
    for number, generator in enumerate(generators.values()):
        generator.manual_seed(derived(seed, epoch, "loader", number))
    _seed_all(derived(seed, epoch, "process", rank))


def _parts(loader: Any) -> list[Any]:
    """Return the loader, its samplers and its data set, each once."""
    found = [loader]
    for part in found:
        for name in _PARTS:
            inner = getattr(part, name, None)
            if inner is not None and all(inner is not one for one in found):
                found.append(inner)  # and look into it too
    return found


def _seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # data sets may draw from the global generator
    torch.manual_seed(seed)
