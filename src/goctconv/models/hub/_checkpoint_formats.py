"""Checkpoint files as plain tensors, and their fit to a model with every mismatch named."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import safetensors.torch
import torch
from torch import Tensor, nn

from ..._limits import FileSizeError, check_safetensors
from ._errors import CheckpointError
from ._pdparams import read_pdparams
from ._pickles import RefusedNamesError, check_torch_file

StateDict: TypeAlias = dict[str, Tensor]

_ENVELOPES = ("state_dict_ema", "model_ema", "state_dict", "model")  # timm's order: averaged weights first
_CURE = "save the state dict alone, as torch.save does, and load that"
_WRAPPERS = ("_orig_mod.", "module.")


def read_checkpoint(file: str | os.PathLike[str]) -> StateDict:
    """Return the tensors of a checkpoint file: safetensors, or PyTorch's format without any code in it.

    A file that ends in ``.pdparams`` is PaddlePaddle's: arrays that are pickled, and read without running anything.

    A state dict inside a training checkpoint (under "state_dict" or "model", or averaged under "state_dict_ema" or
    "model_ema", which then goes first, as in timm) is taken out; prefixes that
    `torch.compile` and data-parallel wrappers leave are removed.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint file at {path}: check the path")
    content = read_pdparams(path) if path.suffix == ".pdparams" else _load(path)
    for envelope in _ENVELOPES:
        if isinstance(content, Mapping) and isinstance(content.get(envelope), Mapping):
            content = content[envelope]
            break
    if not isinstance(content, Mapping) or not content:
        kind = "an empty dict" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise CheckpointError(path, f"holds {kind}, expected a state dict: names and tensors")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        problem = f"is no state dict, nor does it hold one under {', '.join(_ENVELOPES)}"
        raise CheckpointError(path, f"{problem}; no tensors: {', '.join(others)}")
    return {_unwrapped(str(name)): value for name, value in content.items()}


def check_checkpoint(path: Path) -> None:
    """Refuse a file that would take much more memory than it has bytes, or that asks for code; nothing is loaded."""
    _load(path, check_only=True)


def _load(path: Path, *, check_only: bool = False) -> Any:
    with path.open("rb") as stream:
        start = stream.read(9)
    if not start:
        raise CheckpointError(path, "is empty (0 bytes): it was not saved whole")
    try:
        if start[8:] == b"{":  # safetensors, whatever its name: the length of the header, then the header
            check_safetensors(path)
            return None if check_only else safetensors.torch.load_file(path)
        with path.open("rb") as stream:  # by its name, torch.load would take it for another format
            check_torch_file(stream)
            stream.seek(0)
            return None if check_only else torch.load(stream, map_location="cpu", weights_only=True)
    except FileSizeError as error:
        raise CheckpointError(path, f"is refused: {error}", _CURE) from error
    except pickle.UnpicklingError as error:
        asked = f" (it asks for {error})" if isinstance(error, RefusedNamesError) else ""
        problem = f"is not a file of plain tensors{asked}: it is damaged, or holds pickled code"
        raise CheckpointError(path, f"{problem}, which is never run", _CURE) from error
    except Exception as error:  # on damaged data the unpickler raises anything
        raise CheckpointError(path, "is no file of torch.save or safetensors, or a truncated one") from error


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS * 2:
        name = name.removeprefix(wrapper)
    return name


def load_strictly(model: nn.Module, state: StateDict, source: str) -> None:
    """Load a state dict, with or without BatchNorm's counters, or change nothing and list what does not fit."""
    check_fit(state, shapes_of(model), source)
    model.load_state_dict({**counters(model), **state})


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's tensors."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def counters(model: nn.Module) -> StateDict:
    """Return the BatchNorm counters of a model, which files may leave out."""
    return {name: value for name, value in model.state_dict().items() if _is_counter(name)}


def check_fit(
    state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], source: str = "the checkpoint"
) -> None:
    """Compare names, shapes, and whether numbers are complex, as those of no network here are."""
    missing = [name for name in expected if name not in state and not _is_counter(name)]
    extra = [name for name in state if name not in expected]
    misshapen = [
        f"{name} {tuple(state[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    imaginary = [name for name, tensor in state.items() if tensor.is_complex()]
    kinds = {"missing": missing, "unexpected": extra, "of the wrong shape": misshapen, "of complex numbers": imaginary}
    if problems := {kind: names for kind, names in kinds.items() if names}:
        listed = "; ".join(f"{len(names)} {kind}: {', '.join(names)}" for kind, names in problems.items())
        cure = (
            "check that it belongs to this architecture, with the same widths, in_chans and num_classes; "
            "timm.create_model(..., pretrained=True, pretrained_cfg_overlay={'file': FILE}) adapts the last two"
        )
        raise CheckpointError(source, f"does not fit the model; nothing was loaded; tensors: {listed}", cure, problems)


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")
