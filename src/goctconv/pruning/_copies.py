"""Copies of a model that share its weights, to look at and to try things on."""

from __future__ import annotations

import copy
from collections.abc import Collection

from torch import nn

from ._errors import PruningError


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
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise PruningError(
            f"{type(model).__name__} cannot be copied ({type(error).__name__}: {error}): copy.deepcopy of it must work"
        ) from error
