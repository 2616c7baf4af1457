"""History and result of a run."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .._files import write_atomic
from ..pruning import PruningPlan, PruningReport
from ._config import TrainingConfig
from ._threshold import HISTOGRAM_EDGES, QUANTILES, Threshold

TRAIN, FINETUNE = "train", "finetune"


@dataclass(frozen=True)
class StepRecord:
    """One step of the optimizer.

    Attributes:
        phase: "train" or "finetune".
        epoch: The number of the epoch, over both phases, from 1.
        step: The number of the step in its epoch, from 1.
        loss: The mean over the images of the step, of all processes.
        learning_rate: Of the first param group.
    """

    phase: str
    epoch: int
    step: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Attributes:
        phase: "train" or "finetune".
        epoch: The number of the epoch, over both phases, from 1.
        loss: The mean over its images.
        learning_rate: Of the first param group.
        images: How many there were, in all processes.
        seconds: What it took, without validation.
        below_threshold: How many channels have an abs(γ) below the threshold.
        threshold: The one that was counted with: that of the run, or 1e-3 where it is not known yet.
        channels: How many channels have a γ that decays dynamically, or did.
        quantiles: Of abs(γ): 0, 5, 25, 50, 75, 95 and 100 %.
        histogram: The numbers of log10 abs(γ) in half decades from -25 to 2.
        validation: What ``validate`` returned.
    """

    phase: str
    epoch: int
    loss: float
    learning_rate: float
    images: int
    seconds: float
    below_threshold: int = 0
    threshold: float = 0.0
    channels: int = 0
    quantiles: list[float] = field(default_factory=list)
    histogram: list[int] = field(default_factory=list)
    validation: dict[str, float] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Images of all processes per second of training."""
        return self.images / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data, ready for JSON."""
        return {**asdict(self), "images_per_second": self.images_per_second}

    def columns(self) -> dict[str, Any]:
        """Return one value for each column of a table; the histogram is left out."""
        return {
            **{key: value for key, value in vars(self).items() if not isinstance(value, list | dict)},
            "images_per_second": self.images_per_second,
            **{f"gamma_{round(share * 100)}": value for share, value in zip(QUANTILES, self.quantiles, strict=False)},
            **{f"validation_{name}": value for name, value in self.validation.items()},
        }


@dataclass(repr=False)
class TrainingHistory:
    """All steps and epochs of a run, over both phases and all interruptions.

    Attributes:
        epochs: The epochs that are done.
        steps: Their steps, and those of the epoch that runs.

    Example:
        >>> from goctconv.training import TrainingHistory
        >>> from goctconv.training._history import EpochRecord
        >>> history = TrainingHistory([EpochRecord("train", 1, 0.7, 1e-4, 160, 8.0, validation={"mae": 0.2})])
        >>> history.series("loss"), history.series("mae")
        ([0.7], [0.2])
        >>> TrainingHistory.from_dict(history.to_dict()) == history
        True
    """

    epochs: list[EpochRecord] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)

    def __repr__(self) -> str:
        last = f", last {self.epochs[-1].phase} with loss {self.epochs[-1].loss:.4g}" if self.epochs else ""
        return f"{type(self).__name__}({len(self.epochs)} epochs of {len(self.steps)} steps{last})"

    def series(self, name: str, phase: str | None = None) -> list[Any]:
        """Return a number of every epoch that has it: an attribute, or something that was validated.

        Args:
            name: Such as ``"loss"``, ``"below_threshold"`` or what ``validate`` calls it.
            phase: "train", "finetune", or None for both.

        Raises:
            KeyError: No epoch has it.
        """
        chosen = [epoch for epoch in self.epochs if phase is None or epoch.phase == phase]
        tables = [{**epoch.to_dict(), **epoch.validation} for epoch in chosen]
        found = [table[name] for table in tables if name in table]
        if chosen and not found:
            raise KeyError(f"no epoch has {name!r}: there are {', '.join(tables[0])}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data, ready for JSON."""
        return {
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "steps": {key: [getattr(step, key) for step in self.steps] for key in StepRecord.__annotations__},
            "histogram_edges": list(HISTOGRAM_EDGES),
            "quantiles": list(QUANTILES),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainingHistory:
        """Return the history that `to_dict` gave.

        Raises:
            ValueError: It is none.
        """
        try:
            columns = [data["steps"][key] for key in StepRecord.__annotations__]
            steps = [StepRecord(*row) for row in zip(*columns, strict=True)]
            return cls([EpochRecord(**epoch) for epoch in data["epochs"]], steps)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no history of a run ({type(error).__name__}: {error})") from error

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a table of the epochs, one a line; the file is replaced at once, so that readers find it complete."""
        tables = [epoch.columns() for epoch in self.epochs]
        names = list(dict.fromkeys(name for table in tables for name in table))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(tables)
        write_atomic(Path(path), lambda stream: stream.write(text.getvalue().encode()))

    def to_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON object a line, of ``"kind"`` "step" or "epoch"; an epoch follows its steps."""
        lines = []
        left = list(reversed(self.steps))
        for epoch in self.epochs:
            while left and left[-1].epoch <= epoch.epoch:
                lines.append({"kind": "step", **asdict(left.pop())})
            lines.append({"kind": "epoch", **epoch.to_dict()})
        lines += [{"kind": "step", **asdict(step)} for step in reversed(left)]
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        write_atomic(Path(path), lambda stream: stream.write(text.encode()))


@dataclass(frozen=True, repr=False)
class TrainingResult:
    """A network whose channels were learned.

    Attributes:
        model: The slim network, fine-tuned, in eval mode; with ``threshold=None`` the trained one itself.
        report: What was removed, and why other channels stayed.
        plan: The same as data, to be saved and applied to a fresh network.
        history: Losses, validation and γ over time.
        threshold: Below which abs(γ) was masked; None: nothing was.
        valley: Where the threshold came from, with ``threshold="valley"``.
        unpruned: The state dict of the trained network before pruning, with ``keep_unpruned=True``.
        config: The options of the run.

    Example:
        >>> import torch
        >>> from goctconv import learn_channels
        >>> from goctconv.training import TrainingConfig
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 1, 3)
        ... )
        >>> batches = [(torch.rand(4, 3, 8, 8), torch.rand(4, 1, 4, 4))]
        >>> loss = torch.nn.functional.mse_loss
        >>> config = TrainingConfig(epochs=1, finetune_epochs=1, threshold=0.9999)
        >>> result = learn_channels(model, batches, loss, config)
        >>> result.report.channels, len(result.history.epochs)
        (8, 2)
    """

    model: nn.Module
    report: PruningReport
    plan: PruningPlan
    history: TrainingHistory
    threshold: float | None
    valley: Threshold | None = None
    unpruned: dict[str, Tensor] | None = None
    config: TrainingConfig = field(default_factory=TrainingConfig)

    def __repr__(self) -> str:
        (before, after), removed, warning = self.report.parameters, self.report.removed, self.report.warning()
        threshold = "None" if self.threshold is None else f"{self.threshold:g}"
        return (
            f"{type(self).__name__}(model={type(self.model).__name__}, parameters={before:,} -> {after:,}, "
            f"channels={self.report.channels} -> {self.report.channels - removed}, threshold={threshold}, "
            f"history={self.history!r}{f', {warning=}' if warning else ''})"
        )
