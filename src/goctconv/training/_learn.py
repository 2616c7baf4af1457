"""learn_channels: the paper's Algorithm 1 for any network with BatchNorm, in one call."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..graph import Selection
from . import _distributed as distributed
from ._batches import Loss, Step, pair_step
from ._callbacks import Callback
from ._checkpoint import Checkpoints, last_checkpoint
from ._loaders import check_loader
from ._loop import Learner, Parts, Validate
from ._network import bare
from ._optimizers import OptimizerFactory, SchedulerFactory, published_optimizer
from ._result import TrainingResult
from ._schedules import published_schedule
from ._settings import Settings
from ._state import Saved


def learn_channels(
    model: nn.Module,
    train_loader: Iterable[Any],
    loss_fn: Loss | None = None,
    *,
    epochs: int,
    finetune_epochs: int,
    step: Step | None = None,
    optimizer: OptimizerFactory | Optimizer = published_optimizer,
    weight_decay: float = 3.0,
    threshold: float | str | None = 1e-20,
    scheduler: SchedulerFactory | None = published_schedule,
    validate: Validate | None = None,
    callbacks: Iterable[Callback] = (),
    include: Any = None,
    criterion: Any = None,
    decay_options: Mapping[str, Any] | None = None,
    pruning_options: Mapping[str, Any] | None = None,
    finetune_optimizer: str = "transferred",
    finetune_factor: float = 1.0,
    example_inputs: Any = None,
    device: torch.device | str | None = None,
    accumulate: int = 1,
    clip_grad: float | None = None,
    amp: str | None = None,
    channels_last: bool = False,
    compile: bool | str = False,  # noqa: A002  # torch's name for it
    freeze_batch_norm: bool | Selection = False,
    seed: int = 0,
    checkpoints: str | os.PathLike[str] | None = None,
    resume: bool | str | os.PathLike[str] = False,
    keep_unpruned: bool = False,
) -> TrainingResult:
    """Learn which channels a network needs: train with dynamic weight decay, remove what faded, fine-tune.

    The model that is passed is trained; the slim one is another. With checkpoints, a run that was killed goes on
    bit for bit as if it had not been. Where torch.distributed is initialised, as by torchrun, all processes train
    together in DistributedDataParallel, each on what its loader gives, and the first one writes.

    All that is random in an epoch, the order of the data too, depends on the seed and the number of the epoch alone: a
    ``set_epoch`` of the loader, its samplers or its data set is called; their generators and the global ones are
    seeded.

    Args:
        model: Any network with BatchNorm, not wrapped.
        train_loader: Gives the batches of an epoch, each time it is iterated over. They are moved to the device.
        loss_fn: A function of outputs and targets, for batches that are pairs ``(inputs, targets)``; inputs are a
            tensor, a tuple of arguments or a dict of keywords of the model.
        epochs: How many to train with dynamic weight decay.
        finetune_epochs: How many to train the slim network, without it; 0: only prune.
        step: In place of ``loss_fn``, for batches of any other kind: a function of the model and a batch that returns
            the loss, such as ``lambda model, batch: loss(model(batch["image"]), batch["label"])``. A method
            ``set_epoch`` of it is called before every epoch, and what a method ``described`` returns must be the same
            where a run is resumed.
        optimizer: A function of the model, a class of optimizers or a partial of one, or an optimizer of the model's
            parameters. The published one is Adam with lr 1e-4, β of 0.9 and 0.99, and weight decay of 5e-3.
        weight_decay: λ of dynamic weight decay. The scales that it decays have no ordinary one, in both phases.
        threshold: Channels with abs(γ) below it are removed. 1e-20 is published, short runs need about 1e-3;
            ``"valley"`` takes what `find_threshold` finds, or fails. None: no channels are removed, and with a
            ``weight_decay`` of 0 the network is trained as it is; it needs no BatchNorm then.
        scheduler: A function of an optimizer and the number of epochs of a phase, called anew for each; it steps once
            an epoch. The published one divides by 10 after 2/3 and 5/6 of the epochs. None: constant.
        validate: A function of the model, in eval mode and without gradients, that returns a number, or several by
            name. It is called after each epoch, in the first process.
        callbacks: Are told what happens, such as `ProgressBar`, `CSVLog`, `JSONLog`, `TensorBoard`.
        include: Layers that decay dynamically, as in `goctconv.DynamicWeightDecay`; None: those that the model's
            ``dynamic_decay_names()`` returns if it has such a method, else all; ``"*"``: all.
        criterion: As in `goctconv.prune_channels`; None: ``"gamma_first"`` for models with
            ``dynamic_decay_names()``, else ``"gamma"``.
        decay_options: Other arguments of `goctconv.DynamicWeightDecay`, such as ``{"cost": "resolution"}``.
        pruning_options: Other arguments of `goctconv.prune_channels`, such as ``{"groups": True}``.
        finetune_optimizer: ``"transferred"``: fine-tuning begins with the optimizer's state, cut like the parameters;
            ``"fresh"``: without any.
        finetune_factor: Fine-tuning begins with this times the learning rates that training began with.
        example_inputs: What the model is called with, as in `goctconv.prune_channels`; if not given, that is looked up
            in a batch.
        device: Where to train; if not given, where the model is.
        accumulate: How many batches go into one step of the optimizer.
        clip_grad: The largest norm of the gradients of the loss.
        amp: Mixed precision: ``"bf16"``, or ``"fp16"`` with scaled gradients.
        channels_last: Whether images and weights lie in memory channel by channel of each pixel.
        compile: Whether to compile the model, or the backend to do it with.
        freeze_batch_norm: Layers whose running statistics, scales and shifts stay as they are: True: those of
            ``model.backbone``; or names or globs of modules. They do not decay, and keep their channels.
        seed: Of all that is random.
        checkpoints: A folder; one is written after each epoch, and after the step that runs when SIGTERM comes, which
            then ends the process with code 143. The last two are kept.
        resume: True: go on from the last checkpoint in that folder, or begin if there is none; or the folder of a
            checkpoint. All else must be as it was, the model fresh.
        keep_unpruned: Whether the result holds the trained weights before pruning.

    Returns:
        The slim network, the report of what was removed, and the history.

    Raises:
        ValueError: Arguments that cannot be; no BatchNorm to learn channels of; an empty loader.
        TypeError: Arguments of another kind.
        ThresholdError: There is no valley in γ's histogram.
        TrainingError: The loss is not finite, a checkpoint cannot be written or read, or is of another model or other
            settings. The message names the last good checkpoint.
        PruningError: As in `goctconv.prune_channels`.

    Example:
        >>> import torch
        >>> from goctconv import learn_channels
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
        ...     torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 2),
        ... )
        >>> batches = [(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 0, 1])) for _ in range(3)]
        >>> loss = torch.nn.CrossEntropyLoss()
        >>> result = learn_channels(model, batches, loss, epochs=2, finetune_epochs=1, threshold=0.9999)
        >>> [(one.phase, one.images) for one in result.history.epochs]
        [('train', 12), ('train', 12), ('finetune', 12)]

    Source: Cheng et al., TPAMI 2021, Algorithm 1.
    """
    settings = Settings(
        epochs=epochs,
        finetune_epochs=finetune_epochs,
        weight_decay=weight_decay,
        threshold=threshold,
        include=include,
        criterion=criterion,
        decay_options=decay_options or {},
        pruning_options=pruning_options or {},
        finetune_optimizer=finetune_optimizer,
        finetune_factor=finetune_factor,
        accumulate=accumulate,
        clip_grad=clip_grad,
        amp=amp,
        channels_last=channels_last,
        compile=compile,
        freeze_batch_norm=freeze_batch_norm,
        seed=seed,
    )
    model = bare(model)
    check_loader(train_loader)
    parts = Parts(
        train_loader,
        _step(loss_fn, step),
        optimizer,
        scheduler,
        _checked_validate(validate),
        tuple(callbacks),
        None if checkpoints is None else Checkpoints(checkpoints),
        example_inputs,
        device,
        keep_unpruned,
    )
    saved = _begin_checkpoints(parts.checkpoints, resume)
    return Learner(model, settings, parts).run(saved)


def _begin_checkpoints(checkpoints: Checkpoints | None, resume: bool | str | os.PathLike[str]) -> Saved | None:
    """Return the checkpoint to go on from; the first process makes room for new ones."""
    path = last_checkpoint(checkpoints, resume if isinstance(resume, bool) else Path(resume))
    distributed.barrier()  # all have looked before one writes
    if checkpoints is not None and distributed.rank() == 0:
        checkpoints.begin()
    return Saved(path) if path else None


def _step(loss_fn: Loss | None, step: Step | None) -> Step:
    if (loss_fn is None) == (step is None):
        raise ValueError(
            f"loss_fn={loss_fn!r}, step={step!r}: give one of them: a loss of outputs and targets, or a function of "
            "model and batch that returns the loss"
        )
    name, given = ("loss_fn", loss_fn) if step is None else ("step", step)
    if not callable(given):
        raise TypeError(f"{name}={given!r} must be a function")
    if isinstance(given, type):
        raise TypeError(f"{name} is the class {given.__name__}: make one, {given.__name__}()")
    return step if step is not None else pair_step(given)


def _checked_validate(validate: Validate | None) -> Validate | None:
    if validate is not None and not callable(validate):
        raise TypeError(
            f"validate={validate!r} must be a function of the model that returns a number, or several by name"
        )
    return validate
