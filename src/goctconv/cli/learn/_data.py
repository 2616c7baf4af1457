"""``goctconv learn``: photographs and masks, as loaders."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from ...learning import _distributed as distributed
from ...saliency import (
    SaliencyLoader,
    join_pairs,
    scfnet_transforms,
    split_pairs,
    training_loader,
    validation_loader,
)
from ...saliency._pairs import DataSet, DataSetError, ImagePair
from .._command import CommandError
from .._messages import say
from .._progress import plural, shorten
from ._config import Config

_GRACE = 30  # seconds in which the step that runs can end


class Loaders(NamedTuple):
    """What is learned from, and what maps are compared with."""

    train: SaliencyLoader
    validation: SaliencyLoader | None

    @property
    def skipped(self) -> dict[str, str]:
        """The names of pairs that could not be read in any process, and why."""
        loaders = [loader for loader in self if loader is not None]
        found: dict[str, str] = {}
        for skipped in distributed.gathered([loader.skipped for loader in loaders]):
            for one in skipped:
                found |= one
        return found

    def names(self) -> dict[str, list[str]]:
        """Return the names of the pairs of each."""
        return {
            name: [] if loader is None else [pair.name for pair in loader.dataset.pairs]  # type: ignore[attr-defined]
            for name, loader in zip(self._fields, self, strict=True)
        }


def make_loaders(config: Config, device: torch.device) -> Loaders:
    """Find the pairs and split them.

    Raises:
        CommandError: There are none, or too few.
    """
    try:
        return _make(config, device)
    except (DataSetError, OSError, ValueError) as error:
        text = str(error)
        for python, option in (
            ("lower batch_size, or pass drop_last=False", "lower --batch-size or --accumulate"),
            ("validation=", "--val "),
            ("both need at least one", "both need at least one; --val 0 compares no maps"),
            ("shrink is", "--shrink is"),
        ):
            text = text.replace(python, option)
        raise CommandError(*text.splitlines()) from error


def _make(config: Config, device: torch.device) -> Loaders:
    train: Sequence[ImagePair] | DataSet = _found(config, *config.data)
    validation: Sequence[ImagePair] | DataSet = ()
    if isinstance(config.val, Path):
        validation = _found(config, config.val)
        _note_shared(train, validation, config)
    elif config.val:
        train, validation = split_pairs(train, config.val, seed=config.seed)
    pin = device.type == "cuda"
    training = training_loader(
        train,
        sizes=config.size,
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
        transforms=scfnet_transforms() if config.preset == "scfnet" else None,
        shrink=config.shrink,
        cache=config.cache,
        accumulate=config.accumulate,
        pin_memory=pin,
    )
    training.worker_init_fn = worker_init
    if not validation or distributed.rank():
        return Loaders(training, None)
    checking = validation_loader(
        validation,
        size=config.size[0],
        batch_size=config.batch_size,
        workers=config.workers,
        shrink=config.shrink,
        cache=config.cache,
        rank=0,
        world_size=1,
        pin_memory=pin,
    )
    checking.worker_init_fn = worker_init
    return Loaders(training, checking)


def _found(config: Config, *sources: Path) -> DataSet:
    data = join_pairs(*sources)
    if distributed.rank() == 0 and not config.quiet:
        for paths, what in (
            (data.missing, "file of a list is missing"),
            (data.lone_masks, "mask without a photograph"),
            (data.lone_images, "photograph without a mask"),
        ):
            if paths:
                say(f"goctconv: {data.name}: {what}, left out: {plural(len(paths), 'file')}: {shorten(paths, limit=5)}")
    if not data.pairs:
        raise CommandError(f"{data.name}: there is no photograph that has a mask.")
    return data


def _note_shared(
    train: Sequence[ImagePair] | DataSet, validation: Sequence[ImagePair] | DataSet, config: Config
) -> None:
    photographs = {pair.image.resolve() for pair in train}
    shared = [pair.name for pair in validation if pair.image.resolve() in photographs]
    if shared and distributed.rank() == 0 and not config.quiet:
        say(f"goctconv: note: {plural(len(shared), 'photograph')} of --val are trained on too: {shorten(shared)}")


def worker_init(_: int) -> None:
    """Let a worker go on when SIGTERM is sent to all processes at once: the step that runs still needs its batch."""
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE))
