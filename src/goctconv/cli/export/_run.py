"""``goctconv export``: the run."""

import argparse
import logging
import re
from pathlib import Path

import torch

from ...deployment import ExportError, export_onnx, export_openvino
from .._command import CommandError
from .._model import load_trained_model
from .._output import say

_DTYPES = {"float32": torch.float32, "float16": torch.float16}


def run_export(args: argparse.Namespace) -> int:
    """Write the files, and return the exit status.

    Raises:
        CommandError: No file is asked for, the network has no weights or cannot be exported, or a file cannot be
            written.
    """
    if args.onnx is None and args.openvino is None:
        raise CommandError("say what to write: --onnx FILE or --openvino FILE.xml.")
    if args.onnx is not None and args.onnx.suffix == ".xml":
        raise CommandError(f"--onnx {args.onnx}: .xml is OpenVINO's: name it .onnx, or use --openvino.")
    model = load_trained_model(args)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    dtype = _DTYPES[args.dtype]
    try:
        if args.onnx is not None:
            export_onnx(model, args.onnx, size=args.size, dtype=dtype, keep_prelu=args.keep_prelu)
            _tell(args, args.onnx)
        if args.openvino is not None:
            export_openvino(model, args.openvino, size=args.size, dtype=dtype)
            _tell(args, args.openvino, args.openvino.with_suffix(".bin"))
    except (ExportError, ImportError, OSError, ValueError) as error:
        raise CommandError(re.sub(r"\bsize=", "--size ", str(error))) from error
    return 0


def _tell(args: argparse.Namespace, *written: Path) -> None:
    kilobytes = sum(one.stat().st_size for one in written) / 1000
    where = "four sizes" if args.size is None else "this size"
    say(f"{written[0]}: {kilobytes:,.0f} KB, equal to the original at {where}")
