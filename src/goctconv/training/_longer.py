"""Going on with a run that has ended, with more epochs: from the last checkpoint that both runs have."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from ..options import describe
from ._checkpoint import Saved, is_same_run_so_far
from ._config import TrainingConfig
from ._errors import TrainingError
from ._history import TRAIN, TrainingHistory
from ._network import rewind
from ._optimizers import SchedulerFactory, make_scheduler, set_values, step_schedule, values_of


def epochs_to_keep(history: TrainingHistory, config: TrainingConfig) -> set[int]:
    """Return after how many epochs checkpoints stay: longer runs begin with these.

    They are the end of training, before pruning, and the last epoch at the first learning rate, such as that of the
    first milestone, if less than half of the training comes after it.
    """
    rates = history.series("learning_rate", TRAIN)
    steady = len(list(itertools.takewhile(lambda rate: rate == rates[0], rates)))
    return {config.epochs, steady} if 2 * steady >= config.epochs else {config.epochs}


def shared_checkpoint(
    latest: Saved,
    paths: Sequence[Path],
    described: Mapping[str, str],
    config: TrainingConfig,
    factory: SchedulerFactory,
    optimizer: Optimizer,
) -> Saved:
    """Return the last of some checkpoints of a run, newest first, that a longer run would have come by.

    Up to there, the schedules of both must have given the same learning rates; the optimizer is the one of training.
    """
    ours = _course(factory, optimizer, config, config.epochs, config.finetune_epochs)
    for path in paths:
        saved = latest if path == latest.path else Saved(path)
        if not is_same_run_so_far(saved, described, type(config)):
            continue
        theirs = _course(factory, optimizer, config, saved.epochs("epochs"), saved.epochs("finetune_epochs"))
        if theirs[: saved.begun] == ours[: saved.begun]:
            return saved
    raise TrainingError(
        f"{latest.path} cannot go on as a run of {config.epochs} epochs and {config.finetune_epochs} of fine-tuning: "
        "with more epochs, the schedule has other learning rates in those that are done, or they end after pruning, "
        "and no checkpoint is kept of before. Pass the numbers of epochs that it was made with, or begin anew in "
        "another folder; with {schedule='constant'}, a run can always go on"
    )


def advance(factory: SchedulerFactory, optimizer: Optimizer, epochs: int, count: int) -> list[Any]:
    """Go through so many epochs of a schedule; return the options of the param groups in each."""
    scheduler, found = make_scheduler(factory, optimizer, epochs), []
    for _ in range(count):
        found.append([{name: describe(value) for name, value in group.items()} for group in values_of(optimizer)])
        if scheduler is not None:
            step_schedule(scheduler)
    return found


def _course(
    factory: SchedulerFactory, optimizer: Optimizer, config: TrainingConfig, epochs: int, finetune_epochs: int
) -> list[Any]:
    """Return the options of the param groups in every epoch of both phases; the optimizer stays as it is."""
    before = values_of(optimizer)
    found = advance(factory, optimizer, epochs, epochs)
    rewind(optimizer, config)
    found += advance(factory, optimizer, finetune_epochs, finetune_epochs)
    set_values(optimizer, before)
    return found
