"""Algorithm 1 for saliency: learning the channels of a network from photographs with masks."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ... import _distributed as distributed
from ...options import explains_options
from ...training import Callback, TrainingResult, learn_channels
from ..data import SkippedPairWarning, listed
from ..transforms._sample import Transform
from ._config import SaliencyConfig
from ._task import Pairs


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
        resume: As in `goctconv.learn_channels`, also with more epochs.

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
    task = config.learning_task(train, validation, transforms=transforms)
    result = learn_channels(
        model,
        task.loaders.train,
        config=config,
        step=task.step,
        optimizer=optimizer,
        scheduler=scheduler,
        validate=task.validate,
        callbacks=callbacks,
        example_inputs=example_inputs,
        resume=resume,
    )
    task.loaders.close()
    warn_of_skipped(task.loaders.skipped)
    return result


def warn_of_skipped(skipped: dict[str, str]) -> None:
    """Say in the end how many pairs were no use, once in all processes."""
    if skipped and not distributed.rank():
        problem = f"pairs that could not be read and were skipped: {len(skipped)} ({listed(skipped, ', ')})"
        warnings.warn(problem, SkippedPairWarning, 3)
