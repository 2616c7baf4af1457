"""``goctconv prune``: its arguments."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from .._command import Command
from .._types import integer_from, network_size

_DESCRIPTION = """\
Remove channels from a trained network with BatchNorm, and check that this changes nothing: the result gives what the
original gives when the scale of the chosen channels is 0.

MODEL is one of this package's networks or any of timm's. The result goes to DIR, with config.json, model.safetensors
and plan.json. It loads as local-dir:DIR, in all of these commands and in goctconv.create_model. Plain timm, which knows
nothing of the plan, loads a CSNet alone, whose widths are in config.json."""

_EXAMPLES = """\
examples:
  goctconv prune csnet_x1 --weights trained.pth --threshold 1e-20 -o slim
  goctconv prune resnet50 --weights trained.pth --ratio 0.3 -o slim --report slim.html
  goctconv prune local-dir:net --ratio 0.2 --keep 'stages.0*' --keep head -o slim"""

_CRITERIA = ("gamma", "gamma_first", "l1_filter", "geometric_median")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="name, or local-dir:DIR or hf-hub:OWNER/NAME with its weights")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--weights", type=Path, metavar="FILE", help="checkpoint to load")
    weights.add_argument("--pretrained", action="store_true", help="download the model's released weights")
    parser.add_argument("--accept-license", metavar="NAME", help="accept the licence of the weights: cc-by-nc-sa-4.0")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the result")
    parser.add_argument("--overwrite", action="store_true", help="write to a folder that holds something else")

    which = parser.add_argument_group("which channels")
    amount = which.add_mutually_exclusive_group(required=True)
    amount.add_argument("--threshold", type=_threshold, metavar="X", help="all with a score below X, such as 1e-20")
    amount.add_argument("--ratio", type=_ratio, metavar="R", help="the share R of all channels, lowest scores first")
    which.add_argument(
        "--scope",
        choices=("global", "layer"),
        help="whether R is a share of all channels, or of every layer's (default: global, for scores of filters layer)",
    )
    which.add_argument(
        "--max-ratio",
        type=_share,
        default=1.0,
        metavar="R",
        help="the largest share of a layer that is chosen (default: %(default)s)",
    )
    which.add_argument("--criterion", choices=_CRITERIA, default="gamma", help="the score (default: %(default)s)")
    which.add_argument(
        "--bn-bias",
        choices=("keep", "zero"),
        default="keep",
        help="what becomes of the shift of chosen channels (default: %(default)s)",
    )
    which.add_argument(
        "--groups", action="store_true", help="channels that can only go together share their mean score"
    )
    which.add_argument(
        "--keep", action="append", default=[], metavar="GLOB", help="modules that keep all channels; may be repeated"
    )
    which.add_argument("--round-to", type=integer_from(1), metavar="N", help="widths that are multiples of N")
    which.add_argument(
        "--min-channels", type=integer_from(1), default=1, metavar="N", help="of every layer (default: %(default)s)"
    )
    which.add_argument(
        "--size", type=network_size, metavar="N|HxW", help="image for measuring (default: the model's, else 224)"
    )

    report = parser.add_argument_group("report")
    report.add_argument(
        "--report", type=_file(".html", ".htm"), metavar="FILE", help="why each channel stayed, as a page (.html)"
    )
    report.add_argument(
        "--plot", type=_file(".png"), metavar="FILE", help="channels of every layer, as a picture (.png)"
    )
    report.add_argument("--latency", action="store_true", help="measure the time of a forward pass before and after")
    report.add_argument("--json", action="store_true", help="print the report as JSON")


def _threshold(text: str) -> float:
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return value


def _ratio(text: str) -> float:
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share of channels, from 0 to below 1")
    return value


def _share(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share of channels, from 0 to 1")
    return value


def _file(*endings: str) -> Callable[[str], Path]:
    def parse(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in endings:
            raise argparse.ArgumentTypeError(f"{text!r} does not end in {' or '.join(endings)}, as what it holds will")
        return path

    return parse


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _start(args: argparse.Namespace) -> int:
    from ._run import run_prune  # noqa: PLC0415  (timm and Pillow load slowly, and --help needs neither)

    return run_prune(args)


PRUNE = Command(
    name="prune",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    add_arguments=_add_arguments,
    run=_start,
    names={"example_inputs": "--size"},
)
