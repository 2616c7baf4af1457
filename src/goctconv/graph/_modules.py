"""Modules of a network: what wraps it, hooks that copies do not inherit, its BatchNorm layers, and choices of them."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar, cast

from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import parametrize

from .._checks import ArgumentError, ArgumentTypeError
from .._torch import COMPILED, BatchNorm, buffers_of, called_plainly, children_of, drop_forward_hooks, parameters_of

Layer = TypeVar("Layer", bound=nn.Module)

Selector: TypeAlias = str | nn.Module | Callable[[str, nn.Module], bool]
"""A name or glob of modules, a module, or a function of name and module."""

Selection: TypeAlias = Selector | Iterable[Selector]
"""One selector or several; a layer is selected if one of them selects it or a module that contains it."""


def modules_by_path(model: nn.Module) -> dict[str, nn.Module]:
    """Return what ``named_modules`` gives, each module by the first of its paths, many times as fast."""
    found: dict[str, nn.Module] = {}
    seen: set[nn.Module] = set()

    def visit(path: str, module: nn.Module) -> None:
        seen.add(module)
        found[path] = module
        for name, child in children_of(module).items():
            if child is not None and child not in seen:
                visit(f"{path}.{name}" if path else name, child)

    visit("", model)
    return found


def modules_of(model: nn.Module) -> list[nn.Module]:
    """Return what ``modules`` gives, many times as fast."""
    found: dict[nn.Module, None] = {}

    def visit(module: nn.Module) -> None:
        found[module] = None
        for child in children_of(module).values():
            if child is not None and child not in found:
                visit(child)

    visit(model)
    return list(found)


def parameters_in(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Return the parameters of modules, each once."""
    found = {id(own): own for module in modules for own in parameters_of(module).values() if own is not None}
    return list(found.values())


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers, each by the first of its names, parameters first."""
    modules = modules_by_path(model)
    found: dict[str, Tensor] = {}
    for store_of in (parameters_of, buffers_of):
        seen: set[int] = set()
        for path, module in modules.items():
            for name, tensor in store_of(module).items():
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    found[f"{path}.{name}" if path else name] = tensor
    return found


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside DistributedDataParallel, DataParallel and `torch.compile`."""
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError("model", model, "a torch.nn.Module")
    while True:
        is_parallel = isinstance(model, DistributedDataParallel | DataParallel)
        inner = model.module if is_parallel else getattr(model, COMPILED, None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def is_wrapped(model: nn.Module) -> bool:
    """Whether a model is in DistributedDataParallel, DataParallel or `torch.compile`."""
    return unwrapped(model) is not model


def plain_name(name: str) -> str:
    """Return a module's name without what `torch.compile` adds to it."""
    return ".".join(part for part in name.split(".") if part != COMPILED)


def named_batch_norms(model: nn.Module) -> dict[str, BatchNorm]:
    """Return every BatchNorm that has a γ, each once, by the first of its names."""
    found: dict[str, BatchNorm] = {}
    for name, module in modules_by_path(model).items():
        if isinstance(module, BatchNorm) and (
            parametrize.is_parametrized(module, "weight") or parameters_of(module).get("weight") is not None
        ):
            found[plain_name(name)] = module
    return found


def gamma_parameters(norm: BatchNorm) -> tuple[nn.Parameter, ...]:
    """Return the parameters that γ is made of: γ itself, or what its parametrization computes it from."""
    if parametrize.is_parametrized(norm, "weight"):
        weights = cast("nn.ModuleDict", norm.parametrizations)["weight"]
        return tuple(weights.parameters(recurse=False))
    return (cast("nn.Parameter", parameters_of(norm)["weight"]),)


def select(
    model: nn.Module, layers: dict[str, Layer], selection: Selection, argument: str, kind: str = "BatchNorm with γ"
) -> dict[str, Layer]:
    """Return those of some layers that a selection names by the module names of a model; a message names their kind."""
    known, chosen = set(map(id, layers.values())), set[int]()
    for selector in list_selectors(selection, argument):
        named = model.named_modules(remove_duplicate=False)
        modules = [module for name, module in named if _matches(selector, plain_name(name), module, known)]
        if isinstance(selector, nn.Module):
            modules.append(selector)
        matched = {id(inner) for module in modules for inner in module.modules()} & known
        if not matched:
            near = difflib.get_close_matches(selector, layers, n=3, cutoff=0.3) if isinstance(selector, str) else []
            cure = f"there are {len(layers)}, such as {', '.join(near or list(layers)[:3])}"
            raise ArgumentError(argument, selector, problem=f"matches no {kind}", cure=cure)
        chosen |= matched
    return {name: layer for name, layer in layers.items() if id(layer) in chosen}


def list_selectors(selection: Selection, argument: str) -> list[Selector]:
    """Return the selectors that a selection consists of, which are refused where they can match no module."""
    is_single = isinstance(selection, str | nn.Module) or callable(selection) or not isinstance(selection, Iterable)
    selectors = [cast("Selector", selection)] if is_single else list(cast("Iterable[Selector]", selection))
    expected = "a module's name or glob, a module, or a function of (name, module)"
    for selector in selectors:
        if isinstance(selector, type):
            example = f"lambda name, module: isinstance(module, {selector.__name__})"
            raise ArgumentTypeError(argument, selector, expected, f"pass {example}")
        if not (isinstance(selector, str | nn.Module) or callable(selector)):
            raise ArgumentTypeError(argument, selector, expected)
    if not selectors or "" in [selector for selector in selectors if isinstance(selector, str)]:
        raise ArgumentError(argument, selection, problem="names no module", cure="leave it out, or name modules")
    return selectors


def _matches(selector: Any, name: str, module: nn.Module, known: set[int]) -> bool:
    if isinstance(selector, str):
        return fnmatch.fnmatchcase(name, selector)
    return not isinstance(selector, nn.Module) and id(module) in known and bool(selector(name, module))


class OwnedHook:
    """A forward hook of one module alone: a deep copy or an unpickled model holds a function that does nothing.

    `drop_copied_hooks` removes that function too.

    Args:
        function: Called as forward hooks are; returns None.
        reads_only: Called with an activation, says whether no value but the output of that one is read: then a kernel
            may compute the layer and the activation in one, and call the hooks with another tensor in between.
    """

    def __init__(self, function: Callable[..., Any], reads_only: Callable[[nn.Module], bool] = lambda _: False) -> None:
        self.function = function
        self.reads_only = reads_only

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.function(*args, **keywords)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        return idle_hook

    def __reduce__(self) -> tuple[Callable[[], Callable[..., None]], tuple[()]]:
        return _idle_hook, ()


def idle_hook(*_: Any, **__: Any) -> None:
    """Do nothing: what a copy of a module holds where the original has an `OwnedHook`."""


def _idle_hook() -> Callable[..., None]:
    return idle_hook


def drop_copied_hooks(modules: Iterable[nn.Module]) -> None:
    """Remove from the modules of a copy of a model what is left of hooks that belong to the original."""
    for module in modules:
        if not called_plainly(module):
            drop_forward_hooks(module, lambda hook: hook is idle_hook)
