"""``goctconv predict -``: from standard input to standard output."""

import argparse
import io
import sys

from ...saliency import ImageError
from ...saliency.inference import prepare
from .._command import CommandError
from .._model import unusable
from .._output import say, write_bytes
from ._network import make_predictor
from ._results import make_pictures, max_pixels, save_png, wanted_kinds

_NAME = "standard input"


def run_stream(args: argparse.Namespace) -> int:
    """Read an image from stdin and write the PNG of its map (or cutout, or overlay) to stdout.

    Raises:
        CommandError: The arguments contradict each other, the model cannot be used, or a stream is closed or broken.
    """
    kind = _check(args)
    predictor = make_predictor(args)
    data = _read_stdin()
    try:
        prepared = prepare(data, predictor.size, max_pixels(args), _NAME)
        probability = predictor.infer([prepared.pixels])[0]
        ((_, picture),) = make_pictures(data, probability, prepared.size, args, [kind], _NAME)
    except ImageError as error:
        say(f"goctconv: {error}")
        return 1
    except ValueError as error:
        raise unusable(error) from error
    png = io.BytesIO()
    save_png(picture, png)
    write_bytes(png.getvalue())
    return 0


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise CommandError("standard input is closed: redirect an image to it, like <cat.jpg.")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise CommandError(f"standard input cannot be read ({error.strerror or error}).") from error


def _check(args: argparse.Namespace) -> str:
    if len(args.inputs) > 1:
        raise CommandError('"-" stands for one image on standard input: give no other INPUT with it.')
    if args.output is not None:
        raise CommandError('the result of "-" goes to standard output: drop -o, and redirect it, like >map.png.')
    if args.cutout and args.overlay:
        raise CommandError("standard output takes one picture: choose --cutout or --overlay.")
    if sys.stdout is None:
        raise CommandError("standard output is closed: redirect it, like >map.png.")
    if sys.stdout.isatty():
        raise CommandError("a PNG would be printed on the terminal: redirect standard output, like >map.png.")
    return wanted_kinds(args)[-1]
