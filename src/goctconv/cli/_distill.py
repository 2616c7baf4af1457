"""``goctconv distill``: a small network learns the maps of a large one."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import TEXT, changed, option, path, paths
from ..saliency import DistillationConfig, find_images, find_pairs, grey_map, predict, split_pairs
from ..saliency.data import warn_of_masks, with_rules
from ..saliency.learning import PRESETS
from ._command import Command, CommandError, deferred
from ._training_options import RunKind, RunOptions, add_options

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

    from ..saliency.data import ImagePair
    from ..saliency.learning import Task
    from ._training_page import Target

_DESCRIPTION = """\
Train a small network, the student, to make the maps that a large one, the teacher, makes of photographs. They need no
masks. With --weight-decay 3 the student's channels fade while it learns, those below --threshold are removed, and
--finetune-epochs of distillation follow.

DIR of --images is a folder of photographs, or a data set, whose masks are not looked at. With --maps the teacher's maps
are kept, and it runs once; without, it sees each batch as the student does. DIR of --teacher holds maps that any
network made, grey pictures with the names of the photographs. The run is written to the folder of -o, as that of
goctconv learn, whose other options these are; it goes on with --resume, also with more --epochs, and runs in several
processes: torchrun --nproc-per-node 2 -m goctconv distill ..."""

_EXAMPLES = """\
examples:
  goctconv distill csnet_x1 --teacher local-dir:big --images photos -o run
  goctconv distill csnet_x1 --teacher maps --images photos -o run
  goctconv distill csnet_x1 --images photos --maps maps -o run \\
    --teacher csnet_x2_l --teacher-weights csnet-L-x2.pth.tar
  goctconv distill csnet_x1 --teacher local-dir:big --images photos -o slim \\
    --weight-decay 3 --threshold valley --finetune-epochs 20
  goctconv distill scfnet_mobilenetv3_050 --preset scfnet -o run \\
    --teacher local-dir:big --images photos
  goctconv distill --resume -o run

exit status: 0 learned, 2 wrong arguments or data, a loss that is not finite, or a full disk, 130 interrupted,
143 terminated"""

_CAPTION = "teacher's map"


@dataclass(frozen=True, kw_only=True)
class DistillConfig(DistillationConfig, RunOptions):
    """All options of ``goctconv distill``."""

    student: str = option(
        "", "the student: name, or local-dir:DIR with its weights", replace(TEXT, metavar="STUDENT"), group="network"
    )
    images: tuple[Path, ...] = option((), "folders of photographs, or data sets", paths("DIR"), group="data")
    teacher: str = option(
        "",
        "name, or local-dir:DIR or hf-hub:OWNER/NAME with its weights; or a folder of maps that it made",
        replace(TEXT, metavar="MODEL|DIR"),
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


def make_task(config: DistillConfig, device: torch.device) -> tuple[Task, Target]:
    """Return what is learned from, photographs and what the teacher makes of them, and what maps are shown beside."""
    from ._training_page import TRUE_MASK  # noqa: PLC0415  (timm and torch load slowly, and --help needs neither)

    teacher = _teacher(config, device)
    photographs = find_images(*config.images)
    masks, held_out = None, None
    if isinstance(config.val, Path):
        masks, findings = with_rules(find_pairs(config.val), config.foreground)
        warn_of_masks(findings, kinds=True)
    elif config.val:
        photographs, held_out = (
            replace(photographs, pairs=part) for part in split_pairs(photographs, config.val, seed=config.seed)
        )
    task = config.distillation_task(teacher, photographs, masks, held_out=held_out, pin_memory=device.type == "cuda")
    if masks:
        return task, TRUE_MASK
    return task, TRUE_MASK._replace(caption=_CAPTION) if isinstance(teacher, Path) else _teachers_map(teacher, config)


def _teacher(config: DistillConfig, device: torch.device) -> nn.Module | Path:
    from ._model import SAVED, create_model  # noqa: PLC0415  (timm loads slowly, and --help does not need it)

    if config.teacher_weights is None and (folder := Path(config.teacher)).is_dir():
        return folder
    if config.teacher_weights is None and not config.teacher.startswith(SAVED):
        raise CommandError(
            f"an untrained {config.teacher} teaches nothing: say where its weights are: --teacher-weights FILE, or "
            "--teacher local-dir:DIR of a network that was saved, or --teacher DIR of maps"
        )
    teacher = create_model(config.teacher, weights=config.teacher_weights, option="--teacher-weights")
    return teacher.to(device).eval()


def _teachers_map(teacher: nn.Module, config: DistillConfig) -> Target:
    from PIL import Image  # noqa: PLC0415

    from ._training_page import Target  # noqa: PLC0415

    def picture(_: ImagePair, photograph: Image.Image) -> Image.Image:
        size = config.teacher_size or config.sizes[0]
        return Image.fromarray(grey_map(predict(teacher, [photograph], size=size)[0]))

    return Target(_CAPTION, picture)


DISTILL = Command(
    name="distill",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    add_arguments=functools.partial(add_options, kind=KIND),
    run=deferred("_training_run", "run_training", kind=KIND, prepare=make_task),
    names={"validation": "--val"},
)
