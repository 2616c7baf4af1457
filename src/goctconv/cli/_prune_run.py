"""``goctconv prune``: the run."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import ArgumentError
from ..models import save_pruned
from ..models.hub import PLAN, holds_its_widths, whole_plan
from ..pruning import PruningError, PruningReport, PruningResult, prune_channels
from ..report import channel_widths, pruning_page
from ._command import CommandError, spelling
from ._model import create_asked_model, input_size, is_trained
from ._output import check_picture, say, shorten, tell, write_file, writing

_WRITTEN = {"config.json", "model.safetensors", PLAN}
_LISTED = 3


def run_prune(args: argparse.Namespace) -> int:
    """Prune a network, save it and report, and return the exit status."""
    _check_outputs(args)
    model = create_asked_model(args).eval()
    if not is_trained(args):
        say(f"goctconv: note: {args.model} is untrained, so which of its channels matter is open: see --weights.")
    result = _pruned(args, model)
    report = result.report
    try:
        with writing(args.output):
            save_pruned(result.model, args.output, whole_plan(args.model, result.plan))
    except ValueError as error:
        raise CommandError(f"{args.output}: nothing was written, for {error}") from error
    if args.report:
        write_file(args.report, pruning_page(report, f"Removed channels of {args.model}"))
    if args.plot:
        with writing(args.plot):
            channel_widths(report, title=f"Channels of {args.model} before and after pruning").save(args.plot)
    tell(json.dumps(_as_json(args, report), indent=1) if args.json else report.text(spelling(args)))
    ways = (
        "in plain timm too"
        if holds_its_widths(result.model)
        else f"in Python goctconv.load_pruned({str(args.output)!r})"
    )
    say(f"{args.output}: load it as local-dir:{args.output}; {ways}")
    return 0


def _check_outputs(args: argparse.Namespace) -> None:
    """Find out what cannot be written before the work begins."""
    if args.output.exists() and not args.output.is_dir():
        raise CommandError(f"--output {args.output}: this is a file: name a folder")
    if args.output.is_dir() and not args.overwrite:
        _check_folder(args)
    if args.plot:
        check_picture()


def _check_folder(args: argparse.Namespace) -> None:
    cure = "name another folder, or let --overwrite replace files of the same names."
    scheme, _, source = args.model.partition(":")
    if scheme == "local-dir" and Path(source).resolve() == args.output.resolve():
        raise CommandError(f"--output {args.output}: this folder holds the network that is to be pruned: {cure}")
    try:
        names = sorted(path.name for path in args.output.iterdir())
    except OSError as error:
        raise CommandError(f"--output {args.output}: cannot be read ({error.strerror or error})") from error
    if names and not set(names) >= _WRITTEN:
        held = shorten(names, limit=_LISTED)
        raise CommandError(f"--output {args.output}: this folder holds other things ({held}): {cure}")


def _pruned(args: argparse.Namespace, model: nn.Module) -> PruningResult:
    try:
        return prune_channels(
            model,
            _example(args, model),
            threshold=args.threshold,
            ratio=args.ratio,
            scope=args.scope,
            max_ratio=args.max_ratio,
            criterion=args.criterion,
            groups=args.groups,
            bn_bias=args.bn_bias,
            keep=args.keep,
            round_to=args.round_to,
            min_channels=args.min_channels,
            latency=args.latency,
        )
    except (PruningError, ArgumentError) as error:
        raise CommandError(f"{args.model} is not pruned: {error.text(spelling(args))}") from error


def _example(args: argparse.Namespace, model: nn.Module) -> Tensor:
    """Return an image of the size that is asked for, or that the model is made for."""
    made_for: Any = getattr(model, "pretrained_cfg", None) or {}
    channels, *own = made_for.get("input_size") or (3, 224, 224)
    height, width = input_size(args.size) if args.size else own
    return torch.zeros(1, getattr(model, "in_chans", channels), height, width)


def _as_json(args: argparse.Namespace, report: PruningReport) -> dict[str, Any]:
    return {"model": args.model, "output": str(args.output), **report.to_dict()}
