"""Callbacks: the protocol, and loggers that write files."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import nn

from ..pruning import PruningPlan
from ._history import EpochRecord, StepRecord, TrainingHistory
from ._threshold import SMALLEST, gammas


@dataclass
class TrainingRun:
    """Where a run stands; `Callback` documents it."""

    model: nn.Module
    epochs: int
    phase: str = "train"
    epoch: int = 0
    steps: int | None = None
    history: TrainingHistory = field(default_factory=TrainingHistory)
    checkpoint: Path | None = None
    is_resumed: bool = False


class Callback:
    """Base class of callbacks, which are called in the first process only; override the methods you need.

    Every method gets ``run``, the state of the run, and must not change it. Its attributes:

    - ``model``: the network that is trained now; after pruning, the slim one;
    - ``phase``: "train" or "finetune";
    - ``epoch``: the epoch that runs or has just ended, over both phases, from 1;
    - ``epochs``: the number of epochs of both phases;
    - ``steps``: the number of steps of an epoch; None if the loader has no length;
    - ``history``: all that was recorded, a `TrainingHistory`;
    - ``checkpoint``: the path of the last good checkpoint, or None;
    - ``is_resumed``: whether the run began from a checkpoint.

    Example:
        >>> from goctconv.training import Callback
        >>> class Print(Callback):
        ...     def on_epoch_end(self, run, record):
        ...         print(f"{run.phase} {record.epoch}/{run.epochs}: {record.loss:.3f}")
    """

    def on_start(self, run: TrainingRun) -> None:
        """Called when a run begins or resumes."""

    def on_epoch_start(self, run: TrainingRun) -> None:
        """Called when an epoch begins."""

    def on_step_end(self, run: TrainingRun, record: StepRecord) -> None:
        """Called after a step of the optimizer."""

    def on_epoch_end(self, run: TrainingRun, record: EpochRecord) -> None:
        """Called after an epoch and its validation, before its checkpoint."""

    def on_pruned(self, run: TrainingRun, plan: PruningPlan) -> None:
        """Called after pruning, before fine-tuning."""

    def on_end(self, run: TrainingRun) -> None:
        """Called when a run has ended, well or with an error."""


class CSVLog(Callback):
    """Writes a table of the epochs after each of them.

    Args:
        path: The file; a run that is resumed writes all its epochs again.

    Example:
        >>> from goctconv.training import CSVLog
        >>> callbacks = [CSVLog("runs/epochs.csv")]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def on_epoch_end(self, run: TrainingRun, record: EpochRecord) -> None:  # noqa: ARG002
        run.history.to_csv(self.path)


class JSONLog(Callback):
    """Writes steps and epochs as lines of JSON after each epoch.

    Args:
        path: The file; a run that is resumed writes all its epochs again.

    Example:
        >>> from goctconv.training import JSONLog
        >>> callbacks = [JSONLog("runs/log.jsonl")]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def on_epoch_end(self, run: TrainingRun, record: EpochRecord) -> None:  # noqa: ARG002
        run.history.to_jsonl(self.path)


class TensorBoard(Callback):
    """Writes numbers, and histograms of log10 abs(γ), for TensorBoard.

    Args:
        folder: Where event files go; what a run that is resumed does again replaces what was there.

    Raises:
        ImportError: tensorboard is not installed.

    Example:
        >>> import tempfile
        >>> from goctconv.training import TensorBoard
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     callbacks = [TensorBoard(folder)]
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            self._module = importlib.import_module("torch.utils.tensorboard")
        except ImportError as error:
            raise ImportError("TensorBoard needs the package tensorboard: pip install 'goctconv[train]'") from error
        self.folder = Path(folder)
        self._writer: Any = None

    def on_start(self, run: TrainingRun) -> None:
        first = len(run.history.epochs) + 1
        self._writer = self._module.SummaryWriter(str(self.folder), purge_step=first if run.is_resumed else None)

    def on_epoch_end(self, run: TrainingRun, record: EpochRecord) -> None:
        numbers = {
            "loss": record.loss,
            "learning rate": record.learning_rate,
            "channels below the threshold": record.below_threshold,
            "images per second": record.images_per_second,
            **{f"validation/{name}": value for name, value in record.validation.items()},
        }
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, record.epoch)
        found = [gamma.clamp_min(SMALLEST).log10() for gamma in gammas(run.model).values() if len(gamma)]
        if found:
            self._writer.add_histogram("log10 abs(γ)", torch.cat(found), record.epoch)
        self._writer.flush()

    def on_end(self, run: TrainingRun) -> None:  # noqa: ARG002
        if self._writer is not None:
            self._writer.close()


