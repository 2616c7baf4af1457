"""Folders of networks, checked before a network is made of them: their files, and the memory that it takes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
from torch import nn

from ..._checks import ArgumentError
from ..._limits import MAX_SETTINGS, read_json
from ._checkpoint_formats import check_checkpoint
from ._errors import CheckpointError
from ._hub_model import CONFIG
from ._registry import without_values

LOCAL = "local-dir:"
MAX_WIDTH = 1 << 16
"""Of one layer, in a configuration."""
MAX_DEPTH = 1000
"""Layers of one kind, or blocks, in a configuration."""
MAX_SHRINKAGE = 100
"""Memory of a network before it is pruned, as a multiple of its saved weights."""
_SMALL = 64 << 20  # bytes that any network may take
_MAX_NUMBERS = 10_000  # widths in a configuration
_WEIGHTS = (".safetensors", ".bin", ".pth", ".pth.tar", ".pt")
_COUNTS = ("depth", "layer", "block")  # in names of arguments
_CURE = "it was damaged, or was made to take memory; write it again with save_pretrained or save_pruned"
# Of what a file may hold:
_ERRORS = (LookupError, AttributeError, AssertionError, ArithmeticError, RuntimeError, TypeError, ValueError)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the configuration of a folder, whose numbers are those of a network.

    Raises:
        CheckpointError: It is none.
    """
    path = folder / CONFIG
    try:
        config = read_json(path, MAX_SETTINGS)
    except ValueError as error:
        raise CheckpointError(path, f"is no configuration of a network ({error})", _CURE) from error
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        raise CheckpointError(path, 'is no configuration of a network: it names no "architecture"', _CURE)
    _check_cfg(path, config.get("pretrained_cfg") or {})
    arguments = config.get("model_args") or {}
    if not isinstance(arguments, dict):
        raise CheckpointError(path, f"has {type(arguments).__name__} for model_args, expected names and values", _CURE)
    if sum(1 for _ in _numbers(arguments)) > _MAX_NUMBERS:
        raise CheckpointError(path, f"has more than {_MAX_NUMBERS:,} numbers", _CURE)
    for name, value in arguments.items():
        is_count = any(word in name for word in _COUNTS)
        largest = sum(map(abs, _numbers(value))) if is_count else max(map(abs, _numbers(value)), default=0)
        if not largest <= (most := MAX_DEPTH if is_count else MAX_WIDTH):
            raise CheckpointError(path, f"asks for {name} up to {largest:,}, of at most {most:,}", _CURE)
    return config


def _check_cfg(path: Path, cfg: object) -> None:
    """Check what timm reads of the weights' configuration: names of layers, and the size of images."""
    if not isinstance(cfg, dict):
        raise CheckpointError(path, f"has {type(cfg).__name__} for pretrained_cfg, expected names and values", _CURE)
    for key in ("first_conv", "classifier"):
        names = cfg.get(key)
        if not (names is None or isinstance(names, str) or _is_list_of(str, names)):
            raise CheckpointError(path, f"has {str(names)[:40]} for {key}, expected names of layers", _CURE)
    size = cfg.get("input_size", [3, 1, 1])
    if not (_is_list_of(int, size) and len(size) == 3 and min(size) > 0):
        raise CheckpointError(path, f"has {str(size)[:40]} for input_size, expected channels, height and width", _CURE)


def _is_list_of(kind: type, value: object) -> bool:
    return isinstance(value, list) and all(type(each) is kind for each in value)


def _numbers(value: object) -> Iterator[float]:
    """Yield the numbers in a value of JSON."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)
    elif isinstance(value, int | float):
        yield value


def check_saved(name: str, weights: str | os.PathLike[str] | None = None, /, **kwargs: Any) -> None:
    """Refuse a folder "local-dir:FOLDER" whose network takes much more memory than its weights have bytes.

    Raises:
        CheckpointError: It takes more, or a file of it is damaged.
    """
    folder = Path(name.removeprefix(LOCAL))
    if not name.startswith(LOCAL) or not (folder / CONFIG).is_file():
        return
    read_config(folder)
    files = [path for path in sorted(folder.iterdir()) if path.name.endswith(_WEIGHTS)]
    for file in (files := files if weights is None else [Path(weights)]):
        check_checkpoint(file)
    size = sum(file.stat().st_size for file in files)
    with naming_damage(name, kwargs):
        needed = size_of(without_values(lambda: timm.create_model(name, **kwargs)))
    if needed > max(_SMALL, MAX_SHRINKAGE * size):
        problem = f"makes a network of {needed / 2**20:,.0f} MiB, for weights of {size / 2**20:,.1f}"
        raise CheckpointError(folder / CONFIG, problem, _CURE)


@contextmanager
def naming_damage(name: str, arguments: Mapping[str, Any], *own: type[Exception]) -> Iterator[None]:
    """Name the configuration of a saved network in whatever making it raises, but for the caller's ``own`` errors.

    Arguments may be wrong themselves: with some, all errors are left as they are.

    Raises:
        CheckpointError: It makes no network, or not that of its weights.
    """
    left: tuple[type[Exception], ...] = (ArgumentError, CheckpointError, PermissionError, *own)
    try:
        yield
    except left:
        raise
    except _ERRORS as error:
        if arguments or not name.startswith(LOCAL):
            raise
        problem = f"makes no network of its weights ({type(error).__name__}: {error})"
        raise CheckpointError(Path(name.removeprefix(LOCAL)) / CONFIG, problem, _CURE) from error


def size_of(model: nn.Module) -> int:
    """Return the bytes of a network's parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))
