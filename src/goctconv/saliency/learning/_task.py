"""A task of learning: loaders, the loss of a batch, and the comparison of maps after an epoch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn

from ..._checks import check_choice
from ...graph import evaluating
from ..data import Batch, BothLoaders, DataSet, DataSetError, ImagePair, SaliencyLoader, join_pairs
from ..inference import all_outputs
from ..losses import DeepSupervision, get_loss
from ..losses._basic import Reduction, reduced
from ..losses._combine import Loss, apply_loss, tell_epoch
from ..metrics import SaliencyMetrics

REDUCTIONS = get_args(Reduction)

Pairs: TypeAlias = "str | os.PathLike[str] | DataSet | Sequence[ImagePair]"
"""A folder or a list in a layout of `find_pairs`, or what that found."""


class Task(NamedTuple):
    """What a network is trained on: loaders, the loss of a batch, and what compares maps after every epoch."""

    loaders: BothLoaders
    step: Callable[[nn.Module, Any], Tensor]
    validate: Callable[[nn.Module], dict[str, float]] | None


def found_pairs(pairs: Pairs) -> DataSet | Sequence[ImagePair]:
    """Return the pairs of a folder or a list, and others as they are."""
    return join_pairs(pairs) if isinstance(pairs, str | os.PathLike | DataSet) else pairs


class SaliencyStep:
    """The loss of a batch; of a network with a ``forward_multi``, of all its outputs, with the weights 1, ½, ¼, ⅛.

    The loss is a name of `goctconv.saliency.losses.get_loss`, or a function of logits and masks, both (B, 1, H, W). The
    reduction is "mean" over pixels, or "sum" over those of an image, which is the mean times their number; over the
    images of a batch it is the mean in both cases.
    """

    def __init__(self, loss: str | Loss | DeepSupervision, reduction: Reduction = "mean") -> None:
        self.loss = get_loss(loss) if isinstance(loss, str) else loss
        self.reduction = check_choice("reduction", reduction, REDUCTIONS)

    def targets(self, batch: Batch) -> Tensor:
        """Return what the outputs are compared with, (B, 1, H, W)."""
        return batch.masks

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of a model for a batch."""
        outputs = all_outputs(model, batch.images)  # first: finding the inputs of the model needs no more
        targets, loss = self.targets(batch), self.loss
        if len(outputs) > 1 and not isinstance(loss, DeepSupervision):
            loss = DeepSupervision(loss)
        found = loss(outputs, targets) if isinstance(loss, DeepSupervision) else apply_loss(loss, outputs[0], targets)
        return reduced(found, targets, self.reduction)

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, from 0, to a loss that changes from epoch to epoch."""
        tell_epoch(self.loss, epoch)


def maps_of_batches(model: nn.Module, loader: SaliencyLoader) -> Iterator[tuple[Batch, Tensor]]:
    """Yield each batch of a loader, where the model is, with the maps of it that the model makes in eval mode."""
    parameter = next(model.parameters())
    has_read = False
    with evaluating(model):
        for given in loader:
            has_read = True
            batch = given.to(parameter.device)
            yield batch, model(batch.images.to(parameter.dtype)).float().sigmoid()
    if not has_read:
        name, why = next(iter(loader.skipped.items()))
        raise DataSetError(f"none of the {len(loader.pairs)} pairs to compare with can be read: {name}: {why}")


class SaliencyValidation:
    """Mean absolute error and max F of a model's maps of the pairs of a loader, at the network's input size."""

    def __init__(self, loader: SaliencyLoader) -> None:
        self.loader = loader

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Return ``mae`` and ``max_f``; lower and higher are better. Of masks that are all empty, ``mae`` alone."""
        metrics = SaliencyMetrics(metrics=("mae", "max_f"))
        for batch, maps in maps_of_batches(model, self.loader):
            masks = batch.masks.float()
            metrics.update(maps, masks.nan_to_num(0.0), masks.isnan())
        found = metrics.compute()
        return {name: value for name, value in found.scores().items() if name == "mae" or not found.is_empty}
