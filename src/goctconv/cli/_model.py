"""The model that the arguments ask for."""

import argparse
from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn

from .. import models
from ..saliency._preprocess import check_size
from ._command import CommandError

_LISTED = 5
_MODEL_ERRORS = (ValueError, OSError, RuntimeError, TypeError)


def load_trained_model(args: argparse.Namespace) -> nn.Module:
    """Build ``args.model`` with the weights of ``args.weights`` or ``args.pretrained``.

    Raises:
        CommandError: No weights are named, or a consent that they do not need, or they cannot be loaded.
    """
    saved = args.model.startswith(("local-dir:", "hf-hub:"))
    if args.weights is None and not args.pretrained and not saved:
        ways = ["  --weights FILE   a checkpoint that you have"]
        if timm.is_model_pretrained(args.model):
            ways.append(
                "  --pretrained --accept-license cc-by-nc-sa-4.0   download the authors' (non-commercial licence)"
            )
        raise CommandError(f"the maps of an untrained {args.model} mean nothing: say where its weights are.", *ways)
    if args.accept_license is not None and not args.pretrained:
        raise CommandError("--accept-license goes with --pretrained; other weights need no consent: leave it out.")
    return create_model(args.model, weights=args.weights, pretrained=args.pretrained, accept=args.accept_license)


def create_model(
    name: str, *, weights: Path | None = None, pretrained: bool = False, accept: str | None = None
) -> nn.Module:
    """Build a model; every way in which this fails becomes one message."""
    if weights is not None and not weights.is_file():
        what = "this is a folder" if weights.is_dir() else "there is no such file"
        raise CommandError(f"--weights {weights}: {what}: check the path.")
    try:
        return models.create_model(name, pretrained, checkpoint_path=weights, accept_license=accept)
    except models.LicenseError as error:
        raise CommandError(
            f"the weights of {name} are the work of others, licensed CC BY-NC-SA 4.0 (not for commercial use). "
            "Read the licence; if you accept it, add --accept-license cc-by-nc-sa-4.0. "
            "A file that you have loads with --weights."
        ) from error
    except ConnectionError as error:
        raise CommandError(f"{error}".replace("pass it as checkpoint_path=", "pass it with --weights")) from error
    except models.CheckpointError as error:
        raise _misfit(name, weights, error) from error
    except _MODEL_ERRORS as error:
        raise CommandError(str(error).replace("checkpoint_path=", "--weights")) from error


def _misfit(name: str, weights: Path | None, error: models.CheckpointError) -> CommandError:
    """Return the first few tensors of each kind that do not fit; the library's own error has them all."""
    if not error.problems:
        return CommandError(str(error))
    lines = [
        f"  {len(tensors)} {kind}: {', '.join(tensors[:_LISTED])}{', ...' if len(tensors) > _LISTED else ''}"
        for kind, tensors in error.problems.items()
    ]
    return CommandError(f"the weights in {weights} do not fit {name}. Of their tensors are", *lines)


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
