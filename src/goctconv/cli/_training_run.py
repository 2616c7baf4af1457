"""A run of ``goctconv learn`` or ``goctconv distill``, from its options to its results."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import timm
import torch
from torch import nn

from .._checks import ArgumentError, Spelling
from .._files import FolderLock
from .._torch import worker_was_killed
from ..models import count_macs
from ..pruning import PruningError
from ..saliency import DataSetError
from ..training import ThresholdError, TrainingError, TrainingResult, learn_channels
from ._arguments import parse_model_args
from ._command import CommandError, spelling
from ._model import SAVED, create_model
from ._output import holding, notes, plural, say, shorten, tell
from ._processes import connected, process_count, process_rank, together
from ._training_folder import (
    as_table,
    callbacks_of,
    check_folder,
    check_pairs,
    check_presence,
    summarize,
    write_results,
)
from ._training_options import CHECKPOINTS, RunKind, make_config
from ._training_page import write_report

if TYPE_CHECKING:
    from ..saliency.learning import Task
    from ._training_page import Target

_TERMINATED = 128 + signal.SIGTERM
_SIDE = 224  # where neither option nor network has a size
_AFTER_NAN = "to go on would come to the same: lower --lr, leave --amp out, or look at these files, and begin anew"


Prepare: TypeAlias = "Callable[[Any, torch.device], tuple[Task, Target]]"
"""Returns what a network is trained on, by options and device, and what its maps are shown beside."""


def run_training(args: argparse.Namespace, kind: RunKind, prepare: Prepare) -> int:
    """Learn the channels of a network and return the exit status."""
    try:
        with _interruptible():
            _Run(args, kind, make_config(args, kind)).run(prepare)
    except CommandError:
        if process_rank():
            return 2  # the first process says it
        raise
    return 0


class _Run:
    def __init__(self, args: argparse.Namespace, kind: RunKind, config: Any) -> None:
        self.args, self.kind, self.config = args, kind, config
        self.spelling: Spelling = spelling(args)

    def run(self, prepare: Prepare) -> None:
        with contextlib.nullcontext() if process_rank() else holding(self.config.output) as lock:
            self._run(prepare, lock)

    def _run(self, prepare: Prepare, lock: FolderLock | None) -> None:
        config = self.config
        check_folder(config.output, resume=self.args.resume)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        with (
            connected(config.device or "auto") as device,
            notes(self.spelling, quiet=config.quiet or process_rank() > 0),
        ):
            with together(), self._in_options():
                torch.manual_seed(config.seed)
                model = make_network(config)  # before a teacher makes maps of all photographs
                macs = _macs(model, config)
                task, target = prepare(config, device)
                callbacks = callbacks_of(config, task.loaders.names(), task.validate, lock)
                if self.args.resume:
                    check_pairs(config.output, task.loaders.names())
            with self._resumable():
                result = learn_channels(
                    model.to(device),
                    task.loaders.train,
                    config=config,
                    step=task.step,
                    validate=task.validate,
                    callbacks=callbacks,
                    resume=True,
                )
            skipped = task.loaders.skipped  # all processes ask at once
            with together():
                if process_rank() == 0:
                    both = (macs, _macs(result.model, config))
                    summary = summarize(config, result, pairs=task.loaders.names(), macs=both, skipped=skipped)
                    with self._resumable():
                        check_presence(lock)
                    write_results(config, result, summary)
                    if result.threshold is not None:
                        write_report(config, result, _before(model, result), task.loaders, target, summary)
                    for note in result.report.notes:
                        warnings.warn(note, stacklevel=1)
                    _finish(config, summary)
            task.loaders.close()

    @contextmanager
    def _in_options(self) -> Iterator[None]:
        """Say in terms of options what is wrong with arguments and data."""
        try:
            yield
        except ArgumentError as error:
            raise CommandError(*error.text(self.spelling).splitlines()) from error
        except (DataSetError, OSError) as error:
            raise CommandError(*str(error).splitlines()) from error

    @contextmanager
    def _resumable(self) -> Iterator[None]:
        """Say at every end of training how to go on."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            lines = self._explained(error)
            if lines is None:
                raise
            if process_rank():
                say(f"goctconv: process {process_rank()}: {lines[0]}")
            raise CommandError(*lines) from error
        except KeyboardInterrupt as error:
            if process_rank():
                raise SystemExit(130) from error
            raise KeyboardInterrupt(f": {self._how()}") from error
        except SystemExit as stop:
            if stop.code == _TERMINATED and process_rank() == 0:
                say(f"goctconv: terminated: {self._how()}")
            raise

    def _explained(self, error: Exception) -> list[str] | None:
        """Return what to say of an error of training, and how to go on where that helps; None of an unexpected one."""
        lines: list[str] | None = None
        if isinstance(error, TrainingError):
            lines = [error.text(self.spelling), *[_AFTER_NAN] * error.diverged, *[self._how()] * error.can_resume]
        elif isinstance(error, ThresholdError):
            lines = [error.problem, f"{self._how()} --threshold X"]
        elif isinstance(error, ArgumentError | PruningError):
            lines = error.text(self.spelling).splitlines()
        elif isinstance(error, ValueError):
            lines = str(error).splitlines()
        elif isinstance(error, OSError):
            where = f"{error.filename}: " if error.filename else ""
            lines = [f"{where}{error.strerror or error}", self._how()]
        elif worker_was_killed(error):
            lines = [f"a process that reads photographs was killed: {error}: lower --workers", self._how()]
        return lines

    def _how(self) -> str:
        several = f"torchrun --nproc-per-node {process_count()} -m " if process_count() > 1 else ""
        folder = shlex.quote(str(self.config.output))
        return f"go on with: {several}goctconv {self.kind.command} --resume -o {folder}"


