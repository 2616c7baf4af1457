"""Where the sizes in a forward pass come from: which attribute of which module, or which channels, they count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree


@dataclass
class Uses:
    """What the code does with sizes apart from cutting tensors by them.

    Attributes:
        numbers: Sources of sizes that were made fractions or powers: other sizes would give other outputs.
        equalities: Sizes that are what they were compared with, as in an assertion.
        is_muted: Whether a module runs that keeps account of its channels, whose comparisons are no constraint.
    """

    numbers: list[Source] = field(default_factory=list)
    equalities: list[tuple[Source, int]] = field(default_factory=list)
    is_muted: bool = False


@dataclass(frozen=True)
class Source:
    """An attribute of a module, and how a size is computed from it; or channels of a tensor that are counted.

    Attributes:
        module: Path of the module; empty for channels.
        attribute: Its name, or ``"attribute.index"``; empty for channels.
        now: Its present value.
        compute: The size that a value gives.
        channels: Labels of the channels that are counted, for those.
        uses: Where to note what is done with the size.
    """

    module: str
    attribute: str
    now: int
    compute: Callable[[int], int] = int
    channels: Tensor | None = None
    uses: Uses = field(default_factory=Uses)

    @property
    def place(self) -> tuple[str, str]:
        """Module and attribute."""
        return self.module, self.attribute

    def value_for(self, size: int) -> int | None:
        """Return the attribute that gives a size, the nearest to what is in proportion; None if none does."""
        likely = self.now * size / max(self.compute(self.now), 1)
        for value in sorted(range(self.now + 1), key=lambda one: abs(one - likely)):
            if self._size(value) == size:
                return value
        return None

    def _size(self, value: int) -> int | None:
        try:
            return self.compute(value)
        except ArithmeticError:
            return None


class SourcedInt(int):
    """An integer that knows what it was computed from; None where there were several things."""

    source: Source | None

    def __eq__(self, other: object) -> bool:
        is_equal = int.__eq__(self, other)
        if is_equal is True and isinstance(other, int) and self.source is not None and not self.source.uses.is_muted:
            self.source.uses.equalities.append((self.source, other))
        return is_equal

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__


def sourced(value: int, source: Source | None) -> SourcedInt:
    """Return an integer that knows its source."""
    number = SourcedInt(value)
    number.source = source
    return number


def _leading(numbers: Sequence[Any]) -> int | None:
    """Return which of the numbers of a computation its result follows: channels, or else the largest attribute."""
    known = [(index, one) for index, one in enumerate(numbers) if isinstance(one, SourcedInt)]
    if any(one.source is None for _, one in known):
        return None
    counted = [index for index, one in known if one.source is not None and one.source.channels is not None]
    if len(counted) > 1:
        return None
    return counted[0] if counted else max(known, key=lambda pair: int(pair[1]))[0]


def _arithmetic(name: str) -> Any:
    operation = getattr(int, name)

    def method(*numbers: Any) -> Any:
        result = operation(*numbers)
        if type(result) is not int:
            return result
        leading = _leading(numbers)
        source = None if leading is None else numbers[leading].source
        if leading is None or source is None:
            return sourced(result, None)
        values = [int(one) if isinstance(one, int) else one for one in numbers]
        inner = source.compute

        def compute(value: int) -> int:
            return int(operation(*values[:leading], inner(value), *values[leading + 1 :]))

        return sourced(result, replace(source, compute=compute))

    return method


def _number(name: str) -> Any:
    operation = getattr(int, name)

    def method(*numbers: Any) -> Any:
        for one in numbers:
            if isinstance(one, SourcedInt) and one.source is not None:
                one.source.uses.numbers.append(one.source)
        return operation(*numbers)

    return method


for _name in ("float", "pow", "rpow", "truediv", "rtruediv"):
    setattr(SourcedInt, f"__{_name}__", _number(f"__{_name}__"))
for _name in ("add", "sub", "mul", "floordiv", "mod"):
    setattr(SourcedInt, f"__{_name}__", _arithmetic(f"__{_name}__"))
    setattr(SourcedInt, f"__r{_name}__", _arithmetic(f"__r{_name}__"))


class SizeSources(TorchFunctionMode):
    """Sees every call of a PyTorch function, and remembers the integers in its arguments while it runs.

    Args:
        channels_of: Returns the labels of the channels along a dimension of a tensor; None if there are none there.
    """

    def __init__(self, channels_of: Callable[[Tensor, int], Tensor | None]) -> None:
        super().__init__()
        self.uses = Uses()
        self._channels_of = channels_of
        self._calls: list[list[int]] = []

    def of(self, sizes: Sequence[int]) -> list[Source | None]:
        """Return what the sizes of the running call were read from: a run of the integers that it was given."""
        count = len(sizes)
        for call in reversed(self._calls):
            for first in range(len(call) - count + 1):
                part = call[first : first + count]
                if [int(one) for one in part] == list(sizes) and any(isinstance(one, SourcedInt) for one in part):
                    return [one.source if isinstance(one, SourcedInt) else None for one in part]
        return [None] * count

    @property
    def counted(self) -> list[Tensor]:
        """Channels whose number is in the arguments of the running call."""
        sources = [one.source for call in self._calls for one in call if isinstance(one, SourcedInt)]
        return [one.channels for one in sources if one is not None and one.channels is not None]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the call with its sizes noted; one that asks for sizes gets sourced ones."""
        name = getattr(func, "__name__", "")
        if name == "__get__" and getattr(func, "__self__", None) is torch.Tensor.shape:
            return self._shape(args[0])
        if name == "size" and func is torch.Tensor.size:
            dimension = args[1] if len(args) > 1 else (kwargs or {}).get("dim")
            shape = self._shape(args[0])
            return shape if dimension is None else shape[dimension]
        self._calls.append(list(_integers((args, kwargs or {}))))
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self._calls.pop()

    def _shape(self, tensor: Tensor) -> Any:
        sizes: list[int] = list(tensor.shape)
        for dimension, size in enumerate(sizes):
            labels = self._channels_of(tensor, dimension)
            if labels is not None:
                sizes[dimension] = sourced(size, Source("", "", size, channels=labels, uses=self.uses))
        return torch.Size(sizes)


def _integers(arguments: Any) -> Iterator[int]:
    for leaf in pytree.tree_leaves(arguments):
        for one in (leaf.start, leaf.stop, leaf.step) if isinstance(leaf, slice) else (leaf,):
            if isinstance(one, int) and not isinstance(one, bool):
                yield one


@contextmanager
def sourced_attributes(model: nn.Module, uses: Uses) -> Iterator[None]:
    """Let integer attributes be sourced ones: of modules that are not PyTorch's and do not resize themselves."""
    replaced: list[tuple[nn.Module, str, Any]] = []
    for path, module in model.named_modules():
        if type(module).__module__.startswith("torch.nn") or hasattr(module, "resize_channels"):
            continue
        for attribute, value in list(vars(module).items()):
            if type(value) is int and not attribute.startswith("_"):
                replaced.append((module, attribute, value))
                vars(module)[attribute] = sourced(value, Source(path, attribute, value, uses=uses))
            elif type(value) in {list, tuple} and value and all(type(one) is int for one in value):
                replaced.append((module, attribute, value))
                items = [sourced(one, Source(path, f"{attribute}.{i}", one, uses=uses)) for i, one in enumerate(value)]
                vars(module)[attribute] = type(value)(items)
    try:
        yield
    finally:
        for module, attribute, value in replaced:
            vars(module)[attribute] = value
