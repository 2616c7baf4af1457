"""A task of learning: loaders, the loss of a batch, and the comparison of maps after an epoch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn

from ..._checks import check_choice
from ...graph import evaluating
from ..data import Batch, BothLoaders, DataSet, DataSetError, ImagePair, SaliencyLoader, join_pairs
from ..inference import all_outputs
from ..losses import DeepSupervision, get_loss
from ..losses._basic import Reduction, reduced
from ..losses._combine import tell_epoch
from ..metrics import SaliencyMetrics

REDUCTIONS = get_args(Reduction)

Pairs: TypeAlias = "str | os.PathLike[str] | DataSet | Sequence[ImagePair]"
"""A folder or a list in a layout of `find_pairs`, or what that found."""

SaliencyLoss: TypeAlias = "str | Callable[[Tensor, Tensor], Tensor]"
"""A name of `goctconv.saliency.losses.get_loss`, or a function of logits and masks, both (B, 1, H, W)."""


class Task(NamedTuple):
    """What a network is trained on: loaders, the loss of a batch, and what compares maps after every epoch."""

    loaders: BothLoaders
    step: Callable[[nn.Module, Any], Tensor]
    validate: Callable[[nn.Module], dict[str, float]] | None


def found_pairs(pairs: Pairs) -> DataSet | Sequence[ImagePair]:
    """Return the pairs of a folder or list."""
    return join_pairs(pairs) if isinstance(pairs, str | os.PathLike | DataSet) else pairs


class SaliencyStep:
    """The loss of a batch; of a network with a ``forward_multi``, of all its outputs, with the weights 1, ½, ¼, ⅛.

    Args:
        loss: A name of `goctconv.saliency.losses.get_loss`, or a function of logits and masks.
        reduction: "mean" over pixels, or "sum" over those of an image, which is the mean times their number; over the
            images of a batch it is the mean in both cases.
    """

    def __init__(self, loss: SaliencyLoss, reduction: Reduction = "mean") -> None:
        self.loss = get_loss(loss) if isinstance(loss, str) else loss
        self.reduction = check_choice("reduction", reduction, REDUCTIONS)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of a model for a batch."""
        outputs = all_outputs(model, batch.images)
        if len(outputs) > 1 or isinstance(self.loss, DeepSupervision):
            loss = self._deep(outputs, batch.masks)
        else:
            loss = self.loss(outputs[0], batch.masks)
        return reduced(loss, batch.masks, self.reduction)

    def _deep(self, outputs: Sequence[Tensor], masks: Tensor) -> Tensor:
        deep = self.loss if isinstance(self.loss, DeepSupervision) else DeepSupervision(self.loss)
        return deep(outputs, masks)

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, from 0, to a loss that changes from epoch to epoch."""
        tell_epoch(self.loss, epoch)


class SaliencyValidation:
    """Mean absolute error and max F of a model's maps, at the network's input size.

    Args:
        loader: Gives the pairs to compare with, as `goctconv.saliency.validation_loader` does.
    """

    def __init__(self, loader: SaliencyLoader) -> None:
        self.loader = loader

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Return ``mae`` and ``max_f``; lower and higher are better."""
        metrics = SaliencyMetrics(metrics=("mae", "max_f"))
        parameter = next(model.parameters())
        images = 0
        with evaluating(model):
            for batch in self.loader:
                images += len(batch.images)
                maps = model(batch.images.to(parameter.device, parameter.dtype)).float().sigmoid()
                metrics.update(maps, batch.masks.to(maps.device).float())
        if not images:
            name, why = next(iter(self.loader.skipped.items()))
            raise DataSetError(f"none of the {len(self.loader.pairs)} pairs to compare with can be read: {name}: {why}")
        return metrics.compute().scores()
