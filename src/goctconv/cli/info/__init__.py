"""``goctconv info``: its arguments."""

import argparse
from pathlib import Path

from .._command import Command
from .._types import network_size, parse_model_args

_DESCRIPTION = """\
Print what a network costs and how wide it is: parameters, bytes, multiply-accumulate operations, and the channels of
every block at every scale."""

_EXAMPLES = """\
examples:
  goctconv info csnet_x1
  goctconv info csnet_x1 --model-args base_width=13
  goctconv info csnet_x1 --weights pruned.pth   the widths are those of the file
  goctconv info local-dir:my-network --size 352"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="name, or local-dir:DIR or hf-hub:OWNER/NAME")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="checkpoint that names the widths")
    parser.add_argument(
        "--model-args",
        type=parse_model_args,
        default={},
        metavar="'NAME=VALUE ...'",
        help="arguments of the network, such as 'base_width=13'",
    )
    parser.add_argument(
        "--size", type=network_size, default=224, metavar="N|HxW", help="image that is counted (default: %(default)s)"
    )


def _start(args: argparse.Namespace) -> int:
    from ._run import run_info  # noqa: PLC0415  (timm and Pillow load slowly, and --help needs neither)

    return run_info(args)


INFO = Command(
    name="info",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    add_arguments=_add_arguments,
    run=_start,
)
