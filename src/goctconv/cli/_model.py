"""The model that the arguments ask for."""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch
from torch import nn

from .. import models
from .._checks import ArgumentError, in_python
from .._torch import is_out_of_memory
from ..models.hub import packaged_cfg, size_of_weights
from ._command import CommandError
from ._output import plural, say, shorten

_LISTED = 5
SAVED = ("local-dir:", "hf-hub:", "hf_hub:")
_HAVE_OPTIONS = {"name", "model_name", "pretrained", "checkpoint_path", "accept_license"}
_OPTIONS = {"pretrained": "--pretrained", "checkpoint_path": "--weights FILE"}
_MODEL_ERRORS = (ValueError, OSError, RuntimeError, TypeError)


def load_trained_model(args: argparse.Namespace) -> nn.Module:
    """Build ``args.model`` with the weights that the arguments name, else with those that come with the package."""
    if not is_trained(args):
        _check_name(args.model)
        if (cfg := packaged_cfg(args.model)) is None:
            ways = ["  --weights FILE   a checkpoint that you have"]
            if timm.is_model_pretrained(args.model) and args.model in models.list_models():
                ways.append(
                    "  --pretrained --accept-license cc-by-nc-sa-4.0   download the authors' (non-commercial licence)"
                )
            raise CommandError(f"the maps of an untrained {args.model} mean nothing: say where its weights are.", *ways)
        args.pretrained = True
        if not getattr(args, "quiet", False):
            say(f"weights: {cfg['architecture']}.{cfg['tag']} ({cfg['license']}), which come with goctconv")
    return create_asked_model(args)


def settle_size(args: argparse.Namespace, model: nn.Module | None) -> None:
    """Set ``--size``, where it is not given, to that of weights that come with the package, else to 224."""
    if args.size is None:
        args.size = (size_of_weights(model) if model is not None else None) or 224


def _check_name(name: str) -> None:
    """Refuse files and unknown names, before anything is said of weights."""
    file = Path(name)
    if file.suffix in {".onnx", ".xml"}:
        raise CommandError(f"{name} is an exported network: name the one that it was made from")
    if timm.is_model(name):
        return
    if file.is_file():
        raise CommandError(f"{name} is a file: name the network that it holds weights of, and add --weights {name}")
    create_model(name)  # which tells what there is


def is_trained(args: argparse.Namespace) -> bool:
    """Return whether the arguments name weights; saved networks come with theirs."""
    return args.weights is not None or args.pretrained or args.model.startswith(SAVED)


def create_asked_model(args: argparse.Namespace) -> nn.Module:
    """Build ``args.model``, with weights where the arguments name some."""
    if args.accept_license is not None and not args.pretrained:
        raise CommandError("--accept-license goes with --pretrained; other weights need no consent: leave it out")
    return create_model(args.model, weights=args.weights, pretrained=args.pretrained, accept=args.accept_license)


def create_model(
    name: str,
    *,
    weights: Path | None = None,
    pretrained: bool = False,
    accept: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    option: str = "--weights",
) -> nn.Module:
    """Build a model; every way in which this fails becomes one message.

    The ``arguments`` are those of ``--model-args``, None where a command has no such option.
    """
    has_options, arguments = arguments is not None, arguments or {}
    taken = sorted(arguments.keys() & _HAVE_OPTIONS)
    if taken:
        raise CommandError(f"--model-args: {taken[0]} is no argument of the network; there are options for it")
    if weights is not None and not weights.is_file():
        what = "this is a folder" if weights.is_dir() else "there is no such file"
        raise CommandError(f"{option} {weights}: {what}: check the path")
    try:
        return models.create_model(name, pretrained, checkpoint_path=weights, accept_license=accept, **arguments)
    except models.LicenseError as error:
        instead = f" (not {accept})" if accept else ""
        raise CommandError(
            f"the weights of {name} are the work of others, licensed CC BY-NC-SA 4.0 (not for commercial use). "
            f"Read the licence; if you accept it, add --accept-license cc-by-nc-sa-4.0{instead}. "
            "A file that you have loads with --weights"
        ) from error
    except models.CheckpointError as error:
        raise _misfit(name, weights, error) from error
    except models.UnknownModelError as error:
        cure = f"there are {', '.join(models.list_models())}" if error.argument == "name" else error.cure
        raise CommandError(f"{error.value} {error.problem}: {cure}") from error
    except ArgumentError as error:
        if has_options:
            raise CommandError(error.text(_spelling)) from error
        text = error.text(lambda argument, value: _OPTIONS.get(argument) or in_python(argument, value))
        if error.argument not in _OPTIONS:
            whole = [other for other in models.list_models() if other.startswith(f"{name}_")]
            others = f", such as {', '.join(whole[:3])}" if whole else f" than {name}"
            text += f". There is no option for it here: name another network{others}, or a saved one: local-dir:DIR"
        raise CommandError(text) from error
    except _MODEL_ERRORS as error:
        first, *rest = str(error).splitlines() or [type(error).__name__]
        more = [f"  and {plural(len(rest) - _LISTED, 'line')} more"] if len(rest) > _LISTED else []
        raise CommandError(first, *(f"  {line.strip()}" for line in rest[:_LISTED]), *more) from error


@contextmanager
def computing(args: argparse.Namespace, device: torch.device | None = None) -> Iterator[None]:
    """Say what to do about a network whose output is not a number, or a device that has not enough memory."""
    try:
        yield
    except FloatingPointError as error:
        raise CommandError(
            "the model's output is not a number (NaN): its weights are untrained or damaged: give trained ones with "
            "--weights FILE"
        ) from error
    except RuntimeError as error:
        if device is None or not is_out_of_memory(error):
            raise
        elsewhere = "" if device.type == "cpu" else ", or take --device cpu"
        raise CommandError(
            f"{device} has not enough memory for {plural(args.batch_size, 'photograph')} at size {args.size}: lower "
            f"--batch-size or --size{elsewhere}"
        ) from error


def _spelling(name: str, value: str | None) -> str:
    """Write an argument of `create_model` as on the command line."""
    if name in _OPTIONS:
        return _OPTIONS[name]
    return f"--model-args {in_python(name, None if value == 'None' else value)}"


def _misfit(name: str, weights: Path | None, error: models.CheckpointError) -> CommandError:
    """Return the first few tensors of each kind that do not fit; the library's own error has them all."""
    if not error.problems:
        return CommandError(error.text(_spelling))
    lines = [
        f"  {plural(len(tensors), 'tensor')} {kind}: {shorten(tensors, limit=_LISTED)}"
        for kind, tensors in error.problems.items()
    ]
    where = f"in {weights} " if weights else ""
    return CommandError(f"the weights {where}do not fit {name}:", *lines)


def choose_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is CUDA where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise CommandError(f"--device {name}: this device cannot be used ({reason}): try --device cpu") from error
    if device.type == "meta":
        raise CommandError("--device meta: this device computes nothing: try --device cpu")
    return device


def input_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return ``--size`` as (height, width)."""
    height, width = (size, size) if isinstance(size, int) else size
    try:
        np.empty((height, width, 3))
    except (MemoryError, ValueError) as error:  # ValueError: more bytes than can be addressed
        raise CommandError(f"--size {height}x{width}: there is not enough memory for this: lower it") from error
    return height, width


def input_size_or_own(size: int | tuple[int, int] | str) -> tuple[int, int] | Literal["own"]:
    """Return ``--size`` as (height, width), or "own" for what each photograph has."""
    return "own" if isinstance(size, str) else input_size(size)
