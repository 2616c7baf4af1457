"""``goctconv distill``: the run."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from ... import _distributed as distributed
from ...saliency import (
    DataSet,
    DataSetError,
    ImagePair,
    SaliencyValidation,
    find_images,
    find_pairs,
    grey_map,
    predict,
    split_pairs,
)
from ...saliency.data import BothLoaders
from ...saliency.distillation._distill import Lessons as Teaching
from ...saliency.distillation._step import TeacherAgreement
from .._command import CommandError
from .._learned import TRUE_MASK, Target
from .._model import SAVED, create_model
from ..learn._config import Config, Kind
from ..learn._data import in_options
from ..learn._lessons import Lessons
from ..learn._options import Option
from ..learn._recipe import transforms
from ..learn._run import run_learn
from ._options import OPTIONS, OWN


@dataclass(frozen=True)
class DistillConfig(Config):
    """The value of every option; the options document them."""

    teacher: str
    teacher_weights: Path | None
    teacher_size: int | tuple[int, int] | None
    teacher_amp: str
    maps: Path | None

    def to_toml(self, options: Mapping[str, Option] = OPTIONS) -> str:
        """Return all options as TOML."""
        return super().to_toml(options)


KIND = Kind(
    "distill",
    OPTIONS,
    DistillConfig,
    {
        "student": "say which network is to learn: goctconv distill STUDENT --teacher MODEL --images DIR.",
        "teacher": "say from which network it is to learn: --teacher MODEL.",
        "images": "say what to learn from: --images DIR, with photographs.",
    },
    OWN,
)


def run_distill(args: argparse.Namespace) -> int:
    """Distil a network and return the exit status.

    Raises:
        CommandError: Arguments, photographs or a network are not usable, the loss is not finite, or a file cannot be
            written.
        KeyboardInterrupt: The user has interrupted the run; it says how to go on.
    """
    return run_learn(args, KIND, lessons_of_teacher)


def lessons_of_teacher(config: DistillConfig, device: torch.device) -> Lessons:
    """Return what is learned from: photographs, and what the teacher makes of them.

    Raises:
        CommandError: There are none, or too few, or the teacher cannot be used.
    """
    teacher = _teacher(config).to(device)
    teaching = Teaching(
        sizes=config.size,
        batch_size=config.batch_size,
        workers=config.workers,
        loss=config.loss,
        teacher_size=config.teacher_size,
        teacher_amp=None if config.teacher_amp == "none" else config.teacher_amp,
        reduction=config.reduction,
        maps=config.maps,
        transforms=transforms(config),
        shrink=config.shrink,
        cache=config.cache,
        accumulate=config.accumulate,
        seed=config.seed,
        pin_memory=device.type == "cuda",
    )
    try:
        return _lessons(config, teaching, teacher)
    except (DataSetError, OSError, ValueError) as error:
        raise in_options(error, ("pairs", "photographs"), ("teacher_size=", "--teacher-size ")) from error


def _teacher(config: DistillConfig) -> nn.Module:
    if config.teacher_weights is None and not config.teacher.startswith(SAVED):
        raise CommandError(
            f"an untrained {config.teacher} teaches nothing: say where its weights are: --teacher-weights FILE, or "
            "--teacher local-dir:DIR of a network that was saved."
        )
    try:
        return create_model(config.teacher, weights=config.teacher_weights).eval()
    except CommandError as error:
        raise CommandError(*(str(line).replace("--weights", "--teacher-weights") for line in error.args)) from error


def _lessons(config: DistillConfig, teaching: Teaching, teacher: nn.Module) -> Lessons:
    step = teaching.step(teacher)
    photographs = _joined([find_images(path) for path in config.data])
    masks = find_pairs(config.val) if isinstance(config.val, Path) else None
    held_out: Any = ()
    if not isinstance(config.val, Path) and config.val:
        photographs, held_out = (
            DataSet("photographs", part) for part in split_pairs(photographs, config.val, seed=config.seed)
        )
    data = teaching.found(photographs, teacher)
    compared = teaching.found(held_out, teacher) if held_out else masks
    checking = teaching.checking(compared) if compared and not distributed.rank() else None
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    if checking is not None:
        validate = SaliencyValidation(checking) if masks else TeacherAgreement(checking, step)
    target = TRUE_MASK if masks else _teachers_map(teacher, config)
    return Lessons(BothLoaders(teaching.training(data), checking), step, validate, target)


def _teachers_map(teacher: nn.Module, config: DistillConfig) -> Target:
    size = config.teacher_size or config.size[0]

    def picture(_: ImagePair, photograph: Image.Image) -> Image.Image:
        return Image.fromarray(grey_map(predict(teacher, [photograph], size=size)[0]))

    return Target("teacher's map", picture)


def _joined(sources: list[DataSet]) -> DataSet:
    if len(sources) == 1:
        return sources[0]
    return DataSet(
        "photographs",
        tuple(pair._replace(name=f"{source.name}/{pair.name}") for source in sources for pair in source),
    )
