"""DistillationConfig: every option of a distillation."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..._checks import ArgumentError, ArgumentTypeError
from ...options import Kind, changed, choice, documented, option, path
from .._resize import Size, check_size_or_own
from ..data import DataSet, Photographs, SkippedPairWarning, both_loaders, find_images, find_taught, listed
from ..learning import SIZE, Pairs, SaliencyConfig, SaliencyValidation, Task, found_pairs
from ..losses._basic import Reduction
from ..transforms._sample import Transform
from ._teacher import DistillationStep, Teacher, TeacherAgreement, with_maps


def _check_teacher_size(name: str, value: Any) -> Any:
    if isinstance(value, str):
        raise ArgumentTypeError(name, value, "a number of pixels, or height and width")
    return SIZE.check(name, value)


@documented
@dataclass(frozen=True, kw_only=True)
class DistillationConfig(SaliencyConfig):
    """The options of `distill`, added to those of `SaliencyConfig`.

    Raises:
        ArgumentError: A value that cannot be, or values that contradict each other.
        ArgumentTypeError: An unknown option, or a value of another type.

    Example:
        >>> from goctconv.saliency import DistillationConfig
        >>> config = DistillationConfig(epochs=30, teacher_size=352)
        >>> config.loss, config.weight_decay, config.threshold
        ('dice', 0.0, None)
    """

    teacher_size: int | tuple[int, int] | None = option(
        None,
        "size of images for the teacher: a number or height and width; if not given, the student's, with {maps} the "
        "largest of these",
        Kind(_check_teacher_size, SIZE.parse, SIZE.metavar).optional(),
        group="teacher",
    )
    teacher_amp: str | None = option(
        None,
        "mixed precision of the teacher: bf16, fp16 or none",
        choice("bf16", "fp16", metavar="KIND").optional("none"),
        group="teacher",
    )
    maps: Path | None = option(
        None, "folder for the teacher's maps, which it then makes only once", path("DIR").optional(), group="teacher"
    )
    output_weights: Sequence[float] | None = option(None, "weights of the student's outputs; None: 1, ½, ¼, ⅛")
    epochs: int = changed(SaliencyConfig, "epochs", help="epochs of distillation")
    finetune_epochs: int = changed(
        SaliencyConfig, "finetune_epochs", default=0, help="epochs of distillation after channels were removed"
    )
    weight_decay: float = changed(
        SaliencyConfig, "weight_decay", default=0.0, help="λ of dynamic weight decay; 3 is published, 0: none"
    )
    threshold: float | str | None = changed(SaliencyConfig, "threshold", default=None)
    loss: Any = changed(SaliencyConfig, "loss", default="dice", in_presets=False)
    reduction: Reduction = changed(SaliencyConfig, "reduction", in_presets=False)

    def distillation_task(
        self,
        teacher: nn.Module | str | os.PathLike[str],
        images: Photographs,
        validation: Pairs | None = None,
        *,
        held_out: Photographs | None = None,
        transforms: Iterable[Transform] | None = None,
        pin_memory: bool = False,
    ) -> Task:
        """Return the ``loaders``, ``step`` and ``validate`` that `distill` gives to `goctconv.learn_channels`.

        Args:
            teacher: The trained network, on the device where the student is; or a folder of its maps, as for `distill`.
            images: As for `distill`.
            validation: As for `distill`, where nothing is ``held_out``.
            held_out: As for `distill`.
            transforms: As for `distill`.
            pin_memory: Whether tensors are put into page-locked memory, from where GPUs copy faster.
        """
        step = DistillationStep(None, loss=self.loss, weights=self.output_weights, reduction=self.reduction)
        if isinstance(teacher, nn.Module):
            taught: Teacher | Path = Teacher(teacher, size=self.teacher_size, amp=self.teacher_amp)
        else:
            taught = self._check_folder(teacher)
        if isinstance(taught, Path):
            step.maps = f"maps in {taught.name}"
        elif self.maps:  # the teacher is not needed any more, but named
            step.maps = f"maps of teacher {taught.fingerprint()}, {self.teacher_size or self._largest()}"
        else:
            step.teacher = taught
        photographs = self._with_maps(images, taught)
        compared = None if validation is None else found_pairs(validation)
        if held_out is not None:
            compared = self._with_maps(held_out, taught)
        options = self.loader_options() | ({} if transforms is None else {"transforms": transforms})
        loaders = both_loaders(photographs, compared, **options, pin_memory=pin_memory)
        if loaders.validation is None:
            return Task(loaders, step, None)
        agreement = None if held_out is None else TeacherAgreement(loaders.validation, step)
        return Task(loaders, step, agreement or SaliencyValidation(loaders.validation))

    def _check_folder(self, teacher: str | os.PathLike[str]) -> Path:
        """Return the folder of a teacher's maps, which need no options of a teacher that runs."""
        for name in ("maps", "teacher_size", "teacher_amp"):
            if getattr(self, name) is not None:
                problem = f"is for a teacher that makes maps, and {{teacher={str(teacher)!r}}} is a folder of maps"
                raise ArgumentError(name, getattr(self, name), problem=problem, cure="leave it out")
        return Path(teacher)

    def _with_maps(self, photographs: Photographs, teacher: Teacher | Path) -> DataSet:
        """Return photographs, with the teacher's maps of them where these are kept."""
        if isinstance(teacher, Path):
            found = find_taught(photographs, teacher)
            if found.lone_images:
                names = listed(str(image) for image in found.lone_images)
                problem = f"{len(found.lone_images)} of {len(found) + len(found.lone_images)} photographs have no map"
                warnings.warn(f"{problem} in {teacher} and are skipped: {names}", SkippedPairWarning, stacklevel=4)
            return found
        data = find_images(photographs)
        if self.maps is None:
            return data
        return with_maps(data, teacher, self.maps, size=self._largest(), batch_size=self.batch_size)

    def _largest(self) -> Size:
        """Return the size of the most pixels; that of each photograph where it keeps its own."""
        return max(self.sizes, key=lambda size: math.prod(check_size_or_own(size) or [math.inf]))
