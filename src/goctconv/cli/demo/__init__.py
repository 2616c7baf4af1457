"""``goctconv demo``: its arguments."""

import argparse
from pathlib import Path

from .._arguments import add_foreground, add_weights, integer_from, network_size
from .._command import Command, CommandError
from .._output import holding

_MODEL = "csnet_x1"
_SIZES = {True: 64, False: 224}  # by whether it learns
_IMAGES = {True: 300, False: 12}

_DESCRIPTION = """\
Train and prune a small network in a few minutes on a CPU, and write report.html about it.

It goes through the whole of the paper's Algorithm 1: it trains with dynamic weight decay, removes the channels
below a threshold, proves that this changed nothing, and fine-tunes. It trains on pictures that the command makes up, or
on photographs with masks in DIR, in a layout that `goctconv evaluate` knows. The folder of --output then holds
report.html, the slim network (model/), the one before pruning (unpruned/), history.csv and plan.json.

With --no-learn, --weights, --pretrained or a saved --model, nothing is learned: report.html shows the maps of that
network for made-up pictures, or for the photographs in DIR, which then need no masks."""

_EXAMPLES = """\
examples:
  goctconv demo
  goctconv demo --data ECSSD --epochs 60
  goctconv demo --data photos --model csnet_x1_l --weights csnet-L-x1.pth.tar

exit status: 0 all done, 1 the network is not clearly better than one map for all pictures, or some photographs failed,
2 wrong arguments or weights"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", help="photographs with masks (default: made-up pictures)")
    add_foreground(parser)
    parser.add_argument(
        "--output", "-o", type=Path, default=Path("goctconv-demo"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument("--model", metavar="NAME", help="default: csnet_x1; to learn, one with half of its blocks")
    parser.add_argument(
        "--size", type=network_size, metavar="N|HxW", help="input size of the net (default: 64, or 224 with --no-learn)"
    )
    parser.add_argument(
        "--images",
        type=integer_from(1),
        metavar="N",
        help="at most that many (default: 300, or 12 with --no-learn)",
    )
    parser.add_argument("--seed", type=integer_from(0), default=0, metavar="N", help="of pictures, weights and order")

    learning = parser.add_argument_group("learning")
    learning.add_argument(
        "--epochs", type=integer_from(1), metavar="N", help="with dynamic weight decay (default: as many as fit)"
    )
    learning.add_argument(
        "--finetune-epochs", type=integer_from(0), metavar="N", help="of the slim network (default: a quarter of that)"
    )

    showing = parser.add_argument_group("showing maps only")
    showing.add_argument("--no-learn", action="store_true", help="show maps of the network as it is")
    add_weights(showing)


def _run(args: argparse.Namespace) -> int:
    """Train, or show maps, and return the exit status."""
    from .._model import is_trained  # noqa: PLC0415  (timm and Pillow load slowly, and --help needs neither)
    from ._learn import run_learn  # noqa: PLC0415
    from ._show import run_show  # noqa: PLC0415

    if args.output.exists() and not args.output.is_dir():
        raise CommandError(f"--output {args.output}: this is a file: give a folder.")
    is_default = args.model is None
    args.model = args.model or _MODEL
    learns = not (args.no_learn or is_trained(args))
    args.size = args.size or _SIZES[learns]
    args.images = args.images or _IMAGES[learns]
    if not learns and (args.epochs is not None or args.finetune_epochs is not None):
        why = "--no-learn" if args.no_learn else "a network with weights, which is shown as it is"
        raise CommandError(f"--epochs and --finetune-epochs are for learning, not for {why}: leave one of them out.")
    with holding(args.output):
        return run_learn(args, is_small=is_default) if learns else run_show(args)


DEMO = Command(
    name="demo",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    add_arguments=_add_arguments,
    run=_run,
    names={"checkpoint_path": "--weights"},
)
