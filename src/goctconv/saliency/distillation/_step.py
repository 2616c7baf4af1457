"""Comparison of a student with its teacher, batch by batch and after each epoch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..._checks import check_choice
from ...graph import evaluating
from ..data import Batch, DataSetError, SaliencyLoader
from ..inference import all_outputs
from ..learning import REDUCTIONS
from ..losses import DeepSupervision, get_loss
from ..losses._basic import Reduction, reduced
from ..losses._combine import Loss, tell_epoch
from ._teacher import Teacher


class DistillationStep:
    """The loss of a batch against the maps of a teacher.

    Every output of a student with a ``forward_multi`` is compared with the teacher's first, with the weights 1, ½, ¼, ⅛
    and so on; of others the only output.

    Args:
        teacher: A network that returns logits (B, 1, H, W), which is in eval mode while it runs; None: the masks of a
            batch are its maps.
        loss: A name of `goctconv.saliency.losses.get_loss`, or a function of logits and maps of probabilities.
        weights: Of the outputs.
        reduction: As in `SaliencyStep`.
        size: What images are resized to for the teacher; by default they stay as they are.
        amp: Mixed precision of the teacher: ``"bf16"``, ``"fp16"`` or None.

    Source: KD-SCFNet (Zhang et al., 2022): the dice loss between the student's outputs and the teacher's first.
    """

    def __init__(
        self,
        teacher: nn.Module | None,
        *,
        loss: str | Loss = "dice",
        weights: Sequence[float] | None = None,
        reduction: Reduction = "mean",
        size: int | tuple[int, int] | None = None,
        amp: str | None = None,
    ) -> None:
        self.teacher = None if teacher is None else Teacher(teacher, size=size, amp=amp)
        self.loss = DeepSupervision(get_loss(loss) if isinstance(loss, str) else loss, weights)
        self.reduction = check_choice("reduction", reduction, REDUCTIONS)
        self.teacher_text = ""

    def targets(self, batch: Batch) -> Tensor:
        """Return the teacher's probabilities of a batch, (B, 1, H, W)."""
        return batch.masks if self.teacher is None else self.teacher(batch.images)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of a student for a batch."""
        outputs = all_outputs(model, batch.images)  # first: finding the inputs of the model needs no more
        maps = self.targets(batch)
        return reduced(self.loss(outputs, maps), maps, self.reduction)

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, from 0, to a loss that changes from epoch to epoch."""
        tell_epoch(self.loss, epoch)

    def described(self) -> str:
        """Return a text that tells this step from others, so that a run is not resumed with another teacher."""
        if not self.teacher_text:
            self.teacher_text = "maps" if self.teacher is None else f"teacher {self.teacher.fingerprint()}"
        return f"{self.teacher_text}, {self.loss!r}, {self.reduction}"


class TeacherAgreement:
    """The mean absolute difference of a student's maps to a teacher's, at the network's input size.

    Args:
        loader: Gives photographs that are not learned from.
        step: Knows the teacher.
    """

    def __init__(self, loader: SaliencyLoader, step: DistillationStep) -> None:
        self.loader = loader
        self.step = step

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Return ``teacher_mae``, the mean over photographs."""
        parameter = next(model.parameters())
        total, images = 0.0, 0
        with evaluating(model):
            for given in self.loader:
                batch = given.to(parameter.device)
                maps = model(batch.images.to(parameter.dtype)).float().sigmoid()
                total += float((maps - self.step.targets(batch)).abs().mean((1, 2, 3)).double().sum())
                images += len(batch.images)
        if not images:
            name, why = next(iter(self.loader.skipped.items()))
            raise DataSetError(
                f"none of the {len(self.loader.pairs)} photographs to compare with can be read: {name}: {why}"
            )
        return {"teacher_mae": total / images}
