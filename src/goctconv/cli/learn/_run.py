"""``goctconv learn``: the run."""

import argparse
import importlib.util
import json
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import torch
from torch import nn

from ...models import count_macs
from ...pruning import PruningError
from ...training import (
    Callback,
    CSVLog,
    JSONLog,
    ProgressBar,
    TensorBoard,
    ThresholdError,
    TrainingError,
    TrainingResult,
    learn_channels,
)
from .._command import CommandError
from .._output import plural, say, shorten, tell
from ._config import CHECKPOINTS, LEARN_KIND, Config, Kind, make_config
from ._folder import begin_folder, check_folder
from ._lessons import Lessons, lessons_with_masks
from ._network import count_size, make_network
from ._processes import connected, process_count, process_number, together
from ._recipe import learning_arguments
from ._report import write_report
from ._results import as_table, summarize, write_results
from ._scores import PRUNED, PrunedScores

_TERMINATED = 128 + signal.SIGTERM
_OPTIONS = (
    ("call again with resume=True", "run it again with --resume"),
    ("resume=True", "--resume"),
    ("threshold='valley'", "--threshold valley"),
    ("threshold=None", "--threshold none"),
    ("finetune_epochs=0", "--finetune-epochs 0"),
    ("weight_decay=0", "--weight-decay 0"),
    ("norm='batch'", "--model-args norm=batch"),
    ("freeze_batch_norm=True", "--freeze-batch-norm"),
    ("backbone_rate=", "--backbone-rate "),
    ("threshold=", "--threshold "),
    ("finetune_epochs=", "--finetune-epochs "),
    ("checkpoints=", "the folder "),
    (" (finetune_optimizer='fresh')", ""),
)

_AFTER_NAN = "to go on would come to the same: lower --lr, leave --amp out, or look at these files, and begin anew."


def run_learn(
    args: argparse.Namespace,
    kind: Kind = LEARN_KIND,
    prepare: Callable[[Any, torch.device], Lessons] = lessons_with_masks,
) -> int:
    """Learn the channels of a network and return the exit status.

    Args:
        args: What was typed.
        kind: The command.
        prepare: Returns what is learned from, of a configuration and a device.

    Raises:
        CommandError: Arguments, data or the network are not usable, the loss is not finite, or a file cannot be
            written.
        KeyboardInterrupt: The user has interrupted the run; it says how to go on.
    """
    try:
        with _interruptible():
            return _run(args, kind, prepare)
    except CommandError:
        if process_number():
            return 2  # the first process says it
        raise


def _run(args: argparse.Namespace, kind: Kind, prepare: Callable[[Any, torch.device], Lessons]) -> int:
    config = make_config(args, kind)
    check_folder(config.output, resume=args.resume)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with connected(config.device) as device, _notes(quiet=config.quiet):
        with together():
            torch.manual_seed(config.seed)
            model = make_network(config)  # before a teacher makes maps of all photographs
            macs = _macs(model, config)
            lessons = prepare(config, device)
            loaders = lessons.loaders
            callbacks = _callbacks(config, lessons)
        with together():
            if process_number() == 0:
                begin_folder(config, loaders.names(), resume=args.resume)
        with _resumable(config, kind.command):
            result = _learn(config, model, lessons, callbacks, device)
        skipped = loaders.skipped
        with together():
            if process_number() == 0:
                counts = (macs, _macs(result.model, config))
                summary = summarize(config, result, pairs=loaders.names(), macs=counts, skipped=skipped)
                write_results(config, result, summary)
                if result.threshold is not None:
                    write_report(config, result, _before(model, result), lessons, summary)
                for note in result.report.notes:
                    warnings.warn(note, stacklevel=1)
                _finish(config, summary)
        loaders.close()
    return 0


def _learn(
    config: Config, model: nn.Module, lessons: Lessons, callbacks: list[Callback], device: torch.device
) -> TrainingResult:
    return learn_channels(
        model,
        lessons.loaders.train,
        step=lessons.step,
        validate=lessons.validate,
        callbacks=callbacks,
        device=device,
        checkpoints=config.output / CHECKPOINTS,
        resume=True,
        keep_unpruned=True,
        **learning_arguments(config),
    )


