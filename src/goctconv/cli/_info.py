"""``goctconv info``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ._arguments import network_size, parse_model_args
from ._command import Command, CommandError
from ._output import tell

if TYPE_CHECKING:
    from torch import nn

    from ..models import CSF, CSNet

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


def _run(args: argparse.Namespace) -> int:
    """Print the costs and widths of a network, and return the exit status."""
    from ._model import create_model  # noqa: PLC0415  (torch loads slowly, and --help does not need it)

    model = create_model(args.model, weights=args.weights, arguments=args.model_args)
    try:
        costs = _costs(args.model, model, args.size)
    except Exception as error:  # networks of others raise anything on sizes that they do not take
        raise CommandError(f"{args.model} does not run at --size {args.size}: {error}") from error
    tell("\n".join([*costs, *_described_widths(model)]))
    return 0


def _costs(name: str, model: nn.Module, size: int | tuple[int, int]) -> list[str]:
    from ..models import CSNet, count_macs  # noqa: PLC0415  (the same)

    height, width = (size, size) if isinstance(size, int) else size
    parameters = sum(parameter.numel() for parameter in model.parameters())
    kilobytes = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters()) / 1000
    rows = [
        ("parameters", f"{parameters:,}"),
        ("size", f"{kilobytes:,.0f} KB"),
        (f"MACs at {height}x{width}", f"{count_macs(model, (height, width)) / 1e9:.4f} G (convolutions)"),
    ]
    if isinstance(model, CSNet):
        paper = count_macs(model, (height, width), convention="paper")
        rows.append(("", f"{paper / 1e9:.4f} G (as the paper counts)"))
    return [name, *(f"  {label:<20} {value}" for label, value in rows)]


def _described_widths(model: nn.Module) -> list[str]:
    from ..models import CSF, CSNet  # noqa: PLC0415  (the same)

    if isinstance(model, CSNet):
        return _widths(model)
    return _head_widths(model) if isinstance(model, CSF) else []


def _head_widths(model: CSF) -> list[str]:
    backbone = sum(parameter.numel() for parameter in model.backbone.parameters())
    levels = [f"{info['num_chs']} (1/{info['reduction']})" for info in model.feature_info]
    return [
        f"  backbone             {model.backbone_name}: {backbone:,} parameters",
        f"    levels             {' '.join(levels)}",
        "  channels of the head",
        f"    fuse               {' '.join(map(str, model.channels['fuse']))}",
        f"    dilated 1 2 4 8 16 {' | '.join(' '.join(map(str, row)) for row in model.channels['dilated'])}",
        f"    fused              {model.channels['fused']}",
    ]


def _widths(model: CSNet) -> list[str]:
    lines = ["  channels of each block (high low, or one scale)"]
    for stage, blocks in enumerate(model.channels["stages"]):
        shown = [str(width) if isinstance(width, int) else "{} {}".format(*width) for width in blocks]
        lines.append(f"    stage {stage}              {' | '.join(shown)}")
    if model.fuse_stages:
        lines += [
            f"    fused stages         {' '.join(map(str, model.fuse_stages))}",
            f"    fuse                 {' '.join(map(str, model.channels['fuse']))}",
            f"    dilated 1 2 4 8 16   {' | '.join(' '.join(map(str, row)) for row in model.channels['dilated'])}",
            f"    fused                {model.channels['fused']}",
        ]
    return lines


INFO = Command(
    name="info",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    add_arguments=_add_arguments,
    run=_run,
    names={"checkpoint_path": "--weights"},
)
