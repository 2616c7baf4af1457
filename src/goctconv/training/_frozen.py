"""BatchNorm layers that training leaves as they are: statistics, scales and shifts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from .._torch import BatchNorm
from ..graph import named_batch_norms, select

BACKBONE = "backbone"
"""The attribute of a model that holds its pretrained part."""


def has_backbone(model: nn.Module) -> bool:
    """Whether a model says which part of it is a pretrained backbone."""
    return isinstance(getattr(model, BACKBONE, None), nn.Module)


def frozen_layers(model: nn.Module, asked: Any) -> tuple[str, ...]:
    """Return the names of the BatchNorm layers to freeze.

    Args:
        model: The network.
        asked: False: none; True: those of its backbone; or names or globs of modules.

    Raises:
        ValueError: It has no backbone, or a name matches no BatchNorm.
    """
    if asked is False:
        return ()
    if asked is not True:
        return tuple(select(model, named_batch_norms(model), asked, "freeze_batch_norm"))
    if not has_backbone(model):
        raise ValueError(
            f"freeze_batch_norm=True freezes those of a pretrained backbone, and this {type(model).__name__} has no "
            f"attribute {BACKBONE!r}: leave it out, or name the layers"
        )
    return tuple(
        name
        for name, module in model.named_modules()
        if isinstance(module, BatchNorm) and name.startswith(f"{BACKBONE}.")
    )


def set_eval(model: nn.Module, names: Iterable[str]) -> None:
    """Let layers use their running statistics, and leave these alone; those that have been removed are left out."""
    modules = dict(model.named_modules())
    for name in names:
        if name in modules:
            modules[name].eval()


def keeping(options: Mapping[str, Any], model: nn.Module, names: Iterable[str]) -> dict[str, Any]:
    """Return options of pruning by which layers keep their channels too."""
    norms = named_batch_norms(model)
    kept = [name for name in names if name in norms]
    given = options.get("keep", ())
    given = [given] if isinstance(given, str | nn.Module) else list(given)
    return {**options, "keep": [*given, *kept]} if kept else dict(options)


@contextmanager
def untrained(model: nn.Module, names: Iterable[str]) -> Iterator[list[str]]:
    """Let the parameters of layers have no gradient for a while, and yield the names of those that had one."""
    modules = dict(model.named_modules())
    within = {id(one) for name in names for one in modules[name].parameters(recurse=False) if one.requires_grad}
    held = [name for name, one in model.named_parameters() if id(one) in within]
    set_trained(model, held, trained=False)
    try:
        yield held
    finally:
        set_trained(model, held, trained=True)


def set_trained(model: nn.Module, names: Iterable[str], *, trained: bool) -> None:
    """Let parameters have a gradient or none; those that have been removed are left out."""
    parameters = dict(model.named_parameters())
    for name in names:
        if name in parameters:
            parameters[name].requires_grad_(trained)
