"""What a run of learning gives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..pruning import PruningPlan, PruningReport
from ._history import TrainingHistory
from ._threshold import Threshold


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

    Example:
        >>> import torch
        >>> from goctconv import learn_channels
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 1, 3)
        ... )
        >>> batches = [(torch.rand(4, 3, 8, 8), torch.rand(4, 1, 4, 4))]
        >>> loss = torch.nn.functional.mse_loss
        >>> result = learn_channels(model, batches, loss, epochs=1, finetune_epochs=1, threshold=0.9999)
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

    def __repr__(self) -> str:
        (before, after), removed = self.report.parameters, self.report.removed
        threshold = "None" if self.threshold is None else f"{self.threshold:g}"
        return (
            f"{type(self).__name__}(model={type(self.model).__name__}, parameters={before:,} -> {after:,}, "
            f"channels={self.report.channels} -> {self.report.channels - removed}, threshold={threshold}, "
            f"history={self.history!r})"
        )
