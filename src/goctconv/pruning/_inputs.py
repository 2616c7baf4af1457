"""The model and the example inputs that pruning is given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from ._errors import PruningError


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside DistributedDataParallel, DataParallel and torch.compile.

    Raises:
        TypeError: It is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    while True:
        if isinstance(model, DistributedDataParallel | DataParallel):
            model = model.module
        elif isinstance(inner := model._modules.get("_orig_mod"), nn.Module):
            model = inner
        else:
            return model


def as_call(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments and keywords of a call: a tensor, a tuple of arguments, or a dict of keywords.

    Raises:
        TypeError: There is no tensor in it.
    """
    if isinstance(example_inputs, dict):
        call: tuple[tuple[Any, ...], dict[str, Any]] = ((), dict(example_inputs))
    elif isinstance(example_inputs, tuple | list):
        call = (tuple(example_inputs), {})
    else:
        call = ((example_inputs,), {})
    if not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(call)):
        raise TypeError(
            f"example_inputs={example_inputs!r} must be a tensor, a tuple of arguments or a dict of keyword arguments, "
            "such as torch.zeros(1, 3, 224, 224)"
        )
    return call


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return every BatchNorm with a scale, by its first name.

    Raises:
        PruningError: There is none, or the model is of a kind that cannot be pruned.
    """
    for name, module in model.named_modules():
        where = name or type(model).__name__
        if isinstance(module, torch.jit.ScriptModule):
            raise PruningError(
                f"{where} is a TorchScript module, whose code is fixed: prune the model before scripting"
            )
        if type(module).__module__.startswith(("torch.ao.nn.", "torch.nn.quantized")):
            raise PruningError(f"{where} is quantized: prune the model before quantizing it")
        if parametrize.is_parametrized(module):
            raise PruningError(
                f"{where} has parametrized tensors, which cannot be cut: call "
                "torch.nn.utils.parametrize.remove_parametrizations first"
            )
        if isinstance(module, nn.modules.lazy.LazyModuleMixin) and module.has_uninitialized_params():
            raise PruningError(f"{where} has no weights yet: run the model once before")
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.weight is not None
    }
    if not found:
        raise PruningError(
            f"{type(model).__name__} has no BatchNorm with a scale (affine=True), whose channels could be removed"
        )
    return found


def check_finite(model: nn.Module) -> None:
    """Check that all weights are numbers.

    Raises:
        PruningError: One is NaN or infinite.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and tensor.numel() and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise PruningError(f"{name} has {bad} values that are NaN or infinite: load weights that are not damaged")


def check_devices(model: nn.Module, call: Any) -> None:
    """Check that example inputs are where the model is.

    Raises:
        PruningError: They are on another device.
    """
    devices = {tensor.device for tensor in model.parameters()}
    for leaf in pytree.tree_leaves(call):
        if isinstance(leaf, Tensor) and len(devices) == 1 and leaf.device not in devices:
            raise PruningError(
                f"example_inputs are on {leaf.device}, the model is on {next(iter(devices))}: move one of them"
            )
