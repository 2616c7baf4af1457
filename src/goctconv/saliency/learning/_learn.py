"""Algorithm 1 for saliency: learn the channels of a network on pairs of photographs and masks."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ... import _distributed as distributed
from ..._checks import check_choice
from ...options import explains_options
from ...training import Callback, TrainingResult, learn_channels
from ..data import (
    Batch,
    DataSet,
    DataSetError,
    ImagePair,
    SaliencyLoader,
    SkippedPairWarning,
    both_loaders,
    join_pairs,
)
from ..inference import all_outputs
from ..losses import DeepSupervision, get_loss
from ..losses._basic import Reduction, reduced
from ..losses._combine import tell_epoch
from ..metrics import SaliencyMetrics
from ..transforms._sample import Transform
from ._config import REDUCTIONS, SaliencyConfig

Pairs: TypeAlias = "str | os.PathLike[str] | DataSet | Sequence[ImagePair]"
"""A folder or a list in a layout of `find_pairs`, or what that found."""

SaliencyLoss: TypeAlias = "str | Callable[[Tensor, Tensor], Tensor]"
"""A name of `goctconv.saliency.losses.get_loss`, or a function of logits and masks, both (B, 1, H, W)."""

_NAMED = 5  # pairs in a warning


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
        for batch in self.loader:
            images += len(batch.images)
            maps = model(batch.images.to(parameter.device, parameter.dtype)).float().sigmoid()
            metrics.update(maps, batch.masks.to(maps.device).float())
        if not images:
            name, why = next(iter(self.loader.skipped.items()))
            raise DataSetError(f"none of the {len(self.loader.pairs)} pairs to compare with can be read: {name}: {why}")
        return metrics.compute().scores()


@explains_options(SaliencyConfig)
def learn(
    model: nn.Module,
    train: Pairs,
    validation: Pairs | None = None,
    config: SaliencyConfig | None = None,
    *,
    transforms: Iterable[Transform] | None = None,
    optimizer: Callable[[nn.Module], Optimizer] | Optimizer | None = None,
    scheduler: Callable[[Optimizer, int], LRScheduler] | None = None,
    callbacks: Iterable[Callback] = (),
    example_inputs: Any = None,
    resume: bool | str | os.PathLike[str] = False,
) -> TrainingResult:
    """Train a saliency network with dynamic weight decay, remove the channels that faded, and fine-tune.

    The options are the published ones where ``config`` is left out: 300 epochs at 224×224 in batches of 24, Adam with
    lr 1e-4 that is divided by 10 at two thirds and five sixths, binary cross-entropy, random crops and flips; then 20
    epochs of fine-tuning.

    Args:
        model: A network that gives logits (B, 1, H, W) of images (B, 3, H, W), with BatchNorm.
        train: Photographs with masks: a folder or list in a layout of `find_pairs`, or pairs.
        validation: The same, to compare maps with after each epoch.
        config: All options of the run; `get_preset` returns those of other ways to train.
        transforms: Of photographs with their masks, in place of those that the options name.
        optimizer: As in `goctconv.learn_channels`, in place of ``config.optimizer``.
        scheduler: As in `goctconv.learn_channels`, in place of ``config.schedule``.
        callbacks: As in `goctconv.learn_channels`.
        example_inputs: As in `goctconv.learn_channels`.
        resume: As in `goctconv.learn_channels`.

    Returns:
        The slim network, the report of what was removed, and the history with ``mae`` and ``max_f``.

    Raises:
        DataSetError: There are no pairs, or too few for a batch.
        ArgumentError: As in `goctconv.learn_channels`.
        TrainingError: As in `goctconv.learn_channels`.

    Example:
        >>> import pathlib, tempfile
        >>> import goctconv
        >>> from goctconv import saliency
        >>> from goctconv.saliency import synthetic_images
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for part in ("images", "masks"):
        ...     (folder / part).mkdir()
        >>> for index, (photograph, mask) in enumerate(synthetic_images(4, seed=0)):
        ...     photograph.save(folder / "images" / f"{index}.png")
        ...     mask.save(folder / "masks" / f"{index}.png")
        >>> config = saliency.SaliencyConfig(
        ...     epochs=1, finetune_epochs=1, sizes=32, batch_size=2, workers=0, threshold=0.9999
        ... )
        >>> result = saliency.learn(goctconv.create_model("test_csnet"), folder, folder, config)
        >>> sorted(result.history.epochs[-1].validation)
        ['mae', 'max_f']

    Source: Cheng et al., TPAMI 2021, Algorithm 1 and section 4.
    """
    config = SaliencyConfig() if config is None else config
    options = config.loader_options() | ({} if transforms is None else {"transforms": transforms})
    loaders = both_loaders(_found(train), None if validation is None else _found(validation), **options)
    result = learn_channels(
        model,
        loaders.train,
        config=config,
        step=SaliencyStep(config.loss, config.reduction),
        optimizer=optimizer,
        scheduler=scheduler,
        validate=None if loaders.validation is None else SaliencyValidation(loaders.validation),
        callbacks=callbacks,
        example_inputs=example_inputs,
        resume=resume,
    )
    loaders.close()
    warn_of_skipped(loaders.skipped)
    return result


def warn_of_skipped(skipped: dict[str, str]) -> None:
    """Say in the end how many pairs were no use, once in all processes."""
    if skipped and not distributed.rank():
        names = ", ".join(list(skipped)[:_NAMED]) + (", …" if len(skipped) > _NAMED else "")
        warnings.warn(f"pairs that could not be read and were skipped: {len(skipped)} ({names})", SkippedPairWarning, 3)


def _found(pairs: Pairs) -> DataSet | Sequence[ImagePair]:
    return join_pairs(pairs) if isinstance(pairs, str | os.PathLike | DataSet) else pairs
