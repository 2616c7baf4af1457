"""``goctconv learn``: photographs and masks, as loaders."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ... import _distributed as distributed
from ...saliency import DataSet, DataSetError, ImagePair, join_pairs, split_pairs
from ...saliency.data import BothLoaders, both_loaders
from .._command import CommandError
from .._output import plural, say, shorten
from ._config import Config
from ._recipe import transforms

_OPTIONS = (
    ("lower batch_size, or pass drop_last=False", "lower --batch-size or --accumulate"),
    ("validation=", "--val "),
    ("both need at least one", "both need at least one; --val 0 compares no maps"),
    ("shrink is", "--shrink is"),
    ("size is 'own' and batch_size is", "--size own and --batch-size"),
    ("batch_size=1, and accumulate=10", "--batch-size 1, and --accumulate 10"),
)


def make_loaders(config: Config, device: torch.device) -> BothLoaders:
    """Find the pairs and split them.

    Raises:
        CommandError: There are none, or too few.
    """
    try:
        return _make(config, device)
    except (DataSetError, OSError, ValueError) as error:
        raise in_options(error) from error


def in_options(error: Exception, *others: tuple[str, str]) -> CommandError:
    """Return what to say of data that cannot be used, in terms of options and of further replacements."""
    text = str(error)
    for python, option in (*_OPTIONS, *others):
        text = text.replace(python, option)
    return CommandError(*text.splitlines())


def _make(config: Config, device: torch.device) -> BothLoaders:
    train: Sequence[ImagePair] | DataSet = _found(config, *config.data)
    validation: Sequence[ImagePair] | DataSet | None = None
    if isinstance(config.val, Path):
        validation = _found(config, config.val)
        _note_shared(train, validation, config)
    elif config.val:
        train, validation = split_pairs(train, config.val, seed=config.seed)
    return both_loaders(
        train,
        validation,
        sizes=config.size,
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
        transforms=transforms(config),
        shrink=config.shrink,
        cache=config.cache,
        accumulate=config.accumulate,
        pin_memory=device.type == "cuda",
    )


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
