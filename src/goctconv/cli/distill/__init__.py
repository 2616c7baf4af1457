"""``goctconv distill``: its arguments."""

import argparse
from pathlib import Path

from .._command import Command
from ..learn import add_option
from ..learn._options import absolute_path
from ._options import GROUPS, IMAGES, STUDENT

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


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", default=argparse.SUPPRESS, metavar=STUDENT.metavar, help=STUDENT.help)
    for title, options in GROUPS.items():
        group = parser.add_argument_group(title)
        for option in options:
            if option is IMAGES:
                group.add_argument(
                    "--images",
                    dest=option.field,
                    nargs="+",
                    type=absolute_path,
                    default=argparse.SUPPRESS,
                    metavar=option.metavar,
                    help=option.help,
                )
            else:
                add_option(group, option)
        if title == "run":
            group.add_argument("--resume", action="store_true", help="go on with the run in DIR")
            group.add_argument("--config", type=Path, metavar="FILE", help="options in TOML")


def _start(args: argparse.Namespace) -> int:
    from ._run import run_distill  # noqa: PLC0415  (timm and Pillow load slowly, and --help needs neither)

    return run_distill(args)


DISTILL = Command(
    name="distill",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    add_arguments=_add_arguments,
    run=_start,
)
