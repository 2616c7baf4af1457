"""Several processes that torchrun started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from .. import _distributed as distributed
from ._command import CommandError
from ._model import choose_device

_TIMEOUT = timedelta(hours=2)  # the others wait while the first process compares maps


def process_rank() -> int:
    """Return the rank of this process; of the first one, or of a lone one, it is 0."""
    return int(os.environ.get("RANK", "0")) if _is_one_of_several() else 0


def process_count() -> int:
    """Return the number of processes that train together."""
    return int(os.environ["WORLD_SIZE"]) if _is_one_of_several() else 1


@contextmanager
def connected(device: str) -> Iterator[torch.device]:
    """Connect this process with the others, if there are any, and yield the device that it trains on."""
    several = _is_one_of_several()
    chosen = choose_device(device)
    if several and str(chosen) == "cuda":
        chosen = choose_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
    if not several:
        yield chosen
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield chosen
    finally:
        dist.destroy_process_group()


@contextmanager
def together() -> Iterator[None]:
    """End all processes on an error of one, before any waits for one that has ended."""
    try:
        yield
    except CommandError as error:
        distributed.gathered(error.args)
        raise
    problems = [lines for lines in distributed.gathered(()) if lines]
    if problems:
        raise CommandError(*problems[0])


def _is_one_of_several() -> bool:
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ
