"""``goctconv distill``: the run."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...learning import _distributed as distributed
from ...saliency import SaliencyValidation, find_pairs, split_pairs
from ...saliency._distillation._distill import Lessons as Teaching
from ...saliency._distillation._distill import combined
from ...saliency._distillation._photographs import find_photographs
from ...saliency._distillation._step import TeacherAgreement
from ...saliency._pairs import DataSet, DataSetError
from .._command import CommandError
from .._model import SAVED, create_model
from ..learn._config import Config, Kind
from ..learn._data import Loaders, worker_init
from ..learn._options import Option
from ..learn._run import Lessons, run_learn
from ._options import OPTIONS


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
        maps=config.maps,
        shrink=config.shrink,
        cache=config.cache,
        accumulate=config.accumulate,
        seed=config.seed,
        pin_memory=device.type == "cuda",
    )
    try:
        return _lessons(config, teaching, teacher)
    except (DataSetError, OSError, ValueError) as error:
        text = str(error)
        for python, option in (
            ("lower batch_size, or pass drop_last=False", "lower --batch-size or --accumulate"),
            ("validation=", "--val "),
            ("both need at least one", "both need at least one; --val 0 compares no maps"),
            ("pairs", "photographs"),
        ):
            text = text.replace(python, option)
        raise CommandError(*text.splitlines()) from error


def _teacher(config: DistillConfig) -> nn.Module:
    if config.teacher_weights is None and not config.teacher.startswith(SAVED):
        raise CommandError(
            f"an untrained {config.teacher} teaches nothing: say where its weights are: --teacher-weights FILE, or "
            "--teacher local-dir:DIR of a network that was saved."
        )
    return create_model(config.teacher, weights=config.teacher_weights).eval()


def _lessons(config: DistillConfig, teaching: Teaching, teacher: nn.Module) -> Lessons:
    step = teaching.step(teacher)
    photographs = _joined([find_photographs(path) for path in config.data])
    validate: list[Callable[[nn.Module], dict[str, float]]] = []
    checking = None
    masks = find_pairs(config.val) if isinstance(config.val, Path) else None
    held_out: Any = ()
    if not isinstance(config.val, Path) and config.val:
        photographs, held_out = (
            DataSet("photographs", part) for part in split_pairs(photographs, config.val, seed=config.seed)
        )
    data = teaching.found(photographs, teacher)
    compared = teaching.found(held_out, teacher) if held_out else masks
    loaders = Loaders(teaching.training(data), None)
    loaders.train.worker_init_fn = worker_init
    if compared and not distributed.rank():
        checking = teaching.checking(compared)
        checking.worker_init_fn = worker_init
        validate.append(SaliencyValidation(checking) if masks else TeacherAgreement(checking, step))
    return Lessons(Loaders(loaders.train, checking), step, combined(validate))


def _joined(sources: list[DataSet]) -> DataSet:
    if len(sources) == 1:
        return sources[0]
    return DataSet(
        "photographs",
        tuple(pair._replace(name=f"{source.name}/{pair.name}") for source in sources for pair in source),
    )
