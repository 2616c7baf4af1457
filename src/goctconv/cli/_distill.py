"""``goctconv distill``: a small network learns the maps of a large one."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import TEXT, changed, option, path, paths
from ..saliency import DistillationConfig, find_images, find_pairs, grey_map, predict, split_pairs
from ..saliency.data import DataSet, ImagePair
from ..saliency.distillation import DistillationTask, TeacherAgreement
from ..saliency.learning import PRESETS, SaliencyValidation
from ._command import Command, CommandError
from ._run_options import RunKind, RunOptions, add_options

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

    from ._learned import Target
    from ._run import Task

_DESCRIPTION = """\
Train a small network, the student, to make the maps that a large one, the teacher, makes of photographs. They need no
masks. With --weight-decay 3 the student's channels fade while it learns, those below --threshold are removed, and
--finetune-epochs of distillation follow.

DIR of --images is a folder of photographs, or a data set, whose masks are not looked at. With --maps the teacher's maps
are kept, and it runs once; without, it sees each batch as the student does. The run is written to the folder of -o, as
that of goctconv learn, whose other options these are; it goes on with --resume, and runs in several processes:
torchrun --nproc-per-node 2 -m goctconv distill ..."""

_EXAMPLES = """\
examples:
  goctconv distill csnet_x1 --teacher local-dir:big --images photos -o run
  goctconv distill csnet_x1 --images photos --maps maps -o run \\
    --teacher csnet_x2_l --teacher-weights csnet-L-x2.pth.tar
  goctconv distill csnet_x1 --teacher local-dir:big --images photos -o slim \\
    --weight-decay 3 --threshold valley --finetune-epochs 20
  goctconv distill scfnet_mobilenetv3_050 --preset scfnet -o run \\
    --teacher local-dir:big --images photos
  goctconv distill --resume -o run

exit status: 0 learned, 2 wrong arguments or data, a loss that is not finite, or a full disk, 130 interrupted,
143 terminated"""


@dataclass(frozen=True, kw_only=True)
class DistillConfig(DistillationConfig, RunOptions):
    """All options of ``goctconv distill``."""

    student: str = option(
        "", "the student: name, or local-dir:DIR with its weights", replace(TEXT, metavar="STUDENT"), group="network"
    )
    images: tuple[Path, ...] = option((), "folders of photographs, or data sets", paths("DIR"), group="data")
    teacher: str = option(
        "",
        "name, or local-dir:DIR or hf-hub:OWNER/NAME with its weights",
        replace(TEXT, metavar="MODEL"),
        group="teacher",
    )
    teacher_weights: Path | None = option(None, "its checkpoint", path().optional(), group="teacher")
    preset: str = changed(
        RunOptions, "preset", help=f"where defaults come from, but for network and loss: {', '.join(PRESETS)}"
    )
    val: float | Path = changed(
        RunOptions,
        "val",
        help="share or number of the photographs to compare with the teacher, or folder with masks; 0: none",
    )

    @property
    def model(self) -> str:
        """The network that is trained."""
        return self.student


KIND = RunKind(
    "distill",
    DistillConfig,
    "student",
    {
        "student": "say which network is to learn: goctconv distill STUDENT --teacher MODEL --images DIR",
        "teacher": "say from which network it is to learn: --teacher MODEL",
        "images": "say what to learn from: --images DIR, with photographs",
    },
)


def make_task(config: DistillConfig, device: torch.device) -> Task:
    """Return what is learned from: photographs, and what the teacher makes of them."""
    from ._learned import TRUE_MASK  # noqa: PLC0415  (timm and torch load slowly, and --help needs neither)
    from ._run import Task  # noqa: PLC0415

    teacher = _teacher(config).to(device)
    task = DistillationTask(config, teacher, pin_memory=device.type == "cuda")
    step = task.step()
    photographs = _joined([find_images(folder) for folder in config.images])
    masks = find_pairs(config.val) if isinstance(config.val, Path) else None
    held_out: DataSet | None = None
    if not isinstance(config.val, Path) and config.val:
        photographs, held_out = (
            DataSet("photographs", part) for part in split_pairs(photographs, config.val, seed=config.seed)
        )
    data = task.pairs(photographs)
    compared = masks if held_out is None else task.pairs(held_out)
    loaders = task.loaders(data, compared)
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    if loaders.validation is not None:
        validate = SaliencyValidation(loaders.validation) if masks else TeacherAgreement(loaders.validation, step)
    return Task(loaders, step, validate, TRUE_MASK if masks else _teachers_map(teacher, config))


def _teacher(config: DistillConfig) -> nn.Module:
    from ._model import SAVED, create_model  # noqa: PLC0415  (timm loads slowly, and --help does not need it)

    if config.teacher_weights is None and not config.teacher.startswith(SAVED):
        raise CommandError(
            f"an untrained {config.teacher} teaches nothing: say where its weights are: --teacher-weights FILE, or "
            "--teacher local-dir:DIR of a network that was saved"
        )
    return create_model(config.teacher, weights=config.teacher_weights, option="--teacher-weights").eval()


def _teachers_map(teacher: nn.Module, config: DistillConfig) -> Target:
    from PIL import Image  # noqa: PLC0415

    from ._learned import Target  # noqa: PLC0415

    def picture(_: ImagePair, photograph: Image.Image) -> Image.Image:
        size = config.teacher_size or config.sizes[0]
        return Image.fromarray(grey_map(predict(teacher, [photograph], size=size)[0]))

    return Target("teacher's map", picture)


def _joined(sources: list[DataSet]) -> DataSet:
    if len(sources) == 1:
        return sources[0]
    return DataSet(
        "photographs",
        tuple(pair._replace(name=f"{source.name}/{pair.name}") for source in sources for pair in source),
    )


def _start(args: argparse.Namespace) -> int:
    from ._run import run_training  # noqa: PLC0415  (timm loads slowly, and --help does not need it)

    return run_training(args, KIND, make_task)


DISTILL = Command(
    name="distill",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    add_arguments=functools.partial(add_options, kind=KIND),
    run=_start,
    names={"validation": "--val"},
)
