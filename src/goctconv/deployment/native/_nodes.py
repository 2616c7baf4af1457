"""Nodes of a recorded network: the operations that the native engine has, each with one output."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

Size: TypeAlias = tuple[int, int]


class NotSupportedError(ValueError):
    """The native engine has no form of an operation of the network.

    Attributes:
        operation: What it is: ``"aten.gelu"``.
        module: Path of the module that runs it; empty for the network itself.
        problem: What is wrong with it.
    """

    def __init__(self, operation: str, module: str, problem: str = "") -> None:
        super().__init__(operation, module, problem)
        self.operation, self.module, self.problem = operation, module, problem

    def __str__(self) -> str:
        where = f"in module {self.module!r}" if self.module else "of the network itself"
        reason = f" ({self.problem})" if self.problem else ""
        return f"the native engine does not support {self.operation} {where}{reason}: deploy it with backend='eager'"


@dataclass(eq=False)
class Node:
    """One operation, and its output: planes of one size.

    Attributes:
        kind: "image", "convolution", "affine", "activation", "add", "product", "max_pool", "avg_pool", "mean",
            "resize", "concatenate", "slice" or "pad".
        inputs: What it reads.
        channels: Of the output.
        options: Everything else: numbers, and NumPy arrays of weights.
        path: Of the module that runs it.
        operator: Its name in PyTorch.
        sizes: Height and width of the output in every recording.
    """

    kind: str
    inputs: list[Node]
    channels: int
    options: dict[str, Any] = field(default_factory=dict)
    path: str = ""
    operator: str = ""
    sizes: list[Size] = field(default_factory=list)

    def refuse(self, problem: str = "") -> NotSupportedError:
        """Return the error that names this operation."""
        return NotSupportedError(self.operator, self.path, problem)


@dataclass
class Network:
    """Nodes in the order in which they run, the last of which is the output.

    Attributes:
        nodes: The operations.
        output: The node that the network returns.
        is_flat: Whether the output is (B, K), without height and width.
        images: Height and width of the images of the recordings.
    """

    nodes: list[Node]
    output: Node
    is_flat: bool
    images: list[Size]
