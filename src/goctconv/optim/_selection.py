"""Which layers: every BatchNorm with a scale, narrowed by names, globs, modules and predicates."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias, cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

Selector: TypeAlias = str | nn.Module | Callable[[str, nn.Module], bool]
"""A name or glob of modules, a module, or a function of name and module."""

Selection: TypeAlias = Selector | Iterable[Selector]
"""One selector or several; a layer is selected if one of them selects it or a module that contains it."""

_COMPILED = "_orig_mod"  # where torch.compile puts what it wraps


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside DistributedDataParallel and torch.compile."""
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif isinstance(inner := model._modules.get(_COMPILED), nn.Module):
            model = inner
        else:
            return model


def named_batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return every BatchNorm that has a scale γ, each once, by the first of its names."""
    found: dict[str, _BatchNorm] = {}
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and has_scale(module):
            found[_plain(name)] = module
    return found


def has_scale(norm: _BatchNorm) -> bool:
    """Whether the layer multiplies by a γ of its own."""
    return parametrize.is_parametrized(norm, "weight") or norm._parameters.get("weight") is not None


def scale_parameters(norm: _BatchNorm) -> tuple[nn.Parameter, ...]:
    """Return the parameters that γ is made of: γ itself, or what its parametrization computes it from."""
    if parametrize.is_parametrized(norm, "weight"):
        weights = cast("nn.ModuleDict", norm.parametrizations)["weight"]
        return tuple(weights.parameters(recurse=False))
    return (cast("nn.Parameter", norm._parameters["weight"]),)


def select(
    model: nn.Module, norms: dict[str, _BatchNorm], selection: Selection, argument: str
) -> dict[str, _BatchNorm]:
    """Return the layers that a selection names.

    Args:
        model: Whose module names count.
        norms: The layers to choose from, by name.
        selection: What to choose.
        argument: Its name, for the error.

    Raises:
        ValueError: A selector matches no BatchNorm with a scale.
        TypeError: A selector of another kind.
    """
    chosen: set[int] = set()
    for selector in _each(selection, argument):
        modules = [module for name, module in _aliases(model) if _matches(selector, name, module)]
        if isinstance(selector, nn.Module):
            modules.append(selector)
        matched = {id(norm) for module in modules for norm in module.modules()} & {id(norm) for norm in norms.values()}
        if not matched:
            raise ValueError(
                f"{argument}: {_describe(selector)} matches no BatchNorm with a scale{_hint(selector, norms)}"
            )
        chosen |= matched
    return {name: norm for name, norm in norms.items() if id(norm) in chosen}


def _each(selection: Selection, argument: str) -> list[Selector]:
    is_one = isinstance(selection, str | nn.Module) or callable(selection) or not isinstance(selection, Iterable)
    selectors = [cast("Selector", selection)] if is_one else list(cast("Iterable[Selector]", selection))
    for selector in selectors:
        if isinstance(selector, type):
            raise TypeError(
                f"{argument}: {selector.__name__} is a class; pass a module, its name or glob, or a function such as "
                f"lambda name, module: isinstance(module, {selector.__name__})"
            )
        if not (isinstance(selector, str | nn.Module) or callable(selector)):
            raise TypeError(
                f"{argument}: {selector!r} must be a module's name or glob, a module, or a function of (name, module)"
            )
    if not selectors or "" in [one for one in selectors if isinstance(one, str)]:
        raise ValueError(f"{argument} is empty: leave it out, or name modules")
    return selectors


def _aliases(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules(remove_duplicate=False):
        yield _plain(name), module


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def _matches(selector: Any, name: str, module: nn.Module) -> bool:
    if isinstance(selector, str):
        return fnmatch.fnmatchcase(name, selector)
    return not isinstance(selector, nn.Module) and isinstance(module, _BatchNorm) and bool(selector(name, module))


def _describe(selector: Selector) -> str:
    if isinstance(selector, str):
        return repr(selector)
    return repr(selector) if isinstance(selector, nn.Module) else f"the function {selector!r} of (name, module)"


def _hint(selector: Selector, norms: dict[str, _BatchNorm]) -> str:
    if isinstance(selector, str):
        near = difflib.get_close_matches(selector, norms, n=3, cutoff=0.3) or list(norms)[:3]
        return f"; there are {len(norms)}, such as {', '.join(near)}"
    return f"; there are {len(norms)}, such as {', '.join(list(norms)[:3])}"
