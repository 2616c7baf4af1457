"""Algorithm 1 for saliency: learn the channels of a network on pairs of photographs and masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..learning import LearningResult, learn_channels
from ._data._batch import Batch
from ._data._loader import SaliencyLoader
from ._data._make_loaders import training_loader, validation_loader
from ._data._sources import join_pairs
from ._outputs import all_outputs
from ._pairs import DataSet, ImagePair
from .losses import DeepSupervision, get_loss
from .losses._combine import tell_epoch
from .metrics import SaliencyMetrics

Pairs: TypeAlias = "str | os.PathLike[str] | DataSet | Sequence[ImagePair]"
"""A folder or a list in a layout of `find_pairs`, or what that found."""

SaliencyLoss: TypeAlias = "str | Callable[[Tensor, Tensor], Tensor]"
"""A name of `goctconv.saliency.losses.get_loss`, or a function of logits and masks, both (B, 1, H, W)."""


class SaliencyStep:
    """The loss of a batch; of a network with a ``forward_multi``, of all its outputs, with the weights 1, ½, ¼, ⅛.

    Args:
        loss: A name of `goctconv.saliency.losses.get_loss`, or a function of logits and masks.

    Example:
        >>> import torch
        >>> from goctconv.saliency import Batch, SaliencyStep
        >>> batch = Batch(torch.rand(2, 3, 8, 8), torch.ones(2, 1, 8, 8), ("a.jpg", "b.jpg"))
        >>> SaliencyStep("bce + iou")(torch.nn.Conv2d(3, 1, 1), batch).shape
        torch.Size([])
    """

    def __init__(self, loss: SaliencyLoss) -> None:
        self.loss = get_loss(loss) if isinstance(loss, str) else loss

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of a model for a batch."""
        outputs = all_outputs(model, batch.images)
        if isinstance(self.loss, DeepSupervision):
            return self.loss(outputs, batch.masks)
        return self.loss(outputs[0], batch.masks) if len(outputs) == 1 else self._deep(outputs, batch.masks)

    def _deep(self, outputs: Sequence[Tensor], masks: Tensor) -> Tensor:
        return DeepSupervision(self.loss)(outputs, masks)

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
        """Return ``mae`` and ``max_f``; lower and higher are better."""
        metrics = SaliencyMetrics(metrics=("mae", "max_f"))
        parameter = next(model.parameters())
        for batch in self.loader:
            maps = model(batch.images.to(parameter.device, parameter.dtype)).float().sigmoid()
            metrics.update(maps, batch.masks.to(maps.device).float())
        return metrics.compute().scores()


def learn_saliency(
    model: nn.Module,
    train: Pairs,
    validation: Pairs | None = None,
    *,
    epochs: int = 300,
    finetune_epochs: int = 20,
    size: int | tuple[int, int] = 224,
    sizes: Sequence[int | tuple[int, int]] | None = None,
    batch_size: int = 24,
    workers: int = 2,
    loss: SaliencyLoss = "bce",
    transforms: Any = None,
    shrink: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    accumulate: int = 1,
    seed: int = 0,
    **options: Any,
) -> LearningResult:
    """Train a saliency network with dynamic weight decay, remove the channels that faded, and fine-tune.

    The defaults are the published ones: 300 epochs at 224×224 in batches of 24, Adam with lr 1e-4 that is divided by 10
    at two thirds and five sixths, binary cross-entropy, random crops and flips; then 20 epochs of fine-tuning.

    Args:
        model: A network that gives logits (B, 1, H, W) of images (B, 3, H, W), with BatchNorm.
        train: Photographs with masks: a folder or list in a layout of `find_pairs`, or pairs.
        validation: The same, to compare maps with after each epoch.
        epochs: With dynamic weight decay.
        finetune_epochs: Of the slim network.
        size: Of the images of a batch, (height, width) or one number for both, in pixels.
        sizes: Several sizes, one drawn for each batch.
        batch_size: Images in a batch.
        workers: Processes that read and change photographs.
        loss: Of logits and masks.
        transforms: Of photographs with their masks; None: the published crop and flips.
        shrink: First shrink larger photographs until their shorter side has this many pixels; about twice ``size``.
        cache: A folder for decoded copies of photographs and masks.
        accumulate: Batches in a step of the optimizer.
        seed: Of all that is random.
        **options: Other arguments of `goctconv.learn_channels`: ``optimizer``, ``weight_decay``, ``threshold``,
            ``scheduler``, ``checkpoints``, ``resume``, ``callbacks``, ``amp``, ``channels_last``, ``compile``, ...

    Returns:
        The slim network, the report of what was removed, and the history with ``mae`` and ``max_f``.

    Raises:
        DataSetError: There are no pairs, or too few for a batch.
        ValueError: As in `goctconv.learn_channels`.
        LearningError: As in `goctconv.learn_channels`.

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
    loader = training_loader(
        _found(train),
        size=size,
        sizes=sizes,
        batch_size=batch_size,
        workers=workers,
        seed=seed,
        transforms=transforms,
        shrink=shrink,
        cache=cache,
        accumulate=accumulate,
    )
    validate = None
    if validation is not None:
        validate = SaliencyValidation(
            validation_loader(
                _found(validation),
                size=size,
                batch_size=batch_size,
                workers=workers,
                shrink=shrink,
                cache=cache,
                rank=0,
                world_size=1,
            )
        )
    return learn_channels(
        model,
        loader,
        step=SaliencyStep(loss),
        epochs=epochs,
        finetune_epochs=finetune_epochs,
        validate=validate,
        accumulate=accumulate,
        seed=seed,
        **options,
    )


def _found(pairs: Pairs) -> DataSet | Sequence[ImagePair]:
    return join_pairs(pairs) if isinstance(pairs, str | os.PathLike | DataSet) else pairs
