"""The model that the arguments ask for."""

import argparse
import urllib.error
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .. import models
from ..saliency._preprocess import check_size
from ._command import CommandError

_MODEL_ERRORS = (ValueError, OSError, RuntimeError, TypeError)


def load_trained_model(args: argparse.Namespace) -> nn.Module:
    """Build ``args.model`` with the weights of ``args.weights`` or ``args.pretrained``.

    Raises:
        CommandError: No weights are named, or a consent that they do not need, or they cannot be loaded.
    """
    saved = args.model.startswith(("local-dir:", "hf-hub:"))
    if args.weights is None and not args.pretrained and not saved:
        raise CommandError(
            f"the maps of an untrained {args.model} mean nothing: say where its weights are.",
            "  --weights FILE   a checkpoint that you have",
            "  --pretrained --accept-license cc-by-nc-sa-4.0   download the authors' weights (non-commercial licence)",
        )
    if args.accept_license is not None and not args.pretrained:
        raise CommandError("--accept-license goes with --pretrained; other weights need no consent: leave it out.")
    return create_model(args.model, weights=args.weights, pretrained=args.pretrained, accept=args.accept_license)


def create_model(
    name: str, *, weights: Path | None = None, pretrained: bool = False, accept: str | None = None
) -> nn.Module:
    """Build a model; every way in which this fails becomes one message."""
    if weights is not None and not weights.is_file():
        raise CommandError(f"--weights {weights}: there is no such file: check the path.")
    try:
        return models.create_model(name, pretrained, checkpoint_path=weights, accept_license=accept)
    except urllib.error.URLError as error:
        raise CommandError(
            f"the weights of {name} could not be downloaded ({error.reason}): check the connection, or pass a "
            "file with --weights."
        ) from error
    except _MODEL_ERRORS as error:
        raise CommandError(str(error)) from error


def choose_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is CUDA where there is one.

    Raises:
        CommandError: There is no such device, or nothing can be computed on it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise CommandError(f"--device {name}: this device cannot be used ({reason}): try --device cpu.") from error
    if device.type == "meta":
        raise CommandError("--device meta: this device computes nothing: try --device cpu.")
    return device


def input_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return ``--size`` as (height, width).

    Raises:
        CommandError: Not even one input of this size fits into memory.
    """
    height, width = check_size(size)
    try:
        np.empty((height, width, 3))
    except (MemoryError, ValueError) as error:  # ValueError: more bytes than can be addressed
        raise CommandError(f"--size {height}x{width}: there is not enough memory for this: lower it.") from error
    return height, width