def make_network(config: Any) -> nn.Module:
    """Return the network that the options ask for; one that goes on from a checkpoint needs no weights."""
    arguments = parse_model_args(config.model_args)
    return create_model(config.model, weights=config.weights, arguments={**arguments, **_backbone(config, arguments)})


def _backbone(config: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the network for the weights of its backbone."""
    asked = config.backbone_weights
    if asked is None or config.weights is not None or config.model.startswith(SAVED):
        return {}  # or the whole network has its weights already
    if not timm.models.is_model_in_modules(config.model.partition(".")[0], ("csf", "scfnet")):
        raise CommandError(
            f"--backbone-weights {asked}: {config.model} has no backbone: add --backbone-weights none, or take "
            "csf_res2net50, or csf with --model-args backbone=NAME"
        )
    if "pretrained_backbone" in arguments:
        raise CommandError("--model-args: pretrained_backbone is set by --backbone-weights: leave it out")
    if any((config.output / CHECKPOINTS).glob("[0-9]*")):
        return {}
    if isinstance(asked, Path) and not asked.is_file():
        raise CommandError(f"--backbone-weights {asked}: there is no such file: check the path")
    return {"pretrained_backbone": True if asked == "timm" else asked}


def _macs(model: nn.Module, config: Any) -> int:
    """Return the operations at the first of the sizes, or at the one that the network is made for."""
    size = config.sizes[0]
    if size == "own":
        size = tuple((getattr(model, "pretrained_cfg", None) or {}).get("input_size", (3, _SIDE, _SIDE))[1:])
    try:
        return count_macs(model, size)
    except (RuntimeError, ValueError, TypeError) as error:
        raise CommandError(f"{config.model} takes no images of size {size}: {error}") from error


def _before(model: nn.Module, result: TrainingResult) -> nn.Module | None:
    """Return the trained network before pruning, unless a run was resumed whose checkpoint does not have it."""
    result.model.cpu()
    if result.unpruned is None:
        return None
    model.cpu().load_state_dict(result.unpruned)
    return model.eval()


def _finish(config: Any, summary: dict[str, Any]) -> None:
    skipped = summary["skipped"]
    if skipped:
        names = shorten((f"{name} ({reason})" for name, reason in skipped.items()), "; ")
        say(f"goctconv: {plural(len(skipped), 'pair')} skipped: {names}")
    tell(json.dumps(summary, indent=1) if config.json else as_table(summary, config.changes()))
    if not config.quiet:
        what = "" if summary["threshold"] is None else "; what was learned: report.html"
        say(f"{config.output / 'model'}: load it as local-dir:{config.output / 'model'}{what}")


@contextmanager
def _interruptible() -> Iterator[None]:
    """End this process on SIGTERM as on an error, with all that is done at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
