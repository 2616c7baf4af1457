"""Where the sizes in a forward pass come from: which attribute of which module says how long a piece of a tensor is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree


class Source(NamedTuple):
    """An attribute of a module, and how a size is computed from it."""

    module: str
    attribute: str
    compute: Callable[[int], int]

    def value_for(self, size: int, now: int) -> int | None:
        """Return the attribute that gives a size where it is ``now`` for the present one; None if none does."""
        for value in sorted(range(now + 1), key=lambda one: abs(one - now * size / max(self.compute(now), 1))):
            try:
                if self.compute(value) == size:
                    return value
            except ArithmeticError:
                continue
        return None


class SourcedInt(int):
    """An integer that knows the attribute that it was computed from; None where there were several."""

    source: Source | None


def _sourced(value: int, source: Source | None) -> SourcedInt:
    number = SourcedInt(value)
    number.source = source
    return number


def _arithmetic(name: str) -> Any:
    operation = getattr(int, name)

    def method(self: SourcedInt, *others: Any) -> Any:
        result = operation(self, *others)
        if type(result) is not int:
            return result
        source = self.source
        if source is None or any(isinstance(one, SourcedInt) for one in others):
            return _sourced(result, None)
        compute = source.compute
        return _sourced(result, source._replace(compute=lambda value: operation(compute(value), *others)))

    return method


for _name in ("add", "sub", "mul", "floordiv", "mod"):
    setattr(SourcedInt, f"__{_name}__", _arithmetic(f"__{_name}__"))
    setattr(SourcedInt, f"__r{_name}__", _arithmetic(f"__r{_name}__"))


class SizeSources(TorchFunctionMode):
    """Sees every call of a PyTorch function, and remembers the sourced sizes in its arguments while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[list[SourcedInt]] = []

    def of(self, sizes: list[int]) -> list[Source] | None:
        """Return where the sizes of the running call were read from, if that is known."""
        for call in reversed(self._calls):
            known = [size for size in call if size.source is not None]
            if [int(size) for size in known] == sizes:
                return [size.source for size in known if size.source is not None]
        return None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the call with its sizes noted."""
        self._calls.append(list(_sizes((args, kwargs or {}))))
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self._calls.pop()


def _sizes(arguments: Any) -> Iterator[SourcedInt]:
    for leaf in pytree.tree_leaves(arguments):
        for one in (leaf.start, leaf.stop, leaf.step) if isinstance(leaf, slice) else (leaf,):
            if isinstance(one, SourcedInt):
                yield one


@contextmanager
def sourced_attributes(model: nn.Module) -> Iterator[None]:
    """Let the integer attributes of modules, but PyTorch's own, be sourced ones."""
    replaced: list[tuple[nn.Module, str, Any]] = []
    for path, module in model.named_modules():
        if type(module).__module__.startswith("torch.nn"):
            continue
        for attribute, value in list(vars(module).items()):
            if type(value) is int and not attribute.startswith("_"):
                replaced.append((module, attribute, value))
                vars(module)[attribute] = _sourced(value, Source(path, attribute, int))
            elif type(value) in {list, tuple} and value and all(type(one) is int for one in value):
                replaced.append((module, attribute, value))
                items = [_sourced(one, Source(path, f"{attribute}.{index}", int)) for index, one in enumerate(value)]
                vars(module)[attribute] = type(value)(items)
    try:
        yield
    finally:
        for module, attribute, value in replaced:
            vars(module)[attribute] = value
