"""Rules of the sizes of tensors, from which the C file computes them for an image of any size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from ._nodes import Network, Node

Shape: TypeAlias = tuple[Any, ...]
"""The name of a rule, the tensor whose size it takes, and numbers; or ("axes", height, width), two rules of a side."""

_DIVISORS = 64


class Rules:
    """Finds the rule of a node's size that fits all recordings."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._places = {node: place for place, node in enumerate(network.nodes)}

    def of(self, node: Node, tensor_of: Callable[[Node], int]) -> Shape:
        """Return the rule of a node's size."""
        if node.kind == "resize":
            return ("axes", *(self._side(node, axis, tensor_of) for axis in (0, 1)))
        if node.kind == "mean":
            return ("constant", 1, 1)
        source, rule = node.inputs[0], _WINDOWS.get(node.kind)
        if rule is not None:
            return rule(tensor_of(source), node.options)
        # Of an addition or activation, the size is that of what it reads, which may be a part of it.
        return ("same", tensor_of(source)) if _is_known(source, tensor_of) else self.of(source, tensor_of)

    def _side(self, node: Node, axis: int, tensor_of: Callable[[Node], int]) -> Shape:
        wanted = [size[axis] for size in node.sizes]
        scale = node.options["scales"][axis]
        source = node.inputs[0]
        if scale is not None:
            return ("scaled", axis, tensor_of(source), float(scale))
        for other in self._before(node):
            if [size[axis] for size in other.sizes] == wanted and _is_known(other, tensor_of):
                return ("side", axis, tensor_of(other))
        given = [size[axis] for size in self._network.images]
        if len(set(wanted)) == 1:
            return ("number", wanted[0])
        for divisor in range(1, _DIVISORS + 1):
            for name, rounded in (("floor", _floor), ("ceil", _ceil)):
                if [rounded(side, divisor) for side in given] == wanted:
                    return (name, axis, divisor)
        sides = [size[axis] for size in source.sizes]
        factor = wanted[0] // sides[0]
        if [side * factor for side in sides] == wanted:
            return ("scaled", axis, tensor_of(source), float(factor))
        raise node.refuse("its size is no known function of the size of the image")

    def _before(self, node: Node) -> Iterator[Node]:
        """Yield the nodes before one, the last first, the image before all."""
        nodes = self._network.nodes
        yield nodes[0]
        yield from reversed(nodes[1 : self._places.get(node, 1)])


def _is_known(node: Node, tensor_of: Callable[[Node], int]) -> bool:
    try:
        tensor_of(node)
    except (KeyError, IndexError):
        return False
    return True


def _floor(side: int, divisor: int) -> int:
    return side // divisor


def _ceil(side: int, divisor: int) -> int:
    return math.ceil(side / divisor)


def shape_code(shapes: list[Shape]) -> Iterator[str]:
    """Yield a line of C for the size of every tensor."""
    for tensor, shape in enumerate(shapes):
        for axis, letter in enumerate("HW"):
            yield f"  {letter}[{tensor}] = {_expression(shape, axis, letter)};"


def _expression(shape: Shape, axis: int, letter: str) -> str:
    name, *values = shape
    if name == "axes":
        return _expression(values[axis], axis, letter)
    own, image = values[axis::2], ("height", "width")[axis]  # of pairs, the number of this side
    written: dict[str, Callable[[], object]] = {
        "image": lambda: image,
        "constant": lambda: own[0],
        "number": lambda: values[0],
        "same": lambda: f"{letter}[{values[0]}]",
        "side": lambda: f"{letter}[{values[1]}]",
        "scaled": lambda: f"(int)({letter}[{values[1]}] * {values[2]!r})",
        "floor": lambda: f"{image} / {values[1]}",
        "ceil": lambda: f"({image} + {values[1] - 1}) / {values[1]}",
        "phases": lambda: _phases(f"{letter}[{values[0]}]", values[1] if axis else 1),
        "pad": lambda: f"{letter}[{values[0]}] + {values[1 + axis]}",
        "window": lambda: f"window({letter}[{values[0]}], {_numbers(values[1 + axis :: 2])})",
        "window_up": lambda: f"window_up({letter}[{values[0]}], {_numbers(values[1 + axis : 7 : 2])})",
    }
    return str(written[name]())


def _phases(side: str, step: int) -> str:
    return f"({side} + {step - 1}) / {step}"


def _numbers(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))


def _convolution(tensor: int, options: dict[str, Any]) -> Shape:
    sides = (*options["weight"].shape[2:], *options["stride"], *options["padding"], *options["dilation"])
    return ("window", tensor, *sides)


def _pool(tensor: int, options: dict[str, Any]) -> Shape:
    sides = (*options["kernel"], *options["stride"], *options["padding"], 1, 1)
    return ("window_up" if options["ceil"] else "window", tensor, *sides)


def _pad(tensor: int, options: dict[str, Any]) -> Shape:
    left, right, top, bottom = options["pad"]
    return ("pad", tensor, top + bottom, left + right)


_WINDOWS: dict[str, Callable[[int, dict[str, Any]], Shape]] = {
    "convolution": _convolution,
    "max_pool": _pool,
    "avg_pool": _pool,
    "pad": _pad,
}
