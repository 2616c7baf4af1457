"""The state of a run in a checkpoint: everything that the rest of it depends on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .. import _distributed as distributed
from .._checks import escaped
from ..graph import random_states
from ..options import FREE, UNTIL_PRUNED, Configuration, options_of
from ..pruning import PruningPlan
from ._checkpoint_files import Checkpoints, decode, encode, named, named_as_damaged, read, stored
from ._epoch import Totals, Training
from ._errors import TrainingError
from ._history import TRAIN, TrainingHistory
from ._optimizers import parameter_names, set_values, values_of
from ._threshold import Threshold

_SHOWN = 3  # differing tensors that an error names
PHASES = ("epochs", "finetune_epochs")  # the options that say how long the phases are


@dataclass
class Progress:
    """How far a run has come."""

    done: int = 0  # complete epochs of both phases
    totals: Totals = field(default_factory=Totals)  # of the epoch that runs
    history: TrainingHistory = field(default_factory=TrainingHistory)
    plan: PruningPlan | None = None  # what was pruned, if it was
    threshold: float | None = None
    valley: Threshold | None = None
    unpruned: dict[str, Tensor] | None = None

    @property
    def name(self) -> str:
        """The name of its checkpoint, by which a pruned network does not replace the trained one."""
        is_just_pruned = self.plan is not None and self.history.epochs[-1].phase == TRAIN
        return named(self.done, self.totals.steps if self.totals.steps or is_just_pruned else None)


def shapes_of(model: nn.Module) -> dict[str, str]:
    """Return what tells a model from others: its class, and the shapes and types of its tensors."""
    found = {name: f"{tuple(tensor.shape)} {tensor.dtype}" for name, tensor in model.state_dict().items()}
    return {"class": type(model).__name__, **found}


def check_same_model(saved: Mapping[str, str], ours: Mapping[str, str], path: Path) -> None:
    """Check that a checkpoint is of the same network."""
    if different := _differences(saved, ours):
        more = f", and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
        cure = "Pass a fresh model of the same kind as the one it was made with (not the pruned one)"
        raise TrainingError(f"{path} is of another model: {'; '.join(different[:_SHOWN])}{more}. {cure}")


def check_same_run(saved: Saved, ours: Mapping[str, str], config: type[Configuration]) -> bool:
    """Check that a checkpoint was made with the options of this run; return whether it goes on with more epochs.

    What comes later may still change; the number of epochs of a phase that has ended may grow.
    """
    longer = {name for name in saved.ended if int(ours[name]) > saved.epochs(name)}
    is_pruned = saved.is_pruned and "epochs" not in longer
    if _other_options(saved, ours, config, longer, is_pruned=is_pruned):
        different = _other_options(saved, ours, config, is_pruned=is_pruned)
        problem = escaped(f"{saved.path} was made with other options: {'; '.join(different)}")
        cure = "Pass those it was made with, or begin anew in another folder"
        if any(int(ours[name]) < saved.epochs(name) for name in saved.ended):
            cure = f"What has ended can go on with more epochs, not with fewer. {cure}"
        raise TrainingError(f"{problem}. {cure}", can_resume=True)
    return bool(longer)


def is_same_run_so_far(saved: Saved, ours: Mapping[str, str], config: type[Configuration]) -> bool:
    """Return whether a run with other numbers of epochs can have come by a checkpoint, as far as its options tell."""
    is_in_phase = saved.state["done"] <= int(ours["epochs"])
    is_cut_there = saved.epochs("epochs") == int(ours["epochs"])
    different = _other_options(saved, ours, config, PHASES, is_pruned=saved.is_pruned)
    return not different and (is_cut_there if saved.is_pruned else is_in_phase)


def _other_options(
    saved: Saved,
    ours: Mapping[str, str],
    config: type[Configuration],
    allowed: Collection[str] = (),
    *,
    is_pruned: bool,
) -> list[str]:
    """Return which options differ that may not, before or after pruning."""
    theirs: Mapping[str, str] = saved.state["config"]
    may_change = {FREE} if is_pruned else {FREE, UNTIL_PRUNED}
    ignored = {name for name, option in options_of(config).items() if option.resume in may_change}
    if "None" in {theirs.get("threshold"), ours.get("threshold")}:
        ignored.discard("threshold")  # whether channels go at all decides what is trained
    # The command line has options of its own; a step that tells what it depends on is not replaced by another.
    known = {name: value for name, value in theirs.items() if name in ours or name == "step"}
    return _differences(known, ours, {*ignored, *allowed})


def _differences(theirs: Mapping[str, str], ours: Mapping[str, str], ignored: Collection[str] = ()) -> list[str]:
    return [
        f"{name}={theirs.get(name, 'not set')} there, {ours.get(name, 'not set')} here"
        for name in dict.fromkeys([*theirs, *ours])
        if name not in ignored and theirs.get(name) != ours.get(name)
    ]


def save(
    checkpoints: Checkpoints, training: Training, progress: Progress, about: Mapping[str, object], keep: Collection[int]
) -> Path:
    """Write a checkpoint, by the first process, with what tells the run from others; all processes call this."""
    random = distributed.gathered(random_states())
    problem: TrainingError | None = None
    path = checkpoints.folder
    if distributed.rank() == 0:
        tensors: dict[str, Tensor] = {}
        state = {**about, **_encoded(training, progress, random, tensors)}
        try:
            path = checkpoints.write(progress.name, state, tensors, keep)
        except TrainingError as error:
            problem = error
    if distributed.summed([problem is not None], training.network.device)[0]:
        message = "the first process could not write a checkpoint; its message says why"
        raise problem or TrainingError(message, can_resume=True)
    return path


def _encoded(
    training: Training, progress: Progress, random: list[dict[str, Any]], tensors: dict[str, Tensor]
) -> dict[str, Any]:
    model, optimizer, scheduler = training.network.model, training.optimizer, training.scheduler
    tensors |= {f"model.{name}": stored(tensor) for name, tensor in model.state_dict().items()}
    tensors |= {f"unpruned.{name}": tensor for name, tensor in (progress.unpruned or {}).items()}
    return {
        "done": progress.done,
        "totals": vars(progress.totals),
        "optimizer": encode(optimizer.state_dict(), tensors, "optimizer"),
        "parameters": parameter_names(optimizer, model),
        "scheduler": encode(scheduler.state_dict() if scheduler else None, tensors, "scheduler"),
        "scaler": encode(training.scaler.state_dict(), tensors, "scaler"),
        "random": encode(random, tensors, "random"),
        "plan": progress.plan.to_dict() if progress.plan else None,
        "threshold": progress.threshold,
        "valley": vars(progress.valley) if progress.valley else None,
        "history": progress.history.to_dict(),
    }


class Saved:
    """A checkpoint that was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state, self.tensors = read(path)
        with named_as_damaged(path):
            self._check()

    def _check(self) -> None:
        """Refuse what a run cannot have written, before anything depends on it."""
        state, progress = self.state, self.progress()
        totals, epochs = progress.totals, len(progress.history.epochs)
        counts = (state["done"], totals.steps, totals.images)
        if any(type(count) is not int or count < 0 for count in counts) or state["done"] != epochs:
            raise ValueError(f"{state['done']} epochs, {totals.steps} steps and {totals.images} images are done")
        numbers = (totals.loss, totals.seconds, 0.0 if progress.threshold is None else progress.threshold)
        if not all(isinstance(number, int | float) for number in numbers):
            raise TypeError(f"{numbers} are no numbers")
        texts = [name for kind in ("config", "shapes") for pair in state[kind].items() for name in pair]
        names = [name for group in state["parameters"] for name in group]
        if not all(isinstance(text, str) for text in texts + names):
            raise TypeError("options, shapes or names of parameters are no text")
        if self.is_pruned and epochs < self.epochs("epochs"):
            raise ValueError(f"it is pruned after {epochs} epochs")
        for kind in ("optimizer", "scheduler", "scaler", "random"):
            decode(state[kind], self.tensors)

    @property
    def is_pruned(self) -> bool:
        """Whether it is of the second phase."""
        return self.state["plan"] is not None

    @property
    def begun(self) -> int:
        """The epochs that are done, and the one that runs."""
        steps: int = self.state["totals"]["steps"]
        return int(self.state["done"]) + (steps > 0)

    def epochs(self, name: str) -> int:
        """Return how many epochs an option asked for, ``"epochs"`` or ``"finetune_epochs"``."""
        return int(self.state["config"][name])

    @property
    def ended(self) -> tuple[str, ...]:
        """The options of those phases that have ended."""
        done: int = self.state["done"]
        if done < self.epochs("epochs"):
            return ()
        return PHASES if self.is_pruned and done >= sum(map(self.epochs, PHASES)) else PHASES[:1]

    def progress(self) -> Progress:
        """Return how far the run had come."""
        state = self.state
        totals, history = Totals(**state["totals"]), TrainingHistory.from_dict(state["history"])
        plan = PruningPlan.from_dict(state["plan"]) if self.is_pruned else None
        valley = Threshold(**state["valley"]) if state["valley"] else None
        unpruned = self._under("unpruned.") or None
        return Progress(state["done"], totals, history, plan, state["threshold"], valley, unpruned)

    def random(self) -> dict[str, Any]:
        """Return the states of the random generators of this process."""
        states: list[dict[str, Any]] = decode(self.state["random"], self.tensors)
        return states[distributed.rank()]

    def load(self, training: Training, *, schedule: bool = True) -> None:
        """Load the states of model, scheduler, scaler and optimizer, in this order: schedulers set learning rates.

        Without ``schedule``, the scheduler and the options of the param groups stay as they are.
        """
        with named_as_damaged(self.path):
            self._load(training, schedule=schedule)

    def _load(self, training: Training, *, schedule: bool) -> None:
        own = values_of(training.optimizer)
        training.network.model.load_state_dict(self._under("model."))
        if training.scheduler is not None and schedule:
            training.scheduler.load_state_dict(self._like("scheduler", training.scheduler.state_dict()))
        training.scaler.load_state_dict(self._like("scaler", training.scaler.state_dict()))
        training.optimizer.load_state_dict(self._like("optimizer", training.optimizer.state_dict()))
        if not schedule:
            set_values(training.optimizer, own)

    def _like(self, name: str, own: Any) -> Any:
        """Return what was saved of an object, which must have the types of what it has now."""
        found = decode(self.state[name], self.tensors)
        _complete(found, own, name)
        return found

    def _under(self, prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}


def _complete(found: Any, own: Any, place: str) -> None:
    """Check that data have the types of others, numbers for numbers; add what lacks in dicts of older versions.

    None and tensors stand for what may come with the first step.
    """
    if own is None or isinstance(own, Tensor):
        return
    numbers = {int, float}
    if type(found) not in (numbers if type(own) in numbers else {type(own)}):
        raise TypeError(f"{place} is {found!r:.50}, not a {type(own).__name__}")
    if isinstance(own, dict):
        for name, value in own.items():
            _complete(found.setdefault(name, value), value, f"{place}.{name}")
    elif isinstance(own, list | tuple):
        for index, (part, other) in enumerate(zip(found, own, strict=False)):
            _complete(part, other, f"{place}.{index}")
