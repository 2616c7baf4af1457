"""``goctconv prune``: its arguments."""

import argparse
import math
from pathlib import Path

from ._arguments import add_weights, file_ending, integer_from, network_size, number
from ._command import Command, deferred

_DESCRIPTION = """\
Remove channels from a trained network with BatchNorm, and check that this changes nothing: the result gives what the
original gives when gamma of the chosen channels is 0.

MODEL is one of this package's networks or any of timm's. The result goes to DIR, with config.json, model.safetensors
and plan.json. It loads as local-dir:DIR, in all of these commands and in goctconv.create_model. Plain timm, which knows
nothing of the plan, loads a CSNet alone, whose widths are in config.json."""

_EXAMPLES = """\
examples:
  goctconv prune csnet_x1 --weights trained.pth --threshold 1e-20 -o slim
  goctconv prune resnet50 --weights trained.pth --ratio 0.3 -o slim --report slim.html
  goctconv prune local-dir:net --ratio 0.2 --keep 'stages.0*' --keep head -o slim"""

_THRESHOLD = number("a number from 0", lambda value: 0 <= value < math.inf)
_SHARE = number("a share of channels, from 0 to 1", lambda value: 0 <= value <= 1)
_RATIO = number("a share of channels, from 0 to below 1", lambda value: 0 <= value < 1)
_CRITERIA = ("gamma", "gamma_first", "l1_filter", "geometric_median")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="name, or local-dir:DIR or hf-hub:OWNER/NAME with its weights")
    add_weights(parser, "download the model's released weights")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the result")
    parser.add_argument("--overwrite", action="store_true", help="write to a folder that holds something else")

    which = parser.add_argument_group("which channels")
    amount = which.add_mutually_exclusive_group(required=True)
    amount.add_argument("--threshold", type=_THRESHOLD, metavar="X", help="all with a score below X, such as 1e-20")
    amount.add_argument("--ratio", type=_RATIO, metavar="R", help="the share R of all channels, lowest scores first")
    which.add_argument(
        "--scope",
        choices=("global", "layer"),
        help="whether R is a share of all channels, or of every layer's (default: global, for scores of filters layer)",
    )
    which.add_argument(
        "--max-ratio",
        type=_SHARE,
        default=1.0,
        metavar="R",
        help="the largest share of a layer that is chosen (default: %(default)s)",
    )
    which.add_argument("--criterion", choices=_CRITERIA, default="gamma", help="the score (default: %(default)s)")
    which.add_argument(
        "--bn-bias",
        choices=("keep", "zero"),
        default="keep",
        help="what becomes of the bias (beta) of chosen channels (default: %(default)s)",
    )
    which.add_argument(
        "--groups", action="store_true", help="channels that can only go together share their mean score"
    )
    which.add_argument(
        "--balance", action="store_true", help="equally many of every group of a convolution and every piece of a chunk"
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
        "--report", type=file_ending(".html", ".htm"), metavar="FILE", help="why each channel stayed, as a page (.html)"
    )
    report.add_argument(
        "--plot",
        type=file_ending(".png", ".svg", ".pdf"),
        metavar="FILE",
        help="channels of every layer, as a picture (.png)",
    )
    report.add_argument("--latency", action="store_true", help="measure the time of a forward pass before and after")
    report.add_argument("--json", action="store_true", help="print the report as JSON")


PRUNE = Command(
    name="prune",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    add_arguments=_add_arguments,
    run=deferred("_prune_run", "run_prune"),
    names={"checkpoint_path": "--weights", "example_inputs": "--size"},
)
