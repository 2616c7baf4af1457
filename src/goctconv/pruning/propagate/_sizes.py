"""Sources of the sizes in a forward pass: the attribute of a module, or the channels, that a size was computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..._torch import untraced
from ._shadows import Shadow, rows_along


@dataclass
class Uses:
    """Uses of sizes apart from cutting tensors by them.

    Attributes:
        numbers: Sources of sizes that were made fractions or powers: other sizes would give other outputs.
        equalities: Sizes that are what they were compared with, as in an assertion.
        is_muted: Whether a module runs that keeps account of its channels: its comparisons are no constraint.
    """

    numbers: list[Source] = field(default_factory=list)
    equalities: list[tuple[Source, int]] = field(default_factory=list)
    is_muted: bool = False


@dataclass(frozen=True)
class Source:
    """An attribute of a module that a size is computed from, or the channels of a tensor that it counts.

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
        for value in sorted(range(self.now + 1), key=lambda value: abs(value - likely)):
            if self._size(value) == size:
                return value
        return None

    def _size(self, value: int) -> int | None:
        try:
            return self.compute(value)
        except ArithmeticError:
            return None


class SourcedInt(int):
    """An integer with its source; None where there were several."""

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
    """Return an integer with its source."""
    number = SourcedInt(value)
    number.source = source
    return number


def _leading(numbers: Sequence[Any]) -> int | None:
    """Return which of the numbers of a computation its result follows: channels, or else the largest attribute."""
    known = [(index, number) for index, number in enumerate(numbers) if isinstance(number, SourcedInt)]
    if any(number.source is None for _, number in known):
        return None
    counted = [index for index, number in known if number.source is not None and number.source.channels is not None]
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
        values = [int(number) if isinstance(number, int) else number for number in numbers]
        inner = source.compute

        def compute(value: int) -> int:
            return int(operation(*values[:leading], inner(value), *values[leading + 1 :]))

        return sourced(result, replace(source, compute=compute))

    return method


def _number(name: str) -> Any:
    operation = getattr(int, name)

    def method(*numbers: Any) -> Any:
        for number in numbers:
            if isinstance(number, SourcedInt) and number.source is not None:
                number.source.uses.numbers.append(number.source)
        return operation(*numbers)

    return method


for _name in ("float", "pow", "rpow", "truediv", "rtruediv"):
    setattr(SourcedInt, f"__{_name}__", _number(f"__{_name}__"))
for _name in ("add", "sub", "mul", "floordiv", "mod"):
    setattr(SourcedInt, f"__{_name}__", _arithmetic(f"__{_name}__"))
    setattr(SourcedInt, f"__r{_name}__", _arithmetic(f"__r{_name}__"))


class SizeSources(TorchFunctionMode):
    """Sees every call of a PyTorch function, and remembers its arguments while it runs.

    Args:
        find: Returns the shadow of a tensor.
    """

    def __init__(self, find: Callable[[Tensor], Shadow | None]) -> None:
        super().__init__()
        self.uses = Uses()
        self._find = find
        self._last: tuple[Tensor | None, torch.Size] = None, torch.Size()
        self._calls: list[Any] = []

    def of(self, sizes: Sequence[int]) -> list[Source | None]:
        """Return the sources of the sizes of the running call: of a run of the integers that it was given."""
        count, wanted = len(sizes), [int(size) for size in sizes]
        for call in reversed(self._calls):
            given = list(_integers(call))
            for first in range(len(given) - count + 1):
                part = given[first : first + count]
                if [int(number) for number in part] == wanted and any(
                    isinstance(number, SourcedInt) for number in part
                ):
                    return [number.source if isinstance(number, SourcedInt) else None for number in part]
        return [None] * count

    @property
    def counted(self) -> list[Tensor]:
        """Channels whose number is in the arguments of the running call."""
        numbers = [number for call in self._calls for number in _integers(call) if isinstance(number, SourcedInt)]
        sources = [number.source for number in numbers if number.source is not None]
        return [source.channels for source in sources if source.channels is not None]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the call with its sizes noted; one that asks for sizes gets sourced ones."""
        name = getattr(func, "__name__", "")
        if name == "__get__":
            return self._shape(args[0]) if func.__self__ is torch.Tensor.shape else func(*args)
        if name == "size" and func is torch.Tensor.size:
            dimension = args[1] if len(args) > 1 else (kwargs or {}).get("dim")
            shape = self._shape(args[0])
            return shape if dimension is None else shape[dimension]
        self._calls.append((args, kwargs))
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self._calls.pop()

    def forget(self) -> None:
        """Forget the last shape that was asked for: a tensor is changed in place."""
        self._last = None, torch.Size()

    def _shape(self, tensor: Tensor) -> torch.Size:
        if self._last[0] is not tensor:  # code asks for the shape of one tensor several times
            self._last = tensor, self._found(tensor)
        return self._last[1]

    def _found(self, tensor: Tensor) -> torch.Size:
        shadow = self._find(tensor)
        if shadow is None:
            return tensor.shape
        if shadow.sizes is None:
            with untraced():
                sizes: list[int] = list(tensor.shape)
                for dimension in shadow.changing:
                    labels = shadow.row_along(dimension)
                    if labels is None:
                        labels = rows_along(shadow.labels, dimension)[0]
                    source = Source("", "", sizes[dimension], channels=labels, uses=self.uses)
                    sizes[dimension] = sourced(sizes[dimension], source)
                shadow.sizes = torch.Size(sizes)
        return shadow.sizes


def _integers(arguments: Any) -> Iterator[int]:
    """Give the integers in arguments, in containers and slices too."""
    if isinstance(arguments, int):
        if not isinstance(arguments, bool):
            yield arguments
    elif isinstance(arguments, list | tuple):
        for argument in arguments:
            yield from _integers(argument)
    elif isinstance(arguments, dict):
        yield from _integers(list(arguments.values()))
    elif isinstance(arguments, slice):
        yield from _integers((arguments.start, arguments.stop, arguments.step))


@contextmanager
def sourced_attributes(modules: dict[str, nn.Module], uses: Uses) -> Iterator[None]:
    """Give integer attributes their sources, in modules that are not PyTorch's and do not resize themselves."""
    replaced: list[tuple[nn.Module, str, Any]] = []
    for path, module in modules.items():
        if type(module).__module__.startswith("torch.nn") or hasattr(type(module), "resize_channels"):
            continue
        for attribute, value in list(vars(module).items()):
            if type(value) is int and not attribute.startswith("_"):
                replaced.append((module, attribute, value))
                vars(module)[attribute] = sourced(value, Source(path, attribute, value, uses=uses))
            elif type(value) in {list, tuple} and value and all(type(item) is int for item in value):
                replaced.append((module, attribute, value))
                items = [sourced(n, Source(path, f"{attribute}.{i}", n, uses=uses)) for i, n in enumerate(value)]
                vars(module)[attribute] = type(value)(items)
    try:
        yield
    finally:
        for module, attribute, value in replaced:
            vars(module)[attribute] = value
