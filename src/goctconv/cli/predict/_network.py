"""The network that predicts."""

import argparse
from pathlib import Path

from ...deployment import ExportError
from ...saliency import Predictor
from ...saliency.inference import FILES, OWN
from .._command import CommandError
from .._model import choose_device, input_size_or_own, load_trained_model
from .._output import say


def make_predictor(args: argparse.Namespace) -> Predictor:
    """Load the model that the arguments ask for into the engine that they ask for.

    Raises:
        CommandError: There is no such model, device or engine, or they do not go together.
    """
    exported = Path(args.model).suffix in FILES
    if exported and (args.weights is not None or args.pretrained or args.accept_license is not None):
        raise CommandError(f"--model {args.model}: this file has its weights in it: leave out --weights and the like.")
    model = Path(args.model) if exported else load_trained_model(args)
    device = choose_device("cpu" if args.device == "auto" and _on_processor(args, exported=exported) else args.device)
    try:
        size = input_size_or_own(args.size) or OWN
        if not exported and args.backend in {"onnx", "openvino"}:
            say("exporting the network first; goctconv export does it once for all")
        return Predictor(model, backend=args.backend, size=size, batch_size=args.batch_size, device=device)
    except (ExportError, ImportError, OSError, ValueError) as error:
        raise CommandError(str(error)) from error


def _on_processor(args: argparse.Namespace, *, exported: bool) -> bool:
    return exported or args.backend in {"onnx", "openvino"}
