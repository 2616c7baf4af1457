"""The loop of a run: training, pruning, fine-tuning, with checkpoints between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer

from .. import _distributed as distributed
from .._checks import escaped
from .._torch import mark_stepped
from ..graph import evaluating, set_random_states, undisturbed
from ..optim import DynamicWeightDecay
from ..options import describe
from ..pruning import PruningPlan
from ._batches import Step, length, moved
from ._callbacks import Callback, TrainingRun
from ._checkpoint import Progress, Saved, check_same_model, check_same_run, save, shapes_of
from ._checkpoint_files import Checkpoints, named_as_damaged, stored
from ._config import TrainingConfig
from ._epoch import Totals, Training, begin_epoch, example_of_epoch, noting_sigterm
from ._errors import ThresholdError, TrainingError
from ._history import FINETUNE, TRAIN, EpochRecord, StepRecord, TrainingResult
from ._longer import advance, epochs_to_keep, shared_checkpoint
from ._network import (
    Network,
    decayed,
    for_finetuning,
    frozen_layers,
    network,
    placed,
    pruned,
    released,
    set_trained,
    threshold_for_target,
    untrained,
)
from ._optimizers import OptimizerFactory, SchedulerFactory, make_optimizer, make_scheduler, rebind, step_schedule
from ._reach import warn_unreachable
from ._threshold import find_threshold, gammas, histogram, joined, quantiles

_TERMINATED = 128 + 15  # what a shell says of a process that SIGTERM ended

Validate: TypeAlias = "Callable[[nn.Module], float | Mapping[str, float]]"
"""A function of the model, in eval mode, that returns a number or several by name."""


@dataclass
class Loop:
    """A run of one network; `run` does all of it, and `goctconv.learn_channels` documents its parts."""

    model: nn.Module
    config: TrainingConfig
    loader: Any
    step: Step
    optimizer: OptimizerFactory | Optimizer | None
    scheduler: SchedulerFactory | None
    validate: Validate | None
    callbacks: Sequence[Callback]
    checkpoints: Checkpoints | None
    example_inputs: Any

    def __post_init__(self) -> None:
        self.device = placed(self.model, self.config)
        self.frozen = frozen_layers(self.model, self.config.freeze_batch_norm)
        self.shapes = shapes_of(self.model)
        self.progress = Progress()
        self.run_state = TrainingRun(self.model, self.config.total, history=self.progress.history)
        self.layers: set[str] = set()
        self._begun: dict[str, Any] | None = None  # random states in the middle of an epoch
        self._decay: DynamicWeightDecay | None = None

    def run(self, paths: Sequence[Path] = ()) -> TrainingResult:
        """Train, prune and fine-tune, or what is left of it after a checkpoint; the paths are of the last ones."""
        with undisturbed(), untrained(self.model, self.frozen) as held, noting_sigterm() as self.asked_to_stop:
            try:
                self._begin(paths)
                self._tell("on_start")
                self._train()
            finally:
                if self._decay is not None:
                    self._decay.remove()
                self._tell("on_end")
        set_trained(self.training.network.model, held, trained=True)
        distributed.barrier()
        return self._result()

    def _train(self) -> None:
        if self.progress.plan is None:
            self._run_epochs(TRAIN, self.config.epochs)
            if self.config.threshold is None:
                distributed.share_state(self.model)
                self.progress.plan = PruningPlan.empty(self.model)
                return
            self._prune(self.config.threshold)
        self._run_epochs(FINETUNE, self.config.total)

    def _result(self) -> TrainingResult:
        progress = self.progress
        if progress.plan is None:
            raise TrainingError("the run ended before pruning")  # it cannot, but for a fault of ours
        found = (progress.plan.report, progress.plan, progress.history, progress.threshold, progress.valley)
        return TrainingResult(self.training.network.model.eval(), *found, progress.unpruned, self.config)

    def _begin(self, paths: Sequence[Path]) -> None:
        """Set up the phase that comes first: training, or fine-tuning after a checkpoint of it."""
        given = self.optimizer
        inner = make_optimizer(self.config.make_optimizer if given is None else given, self.model)
        self.described = {
            **self.config.described(),
            "optimizer": f"{type(inner).__name__} {describe(inner.defaults)}{_rates(inner)}",
            "scheduler": describe(self.scheduler),
            "processes": str(distributed.world_size()),
            "batches": str(length(self.loader)),
        }
        if callable(describe_step := getattr(self.step, "described", None)):
            self.described["step"] = describe_step()
        saved, is_longer = Saved(paths[0]) if paths else None, False
        if saved is not None:
            check_same_model(saved.state["shapes"], self.shapes, saved.path)
            is_longer = check_same_run(saved, self.described, type(self.config))
        net = self._trained(inner) if saved is None or not saved.is_pruned or is_longer else None
        if saved is not None and is_longer:
            found = (self.config, self._schedule, self._decay or inner)
            saved = shared_checkpoint(saved, paths, self.described, *found)
        if saved is not None and (net is None or saved.is_pruned):
            self._begin_finetuning(saved, inner, is_longer=is_longer)
        else:
            if saved is None and self._decay is not None and distributed.rank() == 0:
                warn_unreachable(self._decay, self._schedule, self.config, self._steps())
            self._set_training(net, self._decay or inner, self.config.epochs)
        if saved is not None:
            self._load(saved, is_longer=is_longer)

    @property
    def _schedule(self) -> SchedulerFactory:
        return self.scheduler or self.config.make_scheduler

    def _trained(self, optimizer: Optimizer) -> Network:
        """Return the network of the first phase; its optimizer decays γ."""
        net = network(self.model, self.device, self.config, self.frozen)
        if not self.config.is_plain:
            self._decay = self._decayed(optimizer, net.runner)
        return net

    def _decayed(self, optimizer: Optimizer, runner: nn.Module) -> DynamicWeightDecay:
        decay = decayed(optimizer, self.model, runner, self.config, self.frozen)
        self.layers = {name for group in decay.param_groups for name in group.get("dynamic_layers", ())}
        return decay

    def _begin_finetuning(self, saved: Saved, inner: Optimizer, *, is_longer: bool) -> None:
        decay = self._decay or self._decayed(inner, self.model)
        if is_longer:  # a schedule may leave more behind than learning rates
            advance(self._schedule, decay, self.config.epochs, self.config.epochs)
        released(decay, self.config)
        with named_as_damaged(saved.path):
            slim = PruningPlan.from_dict(saved.state["plan"]).apply(self.model)
            placed(slim, self.config, self.device)
            rebind(inner, slim, saved.state["parameters"])
        net = network(slim, self.device, self.config, self.frozen)
        self._set_training(net, inner, self.config.finetune_epochs)

    def _load(self, saved: Saved, *, is_longer: bool) -> None:
        if is_longer:
            for _ in range(saved.state["done"] - (self.config.epochs if saved.is_pruned else 0)):
                if self.training.scheduler is not None:
                    step_schedule(self.training.scheduler)
        saved.load(self.training, schedule=not is_longer)
        self.progress = saved.progress()
        self.run_state.history = self.progress.history
        self.run_state.checkpoint, self.run_state.is_resumed = saved.path, True
        if self.progress.totals.steps:
            with named_as_damaged(saved.path):
                self._begun = saved.random()
            # Of a checkpoint after the last step of an epoch the schedule comes next, which warns where none was taken.
            mark_stepped(self.training.optimizer)

    def _set_training(self, net: Any, optimizer: Optimizer, epochs: int) -> None:
        scheduler = make_scheduler(self._schedule, optimizer, epochs)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.config.amp == "fp16")
        self.training = Training(net, optimizer, scheduler, scaler, self.step, self.config, self.asked_to_stop)
        self.run_state.model = net.model

    def _run_epochs(self, phase: str, last: int) -> None:
        self.run_state.phase = phase
        self.run_state.steps = self._steps()
        while self.progress.done < last:
            self._run_epoch(phase)

    def _steps(self) -> int | None:
        """Return the steps of an epoch, where the loader tells."""
        batches = length(self.loader)
        return None if batches is None else -(-batches // self.config.accumulate)

    def _run_epoch(self, phase: str) -> None:
        run, progress, totals = self.run_state, self.progress, self.progress.totals
        run.epoch = progress.done + 1
        begin_epoch(self.loader, self.config.seed, progress.done, distributed.rank())
        if callable(set_epoch := getattr(self.step, "set_epoch", None)):
            set_epoch(progress.done)
        self._tell("on_epoch_start")
        rate = float(self.training.optimizer.param_groups[0]["lr"])
        with self._named_checkpoint():
            place = self._place()
            for loss, is_last in self.training.steps(self.loader, totals, place, self._go_on):
                record = StepRecord(phase, run.epoch, totals.steps, loss, rate)
                progress.history.steps.append(record)
                self._tell("on_step_end", record)
                every = self.config.checkpoint_steps
                if is_last or (every is not None and totals.steps % every == 0):
                    self._save()
                if is_last:
                    raise SystemExit(_TERMINATED)
            if not totals.steps:
                raise TrainingError(f"{place}: train_loader gave no batch")
            self._check_finite()
        self._end_epoch(phase, rate)

    def _end_epoch(self, phase: str, rate: float) -> None:
        progress, totals = self.progress, self.progress.totals
        if self.training.scheduler is not None:
            step_schedule(self.training.scheduler)
        found, limit = joined(gammas(self.training.network.model, self.layers)), self.config.counted_below
        trained = (totals.loss / max(totals.images, 1), rate, totals.images, totals.seconds)
        below = int((found < limit).sum())
        spread: tuple[Any, ...] = (below, limit, len(found), quantiles(found), histogram(found), self._validated())
        record = EpochRecord(phase, progress.done + 1, *trained, *spread)
        progress.history.epochs.append(record)
        progress.done += 1
        progress.totals = Totals()
        self._tell("on_epoch_end", record)
        self._save()

    def _check_finite(self) -> None:
        """Refuse weights that are not finite, before a checkpoint: gradients may be infinite where the loss is not."""
        named = self.training.network.model.named_parameters()
        bad = next((name for name, parameter in named if not parameter.isfinite().all()), None)
        if distributed.summed([bad is not None], self.device)[0]:
            problem = f"{bad or 'a parameter'} is not finite, though the loss was"
            raise TrainingError(f"{self._place()}: {problem}", diverged=True)

    def _place(self) -> str:
        return f"phase {self.run_state.phase}, epoch {self.run_state.epoch} of {self.config.total}"

    def _validated(self) -> dict[str, float]:
        """Return what the user measures, in the first process."""
        if self.validate is None or distributed.rank():
            return {}
        with undisturbed(), evaluating(self.training.network.model), torch.no_grad():
            found = self.validate(self.training.network.model)
        numbers = found if isinstance(found, Mapping) else {"validation": found}
        try:
            return {str(name): float(value) for name, value in numbers.items()}
        except (TypeError, ValueError) as error:
            raise TypeError(f"validate returned {found!r}, expected a number or numbers by name") from error

    def _prune(self, wanted: float | str) -> None:
        """Cut the network and its optimizer, and begin to fine-tune."""
        model, config, progress = self.model, self.config, self.progress
        distributed.share_state(model)
        example, valley = self._example(), None
        if config.target is not None:
            with self._kept_for_another_threshold():
                threshold = threshold_for_target(model, example, config, self.frozen, self.layers)
        elif isinstance(wanted, str):
            with self._kept_for_another_threshold():
                valley = find_threshold(model, layers=self.layers)
            threshold = valley.value
        else:
            threshold = float(wanted)
        result = pruned(model, example, threshold, config, self.frozen)
        if config.keep_unpruned:
            progress.unpruned = {name: stored(tensor) for name, tensor in model.state_dict().items()}
        progress.plan, progress.threshold, progress.valley = result.plan, threshold, valley
        placed(result.model, config, self.device)
        if self._decay is None:
            raise TrainingError("nothing was trained in this run")  # it was, but for a fault of ours
        optimizer = for_finetuning(self._decay, result, config)
        self._decay.remove()
        scale = self.training.scaler.state_dict()
        self._set_training(network(result.model, self.device, config, self.frozen), optimizer, config.finetune_epochs)
        self.training.scaler.load_state_dict(scale)  # else steps would be skipped until it is found again
        self._tell("on_pruned", result.plan)
        if not config.finetune_epochs:
            self._save()

    @contextmanager
    def _kept_for_another_threshold(self) -> Iterator[None]:
        """Say where training has led, where it leaves no threshold."""
        try:
            yield
        except ThresholdError as error:
            error.checkpoint = kept = self.run_state.checkpoint
            error.cure = "the model that you passed is trained; prune it with goctconv.prune_channels"
            if kept is not None:
                error.cure = f"go on from {escaped(kept)} with {{resume=True}} and a number as {{threshold}}"
            raise

    def _example(self) -> Any:
        """Return what the model is called with, the same in all processes."""
        if self.example_inputs is not None:
            return moved(self.example_inputs, self.device, channels_last=False)
        return example_of_epoch(self.model, self.step, self.loader, self.config, self.progress.done)

    def _save(self) -> None:
        if self.checkpoints is not None:
            about = {"config": self.described, "shapes": self.shapes}
            keep = epochs_to_keep(self.progress.history, self.config)
            self.run_state.checkpoint = save(self.checkpoints, self.training, self.progress, about, keep)

    def _go_on(self) -> None:
        """Take over the random states that an interrupted epoch had, once its steps are skipped."""
        if self._begun is not None:
            with named_as_damaged(self.run_state.checkpoint or Path()):
                set_random_states(self._begun)
            self._begun = None

    @contextmanager
    def _named_checkpoint(self) -> Iterator[None]:
        """Add the last good checkpoint to training errors."""
        try:
            yield
        except TrainingError as error:
            error.checkpoint = kept = self.run_state.checkpoint
            good = f"the last good checkpoint is {escaped(kept)}"
            error.cure = good if kept else "there is no checkpoint to go on from"
            raise

    def _tell(self, event: str, *about: Any) -> None:
        if distributed.rank() == 0:
            for callback in self.callbacks:
                getattr(callback, event)(self.run_state, *about)


def _rates(optimizer: Optimizer) -> str:
    """Return the learning rates of the param groups, where they differ."""
    rates = [float(group["lr"]) for group in optimizer.param_groups if "lr" in group]
    return f" lr of groups {describe(rates)}" if len(set(rates)) > 1 else ""
