"""What the demo says while it learns."""

from typing import Any

from ...pruning import PruningPlan
from ...training import Callback, TrainingRun
from .._output import tell

_LINES = 12  # about as many epochs are told of


class Lines(Callback):
    """Tells of every few epochs, and of pruning."""

    def on_epoch_end(self, run: TrainingRun, record: Any) -> None:
        """Tell of some epochs: the first, the last, and every few."""
        every = max(1, round(run.epochs / _LINES))
        if record.epoch in {1, run.epochs} or record.epoch % every == 0:
            scores = "".join(f", {_NAMES.get(name, name)} {value:.4f}" for name, value in record.validation.items())
            faded = f", {record.below_threshold} of {record.channels} γ have faded" if record.phase == "train" else ""
            tell(f"{_PHASES[record.phase]} {record.epoch}/{run.epochs}: loss {record.loss:.4f}{scores}{faded}")

    def on_pruned(self, run: TrainingRun, plan: PruningPlan) -> None:  # noqa: ARG002  # the protocol's
        """Tell what was removed."""
        report = plan.report
        before, after = report.parameters
        tell(
            f"pruned: {report.removed} of {report.channels} channels removed, {before:,} -> {after:,} parameters "
            f"({1 - after / before:.1%} went)"
        )


_NAMES = {"mae": "MAE", "max_f": "max F"}
_PHASES = {"train": "training", "finetune": "fine-tuning"}
