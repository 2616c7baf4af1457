"""How to get from a BatchNorm's output to the activation that follows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn


class Slot(NamedTuple):
    """An operand: an earlier value, 0 the BatchNorm's output."""

    position: int


class Learned(NamedTuple):
    """An operand: a parameter, such as the slopes of PReLU, in the shape in which it was used."""

    parameter: nn.Parameter
    shape: tuple[int, ...]


class Step(NamedTuple):
    """One elementwise operation."""

    operation: Any
    operands: tuple[Any, ...]
    keywords: dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """What to read of a BatchNorm: the result of elementwise steps on its output; its output where there are none.

    Attributes:
        steps: The operations, in order; the last gives the activation.
        module: The module whose output is the activation, where there is one that is called on the BatchNorm's output.
        activation: Its name, for people.
    """

    steps: tuple[Step, ...]
    module: nn.Module | None
    activation: str

    def reproduce(self, output: Tensor) -> Tensor:
        """Return the activation, computed from the BatchNorm's output."""
        values = [output]
        for operation, operands, keywords in self.steps:
            filled = []
            for operand in operands:
                if isinstance(operand, Slot):
                    filled.append(values[operand.position])
                elif isinstance(operand, Learned):
                    filled.append(operand.parameter.detach().to(output.dtype).view(operand.shape))
                else:
                    filled.append(operand)
            values.append(operation(*filled, **keywords))
        return values[-1]

    def reads_the_same(self, other: Recipe) -> bool:
        """Whether both read the same function of the BatchNorm's output."""
        return [_identity(step) for step in self.steps] == [_identity(step) for step in other.steps]


def _identity(step: Step) -> tuple[Any, ...]:
    operands = [
        (id(operand.parameter), operand.shape) if isinstance(operand, Learned) else operand for operand in step.operands
    ]
    return step.operation, operands, step.keywords
