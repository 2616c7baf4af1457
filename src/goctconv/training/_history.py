"""What a run of learning went through, step by step and epoch by epoch, as plain data."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ._gammas import HISTOGRAM_EDGES, QUANTILES


@dataclass(frozen=True)
class StepRecord:
    """One step of the optimizer.

    Attributes:
        phase: "train" or "finetune".
        epoch: The number of the epoch, over both phases, from 1.
        step: The number of the step in its epoch, from 1.
        loss: The mean over the images of the step, of all processes.
        learning_rate: Of the first param group.

    Example:
        >>> from goctconv.training import StepRecord
        >>> StepRecord("train", epoch=1, step=1, loss=0.7, learning_rate=1e-4).loss
        0.7
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
        dead: How many channels have an abs(γ) below the threshold.
        channels: How many channels have a γ that decays dynamically, or did.
        quantiles: Of abs(γ): 0, 5, 25, 50, 75, 95 and 100 %.
        histogram: The numbers of log10 abs(γ) in half decades from -25 to 2.
        validation: What ``validate`` returned.

    Example:
        >>> from goctconv.training import EpochRecord
        >>> EpochRecord("train", epoch=1, loss=0.7, learning_rate=1e-4, images=160, seconds=8.0).images_per_second
        20.0
    """

    phase: str
    epoch: int
    loss: float
    learning_rate: float
    images: int
    seconds: float
    dead: int = 0
    channels: int = 0
    quantiles: list[float] = field(default_factory=list)
    histogram: list[int] = field(default_factory=list)
    validation: dict[str, float] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Images of all processes per second of training."""
        return self.images / self.seconds if self.seconds else 0.0

    def columns(self) -> dict[str, Any]:
        """Return one value for each column of a table; the histogram is left out."""
        values = {key: value for key, value in vars(self).items() if not isinstance(value, list | dict)}
        spread = zip(QUANTILES, self.quantiles, strict=False)
        return {
            **values,
            "images_per_second": self.images_per_second,
            **{f"scale_{round(share * 100)}": value for share, value in spread},
            **{f"validation_{name}": value for name, value in self.validation.items()},
        }


@dataclass(repr=False)
class TrainingHistory:
    """All steps and epochs of a run, over both phases and all interruptions.

    Attributes:
        epochs: The epochs that are done.
        steps: Their steps, and those of the epoch that runs.

    Example:
        >>> from goctconv.training import EpochRecord, TrainingHistory
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
            name: Such as ``"loss"``, ``"dead"`` or what ``validate`` calls it.
            phase: "train", "finetune", or None for both.

        Raises:
            KeyError: No epoch has it.
        """
        chosen = [one for one in self.epochs if phase is None or one.phase == phase]
        tables = [{**asdict(one), "images_per_second": one.images_per_second, **one.validation} for one in chosen]
        found = [table[name] for table in tables if name in table]
        if chosen and not found:
            raise KeyError(f"no epoch has {name!r}: there are {', '.join(tables[0])}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data, ready for JSON."""
        return {
            "epochs": [asdict(one) for one in self.epochs],
            "steps": {key: [getattr(one, key) for one in self.steps] for key in StepRecord.__annotations__},
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
            return cls([EpochRecord(**one) for one in data["epochs"]], steps)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no history of learning ({type(error).__name__}: {error})") from error

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a table of the epochs, one a line; the file is replaced at once, so that readers find it complete."""
        tables = [one.columns() for one in self.epochs]
        names = list(dict.fromkeys(name for table in tables for name in table))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(tables)
        _replace(path, text.getvalue())

    def to_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON object a line, of ``"kind"`` "step" or "epoch"; an epoch follows its steps."""
        lines = []
        left = list(reversed(self.steps))
        for epoch in self.epochs:
            while left and left[-1].epoch <= epoch.epoch:
                lines.append({"kind": "step", **asdict(left.pop())})
            lines.append({"kind": "epoch", **asdict(epoch), "images_per_second": epoch.images_per_second})
        lines += [{"kind": "step", **asdict(one)} for one in reversed(left)]
        _replace(path, "".join(f"{json.dumps(line)}\n" for line in lines))


def _replace(path: str | os.PathLike[str], text: str) -> None:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(target)
