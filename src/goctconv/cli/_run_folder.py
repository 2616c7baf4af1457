"""The folder of a run: what may be in it, and what is written to it while the run goes on."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..graph import evaluating, undisturbed
from ..pruning import PruningPlan
from ..training import Callback, CSVLog, JSONLog, ProgressBar, TensorBoard, TrainingRun
from ._command import CommandError
from ._output import plural, shorten, write_file
from ._run_options import CHECKPOINTS, CONFIG
from ._run_results import PRUNED, read_json

_PAIRS = "pairs.json"
_UNFINISHED = ".goctconv-"  # how write_atomic begins names


def check_folder(folder: Path, *, resume: bool) -> None:
    """Check that a run may be written to a folder."""
    if resume:
        return
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"--output {folder}: this is a file: name a folder")
    try:
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:
        raise CommandError(f"--output {folder}: cannot be read ({error.strerror or error})") from error
    names = sorted(name for name in names if not name.startswith(_UNFINISHED))
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


class _PrunedScores(Callback):
    """Compares the maps of the slim network before fine-tuning; the file of the scores outlives an interruption."""

    def __init__(self, validate: Callable[[nn.Module], dict[str, float]], path: Path) -> None:
        self.validate, self.path = validate, path

    def on_pruned(self, run: TrainingRun, plan: PruningPlan) -> None:  # noqa: ARG002
        with undisturbed(), evaluating(run.model), torch.no_grad():
            scores = self.validate(run.model)
        write_file(self.path, json.dumps(scores))


def callbacks_of(
    config: Any, names: Mapping[str, list[str]], validate: Callable[[nn.Module], dict[str, float]] | None
) -> list[Callback]:
    """Return what writes to the folder of a run, and to the terminal."""
    folder = config.output
    callbacks: list[Callback] = [
        _Beginning(config, names),
        CSVLog(folder / "history.csv"),
        JSONLog(folder / "history.jsonl"),
    ]
    if validate is not None:
        callbacks.append(_PrunedScores(validate, folder / PRUNED))
    if not config.quiet and sys.stderr is not None:
        callbacks.append(ProgressBar())
    if config.tensorboard:
        if importlib.util.find_spec("tensorboard") is None:
            raise CommandError("--tensorboard needs tensorboard: pip install 'goctconv[train]', or leave it out")
        callbacks.append(TensorBoard(folder / "tensorboard"))
    return callbacks
