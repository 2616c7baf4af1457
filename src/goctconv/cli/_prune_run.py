"""``goctconv prune``: the run."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import ArgumentError
from ..models import save_pruned
from ..pruning import PruningError, PruningResult, prune_channels
from ..report import channel_widths, pruning_page
from ._command import CommandError, spelling
from ._model import create_asked_model, input_size, is_trained
from ._output import check_picture, names_in, say, shorten, tell, write_file, writing

_WRITTEN = {"config.json", "model.safetensors", "plan.json"}
_LISTED = 3
_OPTIONS = (
    *("threshold", "ratio", "scope", "max_ratio", "criterion", "groups", "balance", "bn_bias", "keep", "round_to"),
    *("min_channels", "latency"),
)


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
            save_pruned(result, args.output, base=args.model)
    except ValueError as error:
        raise CommandError(f"{args.output}: nothing was written, for {error}") from error
    if args.report:
        write_file(args.report, pruning_page(report, f"Removed channels of {args.model}"))
    if args.plot:
        with writing(args.plot):
            channel_widths(report, title=f"Channels of {args.model} before and after pruning").save(args.plot)
    document = {"model": args.model, "output": str(args.output), **report.to_dict()}
    tell(json.dumps(document, indent=1) if args.json else report.text(spelling(args)))
    needs_plan = getattr(result.model, "backbone_is_pruned", True)  # of our networks, the arguments may hold all widths
    ways = f"in Python goctconv.load_pruned({str(args.output)!r})" if needs_plan else "in plain timm too"
    say(f"{args.output}: load it as local-dir:{args.output}; {ways}")
    return 0


def _check_outputs(args: argparse.Namespace) -> None:
    """Find out what cannot be written before the work begins."""
    names = set() if args.overwrite and args.output.is_dir() else set(names_in(args.output))
    cure = "name another folder, or let --overwrite replace files of the same names."
    scheme, _, source = args.model.partition(":")
    if names and scheme == "local-dir" and Path(source).resolve() == args.output.resolve():
        raise CommandError(f"--output {args.output}: this folder holds the network that is to be pruned: {cure}")
    if names and not names >= _WRITTEN:
        held = shorten(sorted(names), limit=_LISTED)
        raise CommandError(f"--output {args.output}: this folder holds other things ({held}): {cure}")
    if args.plot:
        check_picture()


def _pruned(args: argparse.Namespace, model: nn.Module) -> PruningResult:
    options = {name: getattr(args, name) for name in _OPTIONS}
    try:
        return prune_channels(model, _example(args, model), **options)
    except (PruningError, ArgumentError) as error:
        raise CommandError(f"{args.model} is not pruned: {error.text(spelling(args))}") from error


def _example(args: argparse.Namespace, model: nn.Module) -> Tensor:
    """Return an image of the size that is asked for, or that the model is made for."""
    made_for: Any = getattr(model, "pretrained_cfg", None) or {}
    channels, *own = made_for.get("input_size") or (3, 224, 224)
    height, width = input_size(args.size) if args.size else own
    return torch.zeros(1, getattr(model, "in_chans", channels), height, width)
