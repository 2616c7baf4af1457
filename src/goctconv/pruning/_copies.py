"""Copies of a model that share its weights, to look at and to try things on."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import escaped
from .._torch import ConvNd, buffers_of, children_of, forget_compiled, parameters_of
from ..graph import drop_copied_hooks, modules_of, parameters_in
from ._inputs import PruningError

_CONTAINERS = frozenset({dict, OrderedDict, list, tuple, set})
_ATOMS = frozenset({int, float, bool, str, type(None), torch.dtype, torch.device})
_HOOKS = {
    *("__deepcopy__", "__copy__", "__reduce__", "__reduce_ex__"),
    *("__getstate__", "__setstate__", "__slots__", "__new__"),
}


def whole_copy(model: nn.Module) -> nn.Module:
    """Return a copy that shares nothing with the model."""
    return _copied(model, modules_of(model), {})


def sharing_copy(model: nn.Module, own: Collection[nn.Parameter] = ()) -> nn.Module:
    """Return a copy that holds the same parameters, and copies of everything else.

    Args:
        model: The module to copy.
        own: Parameters that the copy has its own of.
    """
    owned = {id(parameter) for parameter in own}
    modules = modules_of(model)
    return _copied(model, modules, {id(shared): shared for shared in parameters_in(modules) if id(shared) not in owned})


def independent_copy(model: nn.Module, original: nn.Module) -> nn.Module:
    """Return a copy of a model that shares no parameter with the original any more; others it takes over."""
    shared = {id(parameter) for parameter in parameters_in(modules_of(original))}
    modules = modules_of(model)
    return _copied(model, modules, {id(own): own for own in parameters_in(modules) if id(own) not in shared})


def _copied(model: nn.Module, modules: list[nn.Module], memo: dict[int, Any]) -> nn.Module:
    groups = [vars(module).get("process_group") for module in modules]  # which live once in a process
    memo.update({id(group): group for group in groups if group is not None})
    try:
        made = _copy_module(model, memo)
    except Exception as error:
        problem = f"{type(model).__name__} cannot be copied ({type(error).__name__}: {escaped(error)})"
        raise PruningError(f"{problem}: copy.deepcopy of it must work") from error
    copies = [memo[id(module)] for module in modules if id(module) in memo]
    drop_copied_hooks(copies)
    for module in copies:
        forget_compiled(module)
    for parameter in parameters_in(modules):  # copies of parameters forget what users noted there
        if vars(parameter) and id(parameter) in memo:
            vars(memo[id(parameter)]).update(vars(parameter))
    return made


def _copy_module(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Do what `copy.deepcopy` does, many times as fast for what modules mostly hold."""
    kind: Any = type(module)
    if id(module) in memo:
        return copy.deepcopy(module, memo)
    if _defines_copying(kind):
        copied = _copied_by_itself(module, memo)
        if copied is not None:
            return copied
    made: nn.Module = kind.__new__(kind)
    memo[id(module)] = made
    attributes = vars(made)
    attributes.update(vars(module))
    children, parameters, buffers = children_of(module), parameters_of(module), buffers_of(module)
    for name, value in vars(module).items():
        own = type(value)
        if own in _ATOMS:
            continue
        if own in _CONTAINERS and not value:
            attributes[name] = own()
        elif value is children:
            attributes[name] = own(
                {key: None if child is None else _copy_module(child, memo) for key, child in children.items()}
            )
        elif value is parameters or value is buffers:
            attributes[name] = own({key: _copy_tensor(tensor, memo) for key, tensor in value.items()})
        else:
            attributes[name] = _copy_value(value, memo)
    return made


def _copied_by_itself(module: nn.Module, memo: dict[int, Any]) -> nn.Module | None:
    """Return the copy that a module's class makes; None if that fails, or holds parts of the original.

    It fails where it makes the module anew by widths that were pruned since.
    """
    originals = modules_of(module)
    try:
        made: nn.Module = copy.deepcopy(module, memo)
    except Exception:  # noqa: BLE001  # of code of others; PyTorch's way follows
        return None
    copies = modules_of(made)
    own = {id(parameter) for parameter in parameters_in(originals) if memo.get(id(parameter)) is not parameter}
    is_apart = {id(each) for each in originals}.isdisjoint(map(id, copies))
    return made if is_apart and own.isdisjoint(map(id, parameters_in(copies))) else None


def _copy_tensor(tensor: Tensor | None, memo: dict[int, Any]) -> Tensor | None:
    known: Tensor | None = memo.get(id(tensor))
    if tensor is None or known is not None:
        return known
    is_plain = type(tensor) is Tensor and not tensor.requires_grad and not vars(tensor) and tensor.is_contiguous()
    if not is_plain or tensor.untyped_storage().nbytes() != tensor.nbytes:
        return copy.deepcopy(tensor, memo)
    made = tensor.clone()
    memo[id(tensor)] = made
    return made


def _copy_value(value: Any, memo: dict[int, Any]) -> Any:
    if isinstance(value, Tensor) and value.grad_fn is not None:  # computed before each call, as by weight_norm
        return value.detach().clone()
    if type(value) is tuple and all(type(item) in _ATOMS for item in value):
        return value
    return copy.deepcopy(value, memo)


@functools.lru_cache(maxsize=256)
def _defines_copying(kind: type[nn.Module]) -> bool:
    """Whether a class itself defines how it is copied."""
    own = set(kind.__mro__[: kind.__mro__.index(nn.Module)]) - {ConvNd}  # which only completes old pickles
    return any(not _HOOKS.isdisjoint(vars(base)) for base in own)
