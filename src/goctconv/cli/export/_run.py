"""``goctconv export``: the run."""

import argparse
import logging

from ...deployment import ExportError, export_onnx
from .._command import CommandError
from .._messages import say
from .._model import load_trained_model


def run_export(args: argparse.Namespace) -> int:
    """Write the ONNX file, and return the exit status.

    Raises:
        CommandError: The network has no weights, cannot be exported, or the file cannot be written.
    """
    model = load_trained_model(args)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        export_onnx(model, args.onnx, size=args.size)
    except (ExportError, ImportError, OSError) as error:
        raise CommandError(str(error).replace("size=", "--size")) from error
    kilobytes = args.onnx.stat().st_size / 1000
    where = "four sizes" if args.size is None else "this size"
    say(f"{args.onnx}: {kilobytes:,.0f} KB, equal to the original at {where}")
    return 0
