"""Algorithm 1 for saliency: learn the channels of a network on pairs of photographs and masks."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .. import _distributed as distributed
from ..training import TrainingResult, learn_channels
from ._options import check_options
from ._outputs import all_outputs
from ._pairs import DataSet, DataSetError, ImagePair
from ._preprocess import Size
from ._reduction import Reduction, check_reduction, reduced
from .data._batch import Batch
from .data._both import both_loaders
from .data._loader import SaliencyLoader, SkippedPairWarning
from .data._sources import join_pairs
from .losses import DeepSupervision, get_loss
from .losses._combine import tell_epoch
from .metrics import SaliencyMetrics

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

    Raises:
        ValueError: Another loss or reduction.

    Example:
        >>> import torch
        >>> from goctconv.saliency import Batch, SaliencyStep
        >>> batch = Batch(torch.rand(2, 3, 8, 8), torch.ones(2, 1, 8, 8), ("a.jpg", "b.jpg"))
        >>> SaliencyStep("bce + iou")(torch.nn.Conv2d(3, 1, 1), batch).shape
        torch.Size([])
    """

    def __init__(self, loss: SaliencyLoss, reduction: Reduction = "mean") -> None:
        self.loss = get_loss(loss) if isinstance(loss, str) else loss
        self.reduction = check_reduction(reduction)

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

    Example:
        >>> import pathlib, tempfile, torch
        >>> from goctconv.saliency import SaliencyValidation, find_pairs, validation_loader
        >>> from goctconv.saliency._synthetic import synthetic_photographs
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for part in ("images", "masks"):
        ...     (folder / part).mkdir()
        >>> for index, (photograph, mask) in enumerate(synthetic_photographs(2, seed=0)):
        ...     photograph.save(folder / "images" / f"{index}.png")
        ...     mask.save(folder / "masks" / f"{index}.png")
        >>> validate = SaliencyValidation(validation_loader(find_pairs(folder), size=32, batch_size=2, workers=0))
        >>> sorted(validate(torch.nn.Conv2d(3, 1, 1)))
        ['mae', 'max_f']
    """

    def __init__(self, loader: SaliencyLoader) -> None:
        self.loader = loader

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Return ``mae`` and ``max_f``; lower and higher are better.

        Raises:
            DataSetError: No pair can be read.
        """
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


def learn_saliency(
    model: nn.Module,
    train: Pairs,
    validation: Pairs | None = None,
    *,
    epochs: int = 300,
    finetune_epochs: int = 20,
    size: Size = 224,
    sizes: Sequence[Size] | None = None,
    batch_size: int = 24,
    workers: int = 2,
    loss: SaliencyLoss = "bce",
    reduction: Reduction = "mean",
    transforms: Any = None,
    shrink: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    accumulate: int = 1,
    seed: int = 0,
    **options: Any,
) -> TrainingResult:
    """Train a saliency network with dynamic weight decay, remove the channels that faded, and fine-tune.

    The defaults are the published ones: 300 epochs at 224×224 in batches of 24, Adam with lr 1e-4 that is divided by 10
    at two thirds and five sixths, binary cross-entropy, random crops and flips; then 20 epochs of fine-tuning.

    Args:
        model: A network that gives logits (B, 1, H, W) of images (B, 3, H, W), with BatchNorm.
        train: Photographs with masks: a folder or list in a layout of `find_pairs`, or pairs.
        validation: The same, to compare maps with after each epoch.
        epochs: With dynamic weight decay.
        finetune_epochs: Of the slim network.
        size: Of the images of a batch, (height, width) or one number for both, in pixels; or ``"own"``: every
            photograph keeps its own, in batches of one.
        sizes: Several sizes, one drawn for each batch.
        batch_size: Images in a batch.
        workers: Processes that read and change photographs.
        loss: Of logits and masks.
        reduction: Of the loss, over the pixels of an image, as in `SaliencyStep`.
        transforms: Of photographs with their masks; None: the published crop and flips.
        shrink: First shrink larger photographs until their shorter side has this many pixels; about twice ``size``.
        cache: A folder for decoded copies of photographs and masks.
        accumulate: Batches in a step of the optimizer.
        seed: Of all that is random.
        **options: Other arguments of `goctconv.learn_channels`: ``optimizer``, ``weight_decay``, ``threshold``,
            ``scheduler``, ``checkpoints``, ``resume``, ``callbacks``, ``amp``, ``channels_last``, ``compile``,
            ``freeze_batch_norm``, ... `csf_recipe`, `modern_recipe` and `scfnet_recipe` return all that other
            ways to train need.

    Returns:
        The slim network, the report of what was removed, and the history with ``mae`` and ``max_f``.

    Raises:
        DataSetError: There are no pairs, or too few for a batch.
        TypeError: An argument that there is not.
        ValueError: As in `goctconv.learn_channels`.
        TrainingError: As in `goctconv.learn_channels`.

    Example:
        >>> import pathlib, tempfile
        >>> import goctconv
        >>> from goctconv.saliency import learn_saliency
        >>> from goctconv.saliency._synthetic import synthetic_photographs
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for part in ("images", "masks"):
        ...     (folder / part).mkdir()
        >>> for index, (photograph, mask) in enumerate(synthetic_photographs(4, seed=0)):
        ...     photograph.save(folder / "images" / f"{index}.png")
        ...     mask.save(folder / "masks" / f"{index}.png")
        >>> result = learn_saliency(
        ...     goctconv.create_model("test_csnet"), folder, folder, epochs=1, finetune_epochs=1, size=32, batch_size=2,
        ...     workers=0, threshold=0.9999,
        ... )
        >>> sorted(result.history.epochs[-1].validation)
        ['mae', 'max_f']

    Source: Cheng et al., TPAMI 2021, Algorithm 1 and section 4.
    """
    check_options(options, learn_saliency)
    loaders = both_loaders(
        _found(train),
        None if validation is None else _found(validation),
        sizes=[size] if sizes is None else sizes,
        compared_at=size,
        batch_size=batch_size,
        workers=workers,
        seed=seed,
        transforms=transforms,
        shrink=shrink,
        cache=cache,
        accumulate=accumulate,
    )
    result = learn_channels(
        model,
        loaders.train,
        step=SaliencyStep(loss, reduction),
        epochs=epochs,
        finetune_epochs=finetune_epochs,
        validate=None if loaders.validation is None else SaliencyValidation(loaders.validation),
        accumulate=accumulate,
        seed=seed,
        **options,
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
