"""``goctconv export``."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ._arguments import add_weights, network_size
from ._command import Command, CommandError, spelling
from ._output import say

_DESCRIPTION = """\
Write a trained network as one ONNX file, for OpenVINO, or as one C file without dependencies. ONNX and OpenVINO take
any batch, height and width from 32, or one size, and are compared with the original before they are written; they need
pip install 'goctconv[onnx]' or 'goctconv[openvino]'. BatchNorm is folded into the convolutions.

The input "image" is RGB / 255, less the ImageNet mean (0.485, 0.456, 0.406), over the standard deviation
(0.229, 0.224, 0.225); the output "logits" becomes a probability by the logistic function."""

_EXAMPLES = """\
examples:
  goctconv export csnet_x1_l --weights csnet-L-x1.pth.tar --onnx csnet.onnx
  goctconv export local-dir:my-network --onnx my-network.onnx
  goctconv export local-dir:my-network --openvino my-network.xml --dtype float16
  goctconv export local-dir:my-network --c my_network.c --main
  goctconv export local-dir:my-swin --size 352 --onnx my-swin.onnx"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        default="csnet_x1_l",
        metavar="MODEL",
        help="name, or local-dir:DIR or hf-hub:OWNER/NAME with its weights (default: %(default)s)",
    )
    add_weights(parser)
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="ONNX file to write")
    parser.add_argument("--openvino", type=Path, metavar="FILE.xml", help="OpenVINO's, with its weights in FILE.bin")
    parser.add_argument("--c", type=Path, metavar="FILE.c", help="C file to write, for any size; it needs no library")
    parser.add_argument("--main", action="store_true", help="add a program to the C file: a PPM in, a map as PGM out")
    parser.add_argument(
        "--size",
        type=network_size,
        metavar="N|HxW",
        help="height and width of the only images that the files will take; without it any from 32",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="float16: half the bytes; in ONNX also what is computed in, for accelerators (default: %(default)s)",
    )
    parser.add_argument(
        "--keep-prelu", action="store_true", help="write PReLU as one operation in ONNX; slower in ONNX Runtime"
    )


def _run(args: argparse.Namespace) -> int:
    """Write the files, and return the exit status."""
    import torch  # noqa: PLC0415  (--help needs neither torch nor the networks)

    from ..deployment import ExportError, NotSupportedError, export_c, export_onnx, export_openvino  # noqa: PLC0415
    from ._model import load_trained_model  # noqa: PLC0415

    if args.onnx is None and args.openvino is None and args.c is None:
        raise CommandError("say what to write: --onnx FILE, --openvino FILE.xml or --c FILE.c")
    if args.main and args.c is None:
        raise CommandError("--main belongs to --c FILE.c")
    if args.onnx is not None and args.onnx.suffix == ".xml":
        raise CommandError(f"--onnx {args.onnx}: .xml is OpenVINO's: name it .onnx, or use --openvino")
    model = load_trained_model(args)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    dtype = {"float32": torch.float32, "float16": torch.float16}[args.dtype]
    try:
        if args.onnx is not None:
            export_onnx(model, args.onnx, size=args.size, dtype=dtype, keep_prelu=args.keep_prelu)
            _report(args, args.onnx)
        if args.openvino is not None:
            export_openvino(model, args.openvino, size=args.size, dtype=dtype)
            _report(args, args.openvino, args.openvino.with_suffix(".bin"))
        if args.c is not None:
            export_c(model, args.c, dtype=args.dtype, main=args.main)
            say(f"{args.c}: {args.c.stat().st_size / 1000:,.0f} KB of C, for any size that the network takes")
    except ExportError as error:
        raise CommandError(error.text(spelling(args))) from error
    except (ImportError, OSError, NotSupportedError) as error:
        raise CommandError(str(error)) from error
    return 0


def _report(args: argparse.Namespace, *written: Path) -> None:
    kilobytes = sum(file.stat().st_size for file in written) / 1000
    where = "four sizes" if args.size is None else "this size"
    say(f"{written[0]}: {kilobytes:,.0f} KB, equal to the original at {where}")


EXPORT = Command(
    name="export",
    description=_DESCRIPTION,
    examples=_EXAMPLES,
    add_arguments=_add_arguments,
    run=_run,
    names={"file": "--openvino"},
)