class ProgressBar(Callback):
    """Shows loss, validation, channels below the threshold, images per second and the time left.

    Args:
        stream: Where to; the standard error if not given. There are bars if it is a terminal and tqdm is installed,
            and a line for each epoch in any case.

    Example:
        >>> import sys
        >>> from goctconv.training import ProgressBar
        >>> from goctconv.training._callbacks import TrainingRun
        >>> from goctconv.training._history import EpochRecord
        >>> run = TrainingRun(model=None, epochs=10)
        >>> record = EpochRecord("train", 1, 0.5, 1e-4, 160, 8.0, 3, 1e-3, 64, validation={"mae": 0.25})
        >>> ProgressBar(sys.stdout).on_epoch_end(run, record)
        train 1/10: loss 0.5000, mae 0.2500, 3 of 64 γ below 0.001, 20.0 images/s, lr 0.0001, 1:12 left
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self._bar: Any = None
        self._begun: float | None = None

    def on_start(self, run: TrainingRun) -> None:
        if run.is_resumed:
            self._line(f"going on from {run.checkpoint}: epoch {len(run.history.epochs)} of {run.epochs} is done")

    def on_epoch_start(self, run: TrainingRun) -> None:
        self._begun = time.monotonic()
        self._close()
        if self.stream.isatty() and importlib.util.find_spec("tqdm"):
            options = {"unit": "step", "file": self.stream, "leave": False, "dynamic_ncols": True}
            title = f"{run.phase} {run.epoch}/{run.epochs}"
            self._bar = importlib.import_module("tqdm").tqdm(desc=title, total=run.steps, **options)

    def on_step_end(self, run: TrainingRun, record: StepRecord) -> None:
        if self._bar is None:
            return
        shown = {"loss": f"{record.loss:.4f}"}
        if run.history.epochs:
            last = run.history.epochs[-1]
            shown |= {name: f"{value:.4f}" for name, value in last.validation.items()}
            name = _encodable(f"γ<{last.threshold:g}", self.stream)
            shown |= {name: f"{last.below_threshold}/{last.channels}"} if last.channels else {}
            shown |= {"images/s": f"{last.images_per_second:.1f}"}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(record.step - self._bar.n)

    def on_epoch_end(self, run: TrainingRun, record: EpochRecord) -> None:
        took = 0.0 if self._begun is None else time.monotonic() - self._begun  # with validation
        left = max(0, run.epochs - record.epoch) * max(took, record.seconds)
        parts = [f"loss {record.loss:.4f}", *(f"{name} {value:.4f}" for name, value in record.validation.items())]
        if record.channels:
            parts.append(f"{record.below_threshold} of {record.channels} γ below {record.threshold:g}")
        parts += [f"{record.images_per_second:.1f} images/s", f"lr {record.learning_rate:g}", f"{_clock(left)} left"]
        self._line(f"{record.phase} {record.epoch}/{run.epochs}: {', '.join(parts)}")

    def on_pruned(self, run: TrainingRun, plan: PruningPlan) -> None:  # noqa: ARG002
        (before, after), warning = plan.report.parameters, plan.report.warning()
        self._line(
            f"pruned: {plan.report.removed} of {plan.report.channels} channels removed, {before:,} -> {after:,} "
            f"parameters ({1 - after / before:.1%} went){f'; {warning}' if warning else ''}"
        )

    def on_end(self, run: TrainingRun) -> None:  # noqa: ARG002
        self._close()

    def _line(self, text: str) -> None:
        self._close()
        self.stream.write(_encodable(f"{text}\n", self.stream))
        self.stream.flush()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _encodable(text: str, stream: TextIO) -> str:
    """Return a text in which characters that the encoding of a stream lacks, such as γ, are escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