def _callbacks(config: Config, lessons: Lessons) -> list[Callback]:
    folder = config.output
    callbacks: list[Callback] = [CSVLog(folder / "history.csv"), JSONLog(folder / "history.jsonl")]
    if lessons.validate is not None:
        callbacks.append(PrunedScores(lessons.validate, folder / PRUNED))
    if not config.quiet and sys.stderr is not None:
        callbacks.append(ProgressBar())
    if config.tensorboard:
        if importlib.util.find_spec("tensorboard") is None:
            raise CommandError("--tensorboard needs tensorboard: pip install 'goctconv[train]', or leave it out.")
        callbacks.append(TensorBoard(folder / "tensorboard"))
    return callbacks


def _before(model: nn.Module, result: TrainingResult) -> nn.Module | None:
    """Return the trained network before pruning, unless a run was resumed whose checkpoint does not have it."""
    result.model.cpu()
    if result.unpruned is None:
        return None
    model.cpu().load_state_dict(result.unpruned)
    return model.eval()


def _finish(config: Config, summary: dict[str, Any]) -> None:
    skipped = summary["skipped"]
    if skipped:
        names = shorten((f"{name} ({reason})" for name, reason in skipped.items()), "; ")
        say(f"goctconv: {plural(len(skipped), 'pair')} skipped: {names}")
    tell(json.dumps(summary, indent=1) if config.json else as_table(summary))
    if not config.quiet:
        what = "" if summary["threshold"] is None else "; what was learned: report.html"
        say(f"{config.output / 'model'}: load it as local-dir:{config.output / 'model'}{what}")


def _macs(model: nn.Module, config: Config) -> int:
    size = count_size(model, config)
    try:
        return count_macs(model, size)
    except (RuntimeError, ValueError, TypeError) as error:
        raise CommandError(f"{config.model} takes no images of size {size}: {error}") from error


@contextmanager
def _resumable(config: Config, command: str) -> Iterator[None]:
    """Let every end of training say how to go on."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        lines = _explained(error, config, command)
        if lines is None:
            raise
        if process_number():
            say(f"goctconv: process {process_number()}: {lines[0]}")
        raise CommandError(*lines) from error
    except KeyboardInterrupt as error:
        if process_number():
            raise SystemExit(130) from error
        raise KeyboardInterrupt(f": {_how(config, command)}") from error
    except SystemExit as stop:
        if stop.code == _TERMINATED and process_number() == 0:
            say(f"goctconv: terminated: {_how(config, command)}")
        raise


def _explained(error: Exception, config: Config, command: str) -> list[str] | None:
    """Return what to say of an error of training, and how to go on where that helps; None of an unexpected one."""
    text = _in_options(str(error))
    if isinstance(error, TrainingError):
        return [text, _AFTER_NAN if "the loss is " in text else _how(config, command)]
    if isinstance(error, ThresholdError):
        return [text, f"{_how(config, command)} --threshold X"]
    if isinstance(error, PruningError | ValueError):
        return text.splitlines()
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return [f"{where}{error.strerror or error}.", _how(config, command)]
    if "DataLoader worker" in text:
        return [f"a process that reads photographs was killed: {text}: lower --workers.", _how(config, command)]
    return None


def _in_options(text: str) -> str:
    """Replace arguments of Python by those of the command line."""
    for python, option in _OPTIONS:
        text = text.replace(python, option)
    return text


def _how(config: Config, command: str) -> str:
    several = f"torchrun --nproc-per-node {process_count()} -m " if process_count() > 1 else ""
    return f"go on with: {several}goctconv {command} --resume -o {shlex.quote(str(config.output))}"


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end this process as an error does, with all that is done at the end."""
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


@contextmanager
def _notes(*, quiet: bool) -> Iterator[None]:
    """Show warnings as notes, above a bar if there is one; or nothing of them."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if process_number() == 0 and not quiet:
            for line in _in_options(str(message)).splitlines():
                say(f"goctconv: note: {line}")

    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = show
        yield
