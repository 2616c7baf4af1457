"""Both loaders of a run: what is learned from, and what maps are compared with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ... import _distributed as distributed
from .._pairs import DataSet, ImagePair
from ._loader import SaliencyLoader
from ._make_loaders import training_loader, validation_loader


class BothLoaders(NamedTuple):
    """What is learned from, and what maps are compared with, in the first process only."""

    train: SaliencyLoader
    validation: SaliencyLoader | None

    @property
    def skipped(self) -> dict[str, str]:
        """The names of pairs that could not be read in any process, and why; all processes ask at once."""
        own = [loader.skipped for loader in self if loader is not None]
        return {name: why for loaders in distributed.gathered(own) for one in loaders for name, why in one.items()}

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
    compared_at: Any = None,
    batch_size: int,
    workers: int,
    shrink: int | None,
    cache: str | os.PathLike[str] | None,
    pin_memory: bool = False,
    **training: Any,
) -> BothLoaders:
    """Return loaders that read photographs alike.

    Args:
        train: The pairs to learn from.
        validation: The pairs to compare maps with; None: none are compared.
        sizes: Of the images to learn from, as for `training_loader`.
        compared_at: The size of those to compare with; the first of ``sizes`` if not given.
        batch_size: Images per batch of a process.
        workers: Processes that read images, of each loader.
        shrink: As for `SaliencyDataset`.
        cache: As for `SaliencyDataset`.
        pin_memory: As for `SaliencyLoader`.
        **training: Other arguments of `training_loader`.

    Raises:
        DataSetError: As in `training_loader` and `validation_loader`.
        TypeError: Likewise.
        ValueError: Likewise.
    """
    alike: dict[str, Any] = {
        "batch_size": batch_size, "workers": workers, "shrink": shrink, "cache": cache, "pin_memory": pin_memory
    }  # fmt: skip
    learned_from = training_loader(train, sizes=sizes, **alike, **training)
    if validation is None or distributed.rank():
        return BothLoaders(learned_from, None)
    size = sizes[0] if compared_at is None else compared_at
    return BothLoaders(learned_from, validation_loader(validation, size=size, rank=0, world_size=1, **alike))
