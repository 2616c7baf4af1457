"""Copies of a model that share its weights, to look at and to try things on."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Collection

from torch import nn

from ..graph import drop_copied_hooks
from ._errors import PruningError

_CONTAINERS = (dict, OrderedDict, set, list)
_ATOMS = (int, float, bool, str, type(None))
_WAYS = {
    *("__deepcopy__", "__copy__", "__reduce__", "__reduce_ex__"),
    *("__getstate__", "__setstate__", "__slots__", "__new__"),
}


def sharing_copy(model: nn.Module, own: Collection[nn.Parameter] = ()) -> nn.Module:
    """Return a copy that holds the same parameters, and copies of everything else.

    Args:
        model: What is copied.
        own: Parameters that the copy has its own of.

    Raises:
        PruningError: It cannot be copied.
    """
    owned = {id(parameter) for parameter in own}
    return _copied(model, {id(one): one for one in model.parameters() if id(one) not in owned})


def independent_copy(model: nn.Module, original: nn.Module) -> nn.Module:
    """Return a copy of a model that shares no parameter with the original any more; others it takes over.

    Raises:
        PruningError: It cannot be copied.
    """
    shared = {id(parameter) for parameter in original.parameters()}
    return _copied(model, {id(one): one for one in model.parameters() if id(one) not in shared})


def _copied(model: nn.Module, memo: dict[int, object]) -> nn.Module:
    for module in model.modules():
        group = vars(module).get("process_group")  # which lives once in a process
        if group is not None:
            memo[id(group)] = group
    try:
        made = _deep_copy(model, memo)
    except Exception as error:
        raise PruningError(
            f"{type(model).__name__} cannot be copied ({type(error).__name__}: {error}): copy.deepcopy of it must work"
        ) from error
    drop_copied_hooks(made)
    for parameter in model.parameters():  # copies of which forget what users noted there
        vars(memo[id(parameter)]).update(vars(parameter))
    return made


def _deep_copy(module: nn.Module, memo: dict[int, object]) -> nn.Module:
    """Do what `copy.deepcopy` does, several times as fast for what modules mostly hold: numbers, and empty dicts."""
    if id(module) in memo or _has_own_way(type(module)):
        return copy.deepcopy(module, memo)
    made = type(module).__new__(type(module))
    memo[id(module)] = made
    for name, value in vars(module).items():
        if name == "_modules":
            children = {key: None if child is None else _deep_copy(child, memo) for key, child in value.items()}
            vars(made)[name] = type(value)(children)
        elif type(value) in _ATOMS:
            vars(made)[name] = value
        elif type(value) in _CONTAINERS and not value:
            vars(made)[name] = type(value)()
        else:
            vars(made)[name] = copy.deepcopy(value, memo)
    return made


def _has_own_way(kind: type[nn.Module]) -> bool:
    """Whether a class says itself how it is copied."""
    own = kind.__mro__[: kind.__mro__.index(nn.Module)]
    return any(not _WAYS.isdisjoint(vars(one)) for one in own)
