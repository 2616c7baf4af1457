"""``goctconv info``: the run."""

import argparse

from torch import nn

from ...models import CSF, CSNet, count_macs
from .._command import CommandError
from .._model import create_model
from .._output import tell


def run_info(args: argparse.Namespace) -> int:
    """Print the costs and widths of a network, and return the exit status.

    Raises:
        CommandError: There is no such network, its weights do not load, or it does not take images of this size.
    """
    model = create_model(args.model, weights=args.weights, arguments=args.model_args)
    try:
        costs = _costs(args.model, model, args.size)
    except Exception as error:  # networks of others raise anything on sizes that they do not take
        raise CommandError(f"{args.model} does not run at --size {args.size}: {error}") from error
    tell("\n".join([*costs, *_told_widths(model)]))
    return 0


def _costs(name: str, model: nn.Module, size: int | tuple[int, int]) -> list[str]:
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


def _told_widths(model: nn.Module) -> list[str]:
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
