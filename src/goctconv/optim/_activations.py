"""The activation behind a BatchNorm: functions of its output, and the steps that lead to one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor, nn

from .._torch import OpOverload
from ..graph import LINEAR, PRODUCTS, name_of


class Slot(NamedTuple):
    """An operand: an earlier value; 0 is the BatchNorm's output."""

    position: int


class Learned(NamedTuple):
    """An operand: a parameter, such as the slopes of PReLU, in the shape in which it was used."""

    parameter: nn.Parameter
    shape: tuple[int, ...]


class Step(NamedTuple):
    """One elementwise operation."""

    operation: OpOverload
    operands: tuple[Any, ...]
    keywords: dict[str, Any]


@dataclass(frozen=True)
class ActivationPath:
    """The way from a BatchNorm's output to the activation: elementwise steps; none where the output itself is read."""

    steps: tuple[Step, ...]
    module: nn.Module | None  # whose output is the activation, if one is called on the BatchNorm's output
    activation: str  # its name, for people

    def reproduce(self, output: Tensor) -> Tensor:
        """Return the activation, computed from the BatchNorm's output."""
        values = [output]
        for operation, operands, keywords in self.steps:
            filled = list(operands)
            for index, operand in enumerate(operands):
                if isinstance(operand, Slot):
                    filled[index] = values[operand.position]
                elif isinstance(operand, Learned):
                    filled[index] = operand.parameter.detach().to(output.dtype).view(operand.shape)
            values.append(operation(*filled, **keywords))
        return values[-1]

    def reads_the_same(self, other: ActivationPath) -> bool:
        """Whether both read the same function of the BatchNorm's output."""
        return [_identity(step) for step in self.steps] == [_identity(step) for step in other.steps]


def _identity(step: Step) -> tuple[Any, ...]:
    operands = [(id(each.parameter), each.shape) if isinstance(each, Learned) else each for each in step.operands]
    return step.operation, operands, step.keywords


@dataclass(eq=False)
class Value:
    """An elementwise function of one BatchNorm's output; the output itself where there is no operation."""

    call: Call
    operation: OpOverload | None = None
    operands: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    bit: int = 0  # tells in `Follower.reach_of` what depends on it
    module: nn.Module | None = None  # that is called on the output alone and returns this value, by its path
    path: str = ""
    measured: Tensor | None = None  # its metric, (B, C), where it counts
    measured_reproduced: Tensor | None = None

    @property
    def name(self) -> str:
        """Of the operation; empty for the output itself."""
        return "" if self.operation is None else name_of(self.operation)

    @property
    def inputs(self) -> list[Value]:
        """The values that it is computed from."""
        return [operand for operand in self.operands if isinstance(operand, Value)]

    @property
    def is_nonlinear(self) -> bool:
        """Whether the operation itself is, in the BatchNorm's output."""
        is_linear = self.name in LINEAR and (self.name not in PRODUCTS or len(self.inputs) < 2)
        return self.operation is not None and not is_linear

    def contains(self, other: Value, visited: set[Value]) -> bool:
        """Whether the other one is a step on the way to this one."""
        if self is other:
            return True
        fresh = set(self.inputs) - visited
        visited |= fresh
        return any(value.contains(other, visited) for value in fresh)


Observe: TypeAlias = "Callable[[Call, Tensor, Value | None, bool], tuple[Tensor | None, Tensor | None]]"
"""Measures the output of a call or a function of it, perhaps rearranged: as read off a module, and as reproduced."""


@dataclass(eq=False)
class Call:
    """One call of a BatchNorm: its output, and the functions of it that were seen since, in order."""

    observe: Observe = lambda *_: (None, None)
    output: Tensor | None = None
    own: Tensor | None = None  # the metric of the output, (B, C), where it counts
    bit: int = 0  # tells in `Follower.reach_of` what depends on the output
    is_internal: bool = False  # whether the BatchNorm applies an activation itself
    seen: list[Value] = field(default_factory=list)
    writing_macs: float = 0.0  # per channel, of the convolution that is normalized
    reading_macs: float = 0.0  # the same of the convolutions that consume the channel
    shape: tuple[int, ...] = ()

    def activation(self, reached: int) -> Value | None:
        """Return the activation: the first nonlinear function of the output, or a combination that contains it.

        Args:
            reached: Bits of what the model's output depends on: checks and logging do not count.
        """
        if self.is_internal:
            return None
        found: Value | None = None
        is_combined = False
        bits = self.bit | sum(value.bit for value in self.seen)
        is_lost = not bits & reached  # it leaves in a way that is not seen
        for value in self.seen:
            if not (is_lost or value.bit & reached):
                continue
            if found is None:
                found = value if value.is_nonlinear else None
            elif len(value.inputs) > 1 and value.contains(found, set()):
                is_combined = is_combined or any(not part.contains(found, set()) for part in value.inputs)
                found = value if is_combined else found
            elif is_combined and value.inputs == [found] and not value.is_nonlinear:
                found = value
        return found

    def path(self, value: Value | None) -> ActivationPath:
        """Return the way to a function of the output; to the output itself if there is none."""
        if value is None:
            return ActivationPath((), None, "its own activation" if self.is_internal else "its output")
        steps: list[Step] = []
        _write(value, steps, {})
        described = value.name if value.module is None else f"{value.path} ({type(value.module).__name__})"
        return ActivationPath(tuple(steps), value.module, described)

    def forget(self) -> None:
        """Release tensors: values and calls refer to each other, and would keep them until garbage is collected."""
        self.output = None
        self.seen.clear()


def _write(value: Value, steps: list[Step], slots: dict[Value, Slot]) -> Slot:
    """Append the steps that a value needs; return where it is among them."""
    if value.operation is None:
        return Slot(0)
    if value not in slots:
        operands = tuple(_write(each, steps, slots) if isinstance(each, Value) else each for each in value.operands)
        steps.append(Step(value.operation, operands, value.keywords))
        slots[value] = Slot(len(steps))
    return slots[value]
