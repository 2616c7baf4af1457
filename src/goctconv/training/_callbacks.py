"""Callbacks: the protocol, and loggers that write files."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..pruning import PruningPlan
from ._histogram import SMALLEST, gammas
from ._history import EpochRecord, StepRecord, TrainingHistory


@dataclass
class TrainingRun:
    """Where a run stands; callbacks get it and must not change it.

    Attributes:
        model: The network that is trained now; after pruning, the slim one.
        phase: "train" or "finetune".
        epoch: The epoch that runs or has just ended, over both phases, from 1.
        epochs: The epochs of both phases.
        steps: The steps of an epoch; None if the loader has no length.
        history: All that was recorded.
        checkpoint: The last good checkpoint.
        is_resumed: Whether the run began from a checkpoint.

    Example:
        >>> import torch
        >>> from goctconv.training import TrainingRun
        >>> TrainingRun(torch.nn.Identity(), epochs=300).phase
        'train'
    """

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
        """Write the table."""
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
        """Write the lines."""
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
        """Open an event file."""
        done = len(run.history.epochs)
        self._writer = self._module.SummaryWriter(str(self.folder), purge_step=done + 1 if run.is_resumed else None)

    def on_epoch_end(self, run: TrainingRun, record: EpochRecord) -> None:
        """Write the numbers of an epoch."""
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
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
