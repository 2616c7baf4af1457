"""DistillationConfig: every option of a distillation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._checks import ArgumentTypeError
from ...options import Kind, changed, choice, documented, option, path
from ..learning import SIZE, SaliencyConfig
from ..losses._basic import Reduction


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
