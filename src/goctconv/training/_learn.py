"""learn_channels: the paper's Algorithm 1 for any network with BatchNorm, in one call."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from torch import nn
from torch.optim import Optimizer

from .. import _distributed as distributed
from .._checks import ArgumentError, ArgumentTypeError, check_instance
from ..options import explains_options
from ._batches import Loss, Step, check_loader, pair_step
from ._callbacks import Callback
from ._checkpoint_files import Checkpoints, resumable
from ._config import TrainingConfig
from ._history import TrainingResult
from ._loop import Loop, Validate
from ._network import bare
from ._optimizers import OptimizerFactory, SchedulerFactory


@explains_options(TrainingConfig)
def learn_channels(
    model: nn.Module,
    train_loader: Iterable[Any],
    loss_fn: Loss | None = None,
    config: TrainingConfig | None = None,
    *,
    step: Step | None = None,
    optimizer: OptimizerFactory | Optimizer | None = None,
    scheduler: SchedulerFactory | None = None,
    validate: Validate | None = None,
    callbacks: Iterable[Callback] = (),
    example_inputs: Any = None,
    resume: bool | str | os.PathLike[str] = False,
) -> TrainingResult:
    """Learn which channels a network needs: train with dynamic weight decay, remove what faded, fine-tune.

    The model that is passed is trained; the slim one is another. With ``config.checkpoints``, a run that was killed
    goes on bit for bit as if it had not been. Where torch.distributed is initialised, as by torchrun, all processes
    train together in DistributedDataParallel, each on what its loader gives, and the first one writes.

    All that is random in an epoch, the order of the data too, depends on the seed and the number of the epoch alone: a
    ``set_epoch`` of the loader, its samplers or its data set is called; their generators and the global ones are
    seeded.

    Args:
        model: Any network with BatchNorm, not wrapped.
        train_loader: Gives the batches of an epoch, each time it is iterated over. They are moved to the device.
        loss_fn: A function of outputs and targets, for batches that are pairs ``(inputs, targets)``; inputs are a
            tensor, a tuple of arguments or a dict of keywords of the model.
        config: All options of the run; None: the published ones.
        step: In place of ``loss_fn``, for batches of any other kind: a function of the model and a batch that returns
            the loss, such as ``lambda model, batch: loss(model(batch["image"]), batch["label"])``. A method
            ``set_epoch`` of it is called before every epoch, and what a method ``described`` returns must be the same
            where a run is resumed.
        optimizer: In place of ``config.optimizer``: a function of the model, a class of optimizers or a partial of
            one, or an optimizer of the model's parameters.
        scheduler: In place of ``config.schedule``: a function of an optimizer and the number of epochs of a phase,
            called anew for each; it steps once an epoch.
        validate: A function of the model, in eval mode and without gradients, that returns a number, or several by
            name. It is called after each epoch, in the first process.
        callbacks: Called at the events of the run, such as `ProgressBar`, `CSVLog`, `JSONLog`, `TensorBoard`.
        example_inputs: What the model is called with, as in `goctconv.prune_channels`; if not given, that is looked up
            in a batch.
        resume: True: go on from the last checkpoint in ``config.checkpoints``, or begin if there is none; or the
            folder of a checkpoint. All else must be as it was, the model fresh; but a run that has ended may go on with
            more ``epochs`` or ``finetune_epochs``, and becomes the run that was asked for them at once, bit for bit.
            It goes back to the last checkpoint that both share: before pruning for more ``epochs``, and further back
            where the schedule has other learning rates with more epochs.

    Returns:
        The slim network, the report of what was removed, and the history.

    Raises:
        ArgumentError: Arguments that cannot be; no BatchNorm to learn channels of; an empty loader.
        ArgumentTypeError: Arguments of another kind.
        ThresholdError: There is no valley in γ's histogram.
        TrainingError: The loss is not finite, a checkpoint cannot be written or read, or is of another model or other
            options, or no checkpoint is shared with a longer run; another process writes to the folder of checkpoints,
            or it was deleted. The message names the last good checkpoint.
        PruningError: As in `goctconv.prune_channels`.

    Example:
        >>> import torch
        >>> from goctconv import learn_channels
        >>> from goctconv.training import TrainingConfig
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
        ...     torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 2),
        ... )
        >>> batches = [(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 0, 1])) for _ in range(3)]
        >>> config = TrainingConfig(epochs=2, finetune_epochs=1, threshold=0.9999)
        >>> result = learn_channels(model, batches, torch.nn.CrossEntropyLoss(), config)
        >>> [(epoch.phase, epoch.images) for epoch in result.history.epochs]
        [('train', 12), ('train', 12), ('finetune', 12)]

    Source: Cheng et al., TPAMI 2021, Algorithm 1.
    """
    config = check_instance("config", config or TrainingConfig(), TrainingConfig, "a TrainingConfig")
    model = bare(model)
    check_loader(train_loader)
    if validate is not None:
        _check_function("validate", validate, "a function of the model that returns a number, or several by name")
    checkpoints = None if config.checkpoints is None else Checkpoints(config.checkpoints)
    given = (optimizer, scheduler, validate, _callbacks(callbacks), checkpoints, example_inputs)
    loop = Loop(model, config, train_loader, _step(loss_fn, step), *given)
    paths = _begin_checkpoints(checkpoints, resume)
    try:
        return loop.run(paths)
    finally:
        if checkpoints is not None:
            checkpoints.end()


def _begin_checkpoints(checkpoints: Checkpoints | None, resume: bool | str | os.PathLike[str]) -> list[Path]:
    """Return the checkpoints to go on from, the last one first; the first process makes room for new ones."""
    paths = resumable(checkpoints, resume if isinstance(resume, bool) else Path(resume))
    distributed.barrier()  # all have looked before one writes
    if checkpoints is not None and distributed.rank() == 0:
        checkpoints.begin()
    return paths


def _step(loss_fn: Loss | None, step: Step | None) -> Step:
    if (loss_fn is None) == (step is None):
        problem = f"and step={step!r} are given, expected one of them"
        cure = "pass a loss of outputs and targets, or a function of model and batch that returns the loss"
        raise ArgumentError("loss_fn", loss_fn, problem=problem, cure=cure)
    for name, given in (("loss_fn", loss_fn), ("step", step)):
        if isinstance(given, type):
            raise ArgumentTypeError(name, given, problem="is a class", cure=f"make an object of it: {given.__name__}()")
        if given is not None:
            _check_function(name, given, "a function")
    return pair_step(loss_fn) if loss_fn is not None else cast("Step", step)


def _callbacks(given: object) -> tuple[Callback, ...]:
    if not isinstance(given, Iterable):
        cure = "put it into a list" if isinstance(given, Callback) else ""
        raise ArgumentTypeError("callbacks", given, "a list of callbacks", cure)
    found = tuple(given)
    for index, callback in enumerate(found):
        check_instance(f"callbacks[{index}]", callback, Callback, "a Callback, not a class or a function")
    return found


def _check_function(name: str, given: object, expected: str) -> None:
    if not callable(given):
        raise ArgumentTypeError(name, given, expected)
