"""The model and the example inputs that pruning is given, and what the model returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.utils import _pytree as pytree

from .._torch import BatchNorm
from ._errors import PruningError

_LONGEST = 60  # of a value that a message shows
_DEEPEST = 8  # levels of containers and objects that an output may consist of
_QUANTIZED = ("torch.ao.nn.", "torch.nn.quantized")
_COMPUTED_WEIGHTS = {"WeightNorm": "remove_weight_norm", "SpectralNorm": "remove_spectral_norm"}

Call = tuple[tuple[Any, ...], dict[str, Any]]


def as_call(example_inputs: Any) -> Call:
    """Return arguments and keywords of a call: a tensor, a tuple of arguments, or a dict of keywords.

    Raises:
        TypeError: There is no tensor in it.
    """
    if isinstance(example_inputs, Mapping):
        call: Call = ((), dict(example_inputs))
    elif isinstance(example_inputs, list):
        raise TypeError(
            "example_inputs is a list: pass (a, b) for two arguments, and ([a, b],) for one argument that is a list"
        )
    elif isinstance(example_inputs, tuple):
        call = (example_inputs, {})
    else:
        call = ((example_inputs,), {})
    if not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(call)):
        raise TypeError(
            f"example_inputs is {_shown(example_inputs)}, expected a tensor, a tuple of arguments or a dict of keyword "
            "arguments, such as torch.zeros(1, 3, 224, 224)"
        )
    for leaf in pytree.tree_leaves(call):
        is_number = isinstance(leaf, Tensor) and leaf.is_floating_point() and not leaf.is_meta
        if is_number and not torch.isfinite(leaf).all():
            raise ValueError("example_inputs holds values that are NaN or infinite, which hide what a model computes")
        if isinstance(leaf, Tensor) and not leaf.numel():
            raise ValueError(
                f"example_inputs holds a tensor {tuple(leaf.shape)} without elements: pass one image or more"
            )
    return call


def _shown(value: Any) -> str:
    text = repr(value)
    return f"a {type(value).__name__}" if hasattr(value, "shape") or len(text) > _LONGEST else text


def copied(call: Call) -> Call:
    """Return a call with tensors of its own, for a model may change its inputs."""
    return pytree.tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), call)  # type: ignore[no-any-return]


def described(call: Call) -> str:
    """Return the shapes of a call's tensors."""
    shapes = [tuple(leaf.shape) for leaf in pytree.tree_leaves(call) if isinstance(leaf, Tensor)]
    return ", ".join(map(str, shapes))


def tensors_in(output: Any, depth: int = _DEEPEST) -> Iterator[Tensor]:
    """Give every tensor of what a model returned: in containers, mappings of any kind, and attributes of objects."""
    if isinstance(output, Tensor):
        yield output
    elif depth and not isinstance(output, nn.Module | type):
        if isinstance(output, Mapping):
            parts = list(output.values())
        elif isinstance(output, list | tuple):
            parts = list(output)
        else:
            parts = list(getattr(output, "__dict__", {}).values())
        for part in parts:
            yield from tensors_in(part, depth - 1)


def batch_norms(model: nn.Module) -> dict[str, BatchNorm]:
    """Return every BatchNorm with a scale, by its first name.

    Raises:
        PruningError: There is none, or the model is of a kind that cannot be pruned.
    """
    for name, module in model.named_modules():
        if problem := _problem(module):
            raise PruningError(f"{name or type(model).__name__} {problem}")
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, BatchNorm) and module.weight is not None
    }
    if not found:
        frozen = next((name for name, one in model.named_modules() if "FrozenBatchNorm" in type(one).__name__), "")
        cure = f"; {frozen} is frozen, its scale is a buffer: put a BatchNorm2d in place of it" if frozen else ""
        raise PruningError(
            f"{type(model).__name__} has no BatchNorm with a scale (affine=True), whose channels could be removed{cure}"
        )
    return found


def _problem(module: nn.Module) -> str:
    """Return why a module cannot be pruned, and the cure; empty if it can."""
    parameters = list(module.parameters(recurse=False))
    hooks = list(module._forward_pre_hooks.values())
    computed = [_COMPUTED_WEIGHTS.get(type(hook).__name__) for hook in hooks]
    problems = {
        "is a TorchScript module, whose code is fixed: prune the model before scripting or tracing it": isinstance(
            module, torch.jit.ScriptModule
        ),
        "is quantized: prune the model before quantizing it": type(module).__module__.startswith(_QUANTIZED),
        "has parametrized tensors, which cannot be cut: call torch.nn.utils.parametrize.remove_parametrizations "
        "first": parametrize.is_parametrized(module),
        f"has a weight that is computed before each call: call torch.nn.utils.{next(filter(None, computed), '')} "
        "first": any(computed),
        "is masked by torch.nn.utils.prune: call its remove(module, name) first, which leaves the zeros": any(
            isinstance(hook, BasePruningMethod) for hook in hooks
        ),
        "has no weights yet: run the model once before": any(map(is_lazy, parameters)),
        "has a DTensor, a part of which lies in every process: gather the model before pruning it": any(
            hasattr(one, "placements") for one in parameters
        ),
        "has weights without values, on the meta device: load them first": any(one.is_meta for one in parameters),
    }
    return next((problem for problem, is_so in problems.items() if is_so), "")


def check_finite(model: nn.Module) -> None:
    """Check that all weights and running statistics are numbers.

    Raises:
        PruningError: One is NaN or infinite.
    """
    norms = [(name, module) for name, module in model.named_modules() if isinstance(module, BatchNorm)]
    statistics = [(name, one) for path, norm in norms for name, one in norm.named_buffers(path)]
    for name, tensor in (*model.named_parameters(), *statistics):
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
