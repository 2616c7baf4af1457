"""One epoch: forward, backward and steps of the optimizer, with accumulation and mixed precision."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from .. import _distributed as distributed
from .._checks import escaped
from ..graph import undisturbed
from ._batches import Step, check_loss, example_of, image_count, moved, names_of
from ._config import TrainingConfig
from ._errors import TrainingError
from ._network import Network

_LOADER_PARTS = ("sampler", "batch_sampler", "dataset")


@dataclass
class Totals:
    """What has been summed up since the epoch began: it goes into a checkpoint in the middle of one."""

    steps: int = 0
    images: int = 0
    loss: float = 0.0
    seconds: float = 0.0


@dataclass
class Training:
    """What runs in a phase: the same network and optimizer in all its epochs."""

    network: Network
    optimizer: Optimizer
    scheduler: Any
    scaler: torch.amp.GradScaler
    step: Step
    config: TrainingConfig
    asked_to_stop: Callable[[], bool]

    def steps(self, loader: Any, totals: Totals, place: str, begun: Callable[[], None]) -> Iterator[tuple[float, bool]]:
        """Train through an epoch, or what is left of it; after every step yield its loss and whether it is the last.

        The steps that an earlier process has done are skipped, then ``begun`` is called. Errors name the place.
        """
        self.network.train()
        batches = iter(loader)

        def group() -> list[Any]:
            return list(itertools.islice(batches, self.config.accumulate))

        for _ in range(totals.steps):
            if not group():
                raise TrainingError(f"{place}: the loader ended before step {totals.steps}, where the checkpoint is")
        begun()
        start = time.perf_counter()
        while given := group():
            result = self._take(given, totals, f"{place}, step {totals.steps + 1}")
            totals.seconds += time.perf_counter() - start
            yield result
            start = time.perf_counter()

    def _take(self, group: list[Any], totals: Totals, place: str) -> tuple[float, bool]:
        """Take one step of the optimizer; return its loss, and whether a process was asked to stop."""
        self.optimizer.zero_grad()
        losses, images, bad = 0.0, 0, ""
        for index, given in enumerate(group):
            batch = moved(given, self.network.device, channels_last=self.config.channels_last)
            count = image_count(batch)
            is_early = index < len(group) - 1
            with self.network.without_sync(really=is_early):
                loss = self._backward(batch, len(group))
            if not math.isfinite(loss):
                bad = bad or f"the loss is {loss}{_named(given)}"
            losses += loss * count
            images += count
        asked = self.asked_to_stop()
        losses, all_images, failed, stops = distributed.summed([losses, images, bool(bad), asked], self.network.device)
        if failed:
            problem = bad or "the loss is not finite in another process"
            raise TrainingError(f"{place}: {escaped(problem)}", diverged=True)
        self._update()
        totals.steps += 1
        totals.images += int(all_images)
        totals.loss += losses
        return losses / max(all_images, 1), stops > 0

    def _backward(self, batch: Any, parts: int) -> float:
        with self.network.autocast(self.config), self.network.kernels(self.config):
            loss: Tensor = check_loss(self.step(self.network.runner, batch))
        scaled: Any = self.scaler.scale(loss / parts)
        scaled.backward()
        return float(loss.detach())

    def _update(self) -> None:
        if self.config.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            clip_grad_norm_(self.network.model.parameters(), self.config.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()


def _named(batch: Any) -> str:
    names = names_of(batch)
    return f" for the batch {', '.join(names)}" if names else ""


@contextmanager
def noting_sigterm() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGTERM came, in the main thread; elsewhere signals cannot be caught."""
    signals: list[int] = []
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    try:
        yield lambda: bool(signals)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def derived(*parts: object) -> int:
    """Return a seed of 63 bits that depends on all parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def begin_epoch(loader: Any, seed: int, epoch: int, rank: int) -> None:
    """Seed everything that is random in an epoch from the seed and the epoch.

    What has a ``set_epoch`` is told the epoch; generators of the loader and its samplers are seeded alike in all
    processes, the global ones differently.
    """
    parts = _parts(loader)
    for part in parts:
        if callable(set_epoch := getattr(part, "set_epoch", None)):
            set_epoch(epoch)
    drawn = [getattr(part, "generator", None) for part in parts]
    generators = {id(generator): generator for generator in drawn if isinstance(generator, torch.Generator)}
    for number, generator in enumerate(generators.values()):
        generator.manual_seed(derived(seed, epoch, "loader", number))
    own = derived(seed, epoch, "process", rank)
    random.seed(own)
    np.random.seed(own % 2**32)  # noqa: NPY002  # data sets may draw from the global generator
    torch.manual_seed(own)


def _parts(loader: Any) -> list[Any]:
    """Return the loader, its samplers and its data set, each once."""
    found = [loader]
    for part in found:
        for name in _LOADER_PARTS:
            inner = getattr(part, name, None)
            if inner is not None and all(inner is not known for known in found):
                found.append(inner)  # and look into it too
    return found


def example_of_epoch(model: nn.Module, step: Step, loader: Any, config: TrainingConfig, epoch: int) -> Any:
    """Return what a step calls the model with in the first batch of an epoch, the same in all processes."""
    device = next(model.parameters()).device
    with undisturbed():
        begin_epoch(loader, config.seed, epoch, 0)
        batch = moved(next(iter(loader)), device, channels_last=config.channels_last)
        example = example_of(model, step, batch)
    first = distributed.gathered(moved(example, torch.device("cpu"), channels_last=False))[0]
    return moved(first, device, channels_last=False)
