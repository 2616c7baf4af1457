"""``goctconv demo``: which of its two things it does."""

import argparse

from .._command import CommandError
from .._model import is_trained
from ._learn import run_learn
from ._show import run_show

MODEL = "csnet_x1"
_SIZES = {True: 64, False: 224}  # by whether it learns
_IMAGES = {True: 300, False: 12}


def run_demo(args: argparse.Namespace) -> int:
    """Learn, or show maps, and return the exit status.

    Raises:
        CommandError: The arguments do not go together, or as in `run_learn` and `run_show`.
    """
    if args.output.exists() and not args.output.is_dir():
        raise CommandError(f"--output {args.output}: this is a file: give a folder.")
    is_default = args.model is None
    args.model = args.model or MODEL
    learns = not (args.no_learn or is_trained(args))
    args.size = args.size or _SIZES[learns]
    args.images = args.images or _IMAGES[learns]
    if learns:
        return run_learn(args, is_small=is_default)
    if args.epochs is not None or args.finetune_epochs is not None:
        why = "--no-learn" if args.no_learn else "a network with weights, which is shown as it is"
        raise CommandError(f"--epochs and --finetune-epochs are for learning, not for {why}: leave one of them out.")
    return run_show(args)
