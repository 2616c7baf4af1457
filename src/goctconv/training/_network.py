"""A model as it runs: on its device, in its memory format, data-parallel, compiled."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..graph import is_wrapped
from . import _distributed as distributed
from ._frozen import set_eval
from ._settings import Settings

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Network:
    """The same model in three forms.

    Attributes:
        model: Itself.
        runner: What is trained: it may be compiled and data-parallel.
        device: Where it is.
        frozen: BatchNorm layers that are not trained.
    """

    model: nn.Module
    runner: nn.Module
    parallel: DistributedDataParallel | None
    device: torch.device
    frozen: tuple[str, ...] = ()

    def train(self) -> None:
        """Set train mode, but for the frozen layers."""
        self.runner.train()
        set_eval(self.model, self.frozen)

    def without_sync(self, *, really: bool) -> AbstractContextManager[None]:
        """Let the processes not exchange gradients yet."""
        if self.parallel is None or not really:
            return nullcontext()
        return cast("AbstractContextManager[None]", self.parallel.no_sync())

    def autocast(self, settings: Settings) -> AbstractContextManager[None]:
        """Let operations run in the precision of the settings."""
        if settings.amp is None:
            return nullcontext()
        return cast("AbstractContextManager[None]", torch.autocast(self.device.type, _DTYPES[settings.amp]))


def bare(model: nn.Module) -> nn.Module:
    """Return the model that is meant.

    Raises:
        TypeError: It is no module, or is wrapped already.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if is_wrapped(model):
        raise TypeError(
            f"model is a {type(model).__name__}: pass the model inside; learn_channels wraps it in "
            "DistributedDataParallel where torch.distributed is initialised, and compiles it with compile=True"
        )
    return model


def placed(model: nn.Module, device: torch.device | str | None, settings: Settings) -> torch.device:
    """Move a model to its device and lay its weights out, the same way each time; return the device."""
    first = next(model.parameters(), None)
    where = torch.device(device) if device is not None else first.device if first is not None else torch.device("cpu")
    model.to(where)
    for parameter in model.parameters():
        is_image = settings.channels_last and parameter.dim() == 4
        kind = torch.channels_last if is_image else torch.contiguous_format
        parameter.data = torch.empty_like(parameter.data, memory_format=kind).copy_(parameter.data)
    return where


def network(model: nn.Module, device: torch.device, settings: Settings, frozen: tuple[str, ...] = ()) -> Network:
    """Return a model that was placed, ready to run."""
    model.train()
    set_eval(model, frozen)
    parallel = None
    if distributed.world_size() > 1:
        parallel = DistributedDataParallel(model, [device] if device.type == "cuda" else None)
    runner: nn.Module = model if parallel is None else parallel
    if settings.compile is not False:
        backend = settings.compile if isinstance(settings.compile, str) else "inductor"
        # Code that an earlier run has compiled for another network of this class counts towards torch's limit of
        # recompilations; beyond it, torch runs the hooks of dynamic weight decay one by one, which fails (2.14).
        torch.compiler.reset()
        runner = cast("nn.Module", torch.compile(runner, backend=backend))
    return Network(model, runner, parallel, device, frozen)
