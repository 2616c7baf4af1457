"""Algorithm 1 for saliency: learning the channels of a network from photographs with masks."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    listed,
)
from ..inference import all_outputs
from ..losses import DeepSupervision, get_loss
from ..losses._basic import Reduction, reduced
from ..losses._combine import Loss, tell_epoch
from ..metrics import SaliencyMetrics
from ..transforms._sample import Transform
from ._config import REDUCTIONS, SaliencyConfig

Pairs: TypeAlias = "str | os.PathLike[str] | DataSet | Sequence[ImagePair]"
"""A folder or a list in a layout of `find_pairs`, or what that found."""


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
        found = loss(outputs, targets) if isinstance(loss, DeepSupervision) else loss(outputs[0], targets)
        return reduced(found, targets, self.reduction)

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, from 0, to a loss that changes from epoch to epoch."""
        tell_epoch(self.loss, epoch)


def maps_of_batches(model: nn.Module, loader: SaliencyLoader) -> Iterator[tuple[Batch, Tensor]]:
    """Yield each batch of a loader, where the model is, with the model's maps of it."""
    parameter = next(model.parameters())
    has_read = False
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
        """Return ``mae`` and ``max_f``; lower and higher are better."""
        metrics = SaliencyMetrics(metrics=("mae", "max_f"))
        for batch, maps in maps_of_batches(model, self.loader):
            metrics.update(maps, batch.masks.float())
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
        >>> for index, (photograph, mask) in enumerate(synthetic_images(4, seed=0)):
        ...     photograph.save(folder / f"{index}.jpg")
        ...     mask.save(folder / f"{index}.png")
        >>> options = {"epochs": 1, "finetune_epochs": 1, "threshold": 0.9999}
        >>> config = saliency.SaliencyConfig(sizes=32, batch_size=2, workers=0, **options)
        >>> result = saliency.learn(goctconv.create_model("test_csnet"), folder, folder, config)
        >>> sorted(result.history.epochs[-1].validation)
        ['mae', 'max_f']

    Source: Cheng et al., TPAMI 2021, Algorithm 1 and section 4.
    """
    config = SaliencyConfig() if config is None else config
    options = config.loader_options() | ({} if transforms is None else {"transforms": transforms})
    loaders = both_loaders(found_pairs(train), None if validation is None else found_pairs(validation), **options)
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
        problem = f"pairs that could not be read and were skipped: {len(skipped)} ({listed(skipped, ', ')})"
        warnings.warn(problem, SkippedPairWarning, 3)


def found_pairs(pairs: Pairs) -> DataSet | Sequence[ImagePair]:
    """Return the pairs of a folder or a list, and others as they are."""
    return join_pairs(pairs) if isinstance(pairs, str | os.PathLike | DataSet) else pairs
