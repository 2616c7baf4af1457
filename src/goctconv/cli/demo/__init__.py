"""``goctconv demo``: its arguments."""

import argparse
from pathlib import Path

from .._command import Command
from .._types import integer_from, network_size

_DESCRIPTION = """\
Run a network on a few pictures, made up or your own, and write a page that shows its maps.

Without --weights or --pretrained the network is untrained and its maps mean nothing: this shows that everything works,
not what a trained network sees."""

_EXAMPLES = """\
examples:
  goctconv demo
  goctconv demo --data photos --model csnet_x1_l --weights csnet-L-x1.pth.tar"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of photographs (default: made-up pictures)")
    parser.add_argument(
        "--output", "-o", type=Path, default=Path("goctconv-demo"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument("--model", default="csnet_x1", metavar="NAME", help="default: %(default)s")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--weights", type=Path, metavar="FILE", help="checkpoint to load (default: untrained)")
    weights.add_argument("--pretrained", action="store_true", help="download the authors' weights (CC BY-NC-SA 4.0)")
    parser.add_argument("--accept-license", metavar="NAME", help="accept the licence of the weights: cc-by-nc-sa-4.0")
    parser.add_argument(
        "--size", type=network_size, default=224, metavar="N|HxW", help="input size of the net (default: %(default)s)"
    )
    parser.add_argument(
        "--images", type=integer_from(1), default=12, metavar="N", help="how many pictures (default: %(default)s)"
    )
    parser.add_argument("--seed", type=integer_from(0), default=0, metavar="N", help="of pictures and weights")


def _start(args: argparse.Namespace) -> int:
    from ._run import run_demo  # noqa: PLC0415  (timm and Pillow load slowly, and --help needs neither)

    return run_demo(args)


DEMO = Command(
    name="demo",
    summary="show a network's maps of made-up pictures on a page",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    add_arguments=_add_arguments,
    run=_start,
)
