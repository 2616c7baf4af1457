"""The folder of a training run: what may be in it, its files, and the summary of its results."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from .. import _limits as limits
from .._checks import escaped
from .._files import LOCK, FolderLock
from ..models import save_pruned
from ..options import FREE, options_of
from ..pruning import PruningPlan
from ..training import Callback, CSVLog, JSONLog, ProgressBar, TensorBoard, TrainingError, TrainingResult
from ._command import CommandError
from ._output import names_in, plural, shorten, write_file, writing
from ._training_options import CHECKPOINTS, CONFIG

if TYPE_CHECKING:
    from ..training import TrainingRun

MODEL = "model"
_PRUNED, _PAIRS, _PLAN = "pruned.json", "pairs.json", "plan.json"
_UNFINISHED = ".goctconv-"  # how write_atomic begins names
_SCORES = {"mae": "MAE", "max_f": "max F", "teacher_mae": "to teacher"}


def check_folder(folder: Path, *, resume: bool) -> None:
    """Check that a run may be written to a folder."""
    if resume:
        return
    names = [name for name in names_in(folder) if not name.startswith(_UNFINISHED) and name != LOCK]
    if CONFIG in names or names == [CHECKPOINTS]:
        if not any((folder / CHECKPOINTS).glob("[0-9]*")):
            return  # it came to nothing
        raise CommandError(f"--output {folder}: there is a run in this folder: add --resume to go on with it")
    if names:
        raise CommandError(f"--output {folder}: this folder holds other things ({shorten(names, limit=3)})")


def check_pairs(folder: Path, pairs: Mapping[str, list[str]]) -> None:
    """Check that the data of a run are those that it began with."""
    before: Mapping[str, list[str]] = read_json(folder / _PAIRS) if (folder / _PAIRS).exists() else pairs
    for part, names in pairs.items():
        earlier = before.get(part, [])
        if names != earlier:
            changes = [
                f"{plural(len(some), 'pair')} {what} ({shorten(sorted(some), limit=3)})"
                for some, what in ((set(earlier) - set(names), "gone"), (set(names) - set(earlier), "new"))
                if some
            ]
            raise CommandError(
                f"the data of the run in {folder} have changed: {part}: {', '.join(changes) or 'another order'}: "
                "restore the files, or begin anew in another folder"
            )


class _Beginning(Callback):
    """Writes the options and the names of the pairs as soon as the options are known to be those of the checkpoint."""

    def __init__(self, config: Any, pairs: Mapping[str, list[str]]) -> None:
        self.config, self.pairs = config, pairs

    def on_start(self, run: TrainingRun) -> None:  # noqa: ARG002
        write_file(self.config.output / _PAIRS, json.dumps(self.pairs, indent=1))
        write_file(self.config.output / CONFIG, self.config.to_toml())


class _Presence(Callback):
    """Ends a run whose folder has been deleted."""

    def __init__(self, lock: FolderLock) -> None:
        self.lock = lock

    def on_step_end(self, run: TrainingRun, record: object) -> None:  # noqa: ARG002
        check_presence(self.lock)

    def on_epoch_end(self, run: TrainingRun, record: object) -> None:  # noqa: ARG002
        check_presence(self.lock)


def check_presence(lock: FolderLock | None) -> None:
    """Check that the folder of a run is the one in which it began; of other processes than the first, nothing."""
    try:
        if lock is not None:
            lock.check()
    except FileNotFoundError as error:
        problem = f"{error.filename}: {error.strerror}: begin anew in another folder"
        raise TrainingError(escaped(problem)) from error


class _PrunedScores(Callback):
    """Compares the maps of the slim network before fine-tuning; the file of the scores outlives an interruption."""

    def __init__(self, validate: Callable[[nn.Module], dict[str, float]], path: Path) -> None:
        self.validate, self.path = validate, path

    def on_pruned(self, run: TrainingRun, plan: PruningPlan) -> None:  # noqa: ARG002
        write_file(self.path, json.dumps(self.validate(run.model)))


def callbacks_of(
    config: Any,
    names: Mapping[str, list[str]],
    validate: Callable[[nn.Module], dict[str, float]] | None,
    lock: FolderLock | None = None,
) -> list[Callback]:
    """Return what writes to the folder of a run, and to the terminal."""
    folder = config.output
    callbacks: list[Callback] = [
        *([_Presence(lock)] if lock else []),
        _Beginning(config, names),
        CSVLog(folder / "history.csv"),
        JSONLog(folder / "history.jsonl"),
    ]
    if validate is not None:
        callbacks.append(_PrunedScores(validate, folder / _PRUNED))
    if not config.quiet and sys.stderr is not None:
        callbacks.append(ProgressBar())
    if config.tensorboard:
        if importlib.util.find_spec("tensorboard") is None:
            raise CommandError("--tensorboard needs tensorboard: pip install 'goctconv[train]', or leave it out")
        callbacks.append(TensorBoard(folder / "tensorboard"))
    return callbacks


def write_results(config: Any, result: TrainingResult, summary: dict[str, Any]) -> None:
    """Write the slim network, its plan, the history and the summary."""
    folder = config.output
    result.history.to_csv(folder / "history.csv")
    result.history.to_jsonl(folder / "history.jsonl")
    try:
        with writing(folder / MODEL):
            save_pruned(result.model, folder / MODEL, result.plan, base=config.model)
            shutil.copyfile(folder / MODEL / _PLAN, folder / _PLAN)
    except (ValueError, TypeError) as error:
        raise CommandError(
            f"{folder / MODEL}: the network cannot be saved: {error}", "the last checkpoint has its weights"
        ) from error
    write_file(folder / "summary.json", json.dumps(summary, indent=1))


def summarize(
    config: Any,
    result: TrainingResult,
    *,
    pairs: dict[str, list[str]],
    macs: tuple[int, int],
    skipped: dict[str, str],
) -> dict[str, Any]:
    """Return the numbers of a run, ready for JSON."""
    records = {record.phase: record for record in result.history.epochs}  # the last of each phase
    path = config.output / _PRUNED
    scores = {
        "before": records["train"].validation if "train" in records else {},
        "pruned": read_json(path) if path.exists() else {},
        "finetuned": records["finetune"].validation if "finetune" in records else {},
    }
    report = result.report
    return {
        "model": config.model,
        **({"teacher": teacher} if (teacher := getattr(config, "teacher", None)) else {}),
        "output": str(config.output),
        "pairs": {part: sum(name not in skipped for name in names) for part, names in pairs.items()},
        "epochs": {phase: len(result.history.series("epoch", phase)) for phase in ("train", "finetune")},
        "threshold": result.threshold,
        "channels": {"before": report.channels, "masked": report.masked, "removed": report.removed},
        "parameters": list(report.parameters),
        "macs": list(macs),
        "scores": scores,
        "difference": dict(report.difference),
        "skipped": skipped,
        "options": {
            found.spelling: found.text(getattr(config, name))
            for name, found in options_of(type(config)).items()
            if found.is_spelled and found.resume != FREE
        },
    }


def as_table(summary: dict[str, Any], changed: Mapping[str, str]) -> str:
    """Return the numbers of a run as text, and the options that are not the defaults."""
    channels, epochs, (before, after) = summary["channels"], summary["epochs"], summary["parameters"]
    is_pruned = summary["threshold"] is not None
    took = f"{epochs['train']} + {epochs['finetune']} epochs" if is_pruned else plural(epochs["train"], "epoch")
    lines = [
        f"{summary['model']} learned from {_source(summary)} in {took}{'' if is_pruned else '; all channels stay'}"
    ]
    if is_pruned:
        went = f"{channels['removed']} of {channels['before']} channels went, with scores below"
        lines.append(f"{went} {summary['threshold']:g}: {1 - after / before:.1%} of the parameters")
        lines.append(_row("", "before", "pruned", "fine-tuned"))
    columns = 3 if is_pruned else 1
    for name, numbers in (("parameters", summary["parameters"]), ("MACs", summary["macs"])):
        lines.append(_row(name, *(f"{numbers[index]:,}" for index in (0, 1, 1)[:columns])))
    for key, name in _SCORES.items():
        values = [scores.get(key) for scores in summary["scores"].values()][:columns]
        if any(value is not None for value in values):
            lines.append(_row(name, *("-" if value is None else f"{value:.4f}" for value in values)))
    if options := ", ".join(f"{name} {value}" for name, value in changed.items() if name in summary["options"]):
        lines.append(f"options: {options}")
    return "\n".join(lines)


def _source(summary: dict[str, Any]) -> str:
    teacher, count = summary.get("teacher"), summary["pairs"]["train"]
    return f"{teacher} on {count} photographs" if teacher else f"{count} pairs"


def _row(name: str, *cells: str) -> str:
    return f"{name:<10}" + "".join(f"{cell:>15}" for cell in cells)


def read_json(path: Path) -> Any:
    """Return what a file of the run holds."""
    try:
        return limits.read_json(path)
    except (OSError, ValueError) as error:
        raise CommandError(f"{path}: cannot be read ({error})") from error
