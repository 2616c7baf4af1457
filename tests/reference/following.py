"""What follows every BatchNorm of a network, read off its exported graph: nothing is hooked, no name is guessed.

The definition: the first elementwise activation, module or function, applied to the BatchNorm's output alone; where
there is none before a sum, a pooling, a convolution, ..., the BatchNorm's own output. Hand-written activations such as
x·sigmoid(x), x·relu6(x + 3)/6 and x - tanh(x) count whole.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

_SAME = {"alias", "clone", "contiguous", "detach", "dropout", "feature_dropout", "to", "_to_copy"}
_REARRANGED = {
    *(
        "flatten",
        "permute",
        "reshape",
        "reshape_as",
        "squeeze",
        "transpose",
        "unflatten",
        "unsqueeze",
        "view",
        "view_as",
    ),
}
_LINEAR = {"add", "sub", "rsub", "mul", "div", "neg"}
_NONLINEAR = {
    *("relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "tanh"),
    *("sigmoid", "hardtanh", "hardsigmoid", "hardswish", "clamp", "clamp_min", "clamp_max", "abs", "exp", "pow"),
    *("log_sigmoid", "threshold", "hardshrink", "softshrink", "square"),
}


@dataclass(frozen=True)
class Activation:
    """What follows a BatchNorm.

    Attributes:
        operations: The names of the operations on the way from the BatchNorm's output to the activation; none where the
            output itself is read.
        module: The path of the innermost module that runs the last of them.
    """

    operations: tuple[str, ...] = ()
    module: str = ""


class Following:
    """The exported train-mode graph of a network.

    Args:
        model: The network, in train mode.
        images: Its input.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        with torch.no_grad():
            program = torch.export.export(model, (images,), strict=False)
        guarded = "check_guards" in inspect.signature(program.module).parameters  # older PyTorch has no guards
        self._module = program.module(check_guards=False) if guarded else program.module()
        _let_in_place_results_be_read(self._module.graph)
        self._order = {node: position for position, node in enumerate(self._module.graph.nodes)}
        norms = {name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
        self._calls = [
            (node, _path(node)) for node in self._order if _name(node) == "batch_norm" and _path(node) in norms
        ]
        self.images = {path: len(norm.meta["val"]) for norm, path in self._calls}

    def activations(self) -> dict[str, Activation]:
        """Return what follows every BatchNorm that runs, by its path."""
        found: dict[str, Activation] = {}
        for norm, path in self._calls:
            nodes = self._followed(norm)
            activation = Activation(tuple(_name(node) for node in nodes), _path(nodes[-1]) if nodes else "")
            assert found.setdefault(path, activation) == activation, f"{path} is called with different successors"
        return found

    def pooled(self, images: Tensor) -> dict[str, Tensor]:
        """Return the mean over images of the absolute global average pool of what follows, by path, (C,) each."""
        read = {}
        for norm, path in self._calls:
            last = [norm, *self._followed(norm)][-1]
            read[last] = path, norm.meta["val"].shape, self._places(norm)[last]
        pooled: dict[str, list[Tensor]] = {}

        class Reader(fx.Interpreter):
            def run_node(self, node: fx.Node) -> Any:
                result = super().run_node(node)
                if node in read:
                    path, shape, places = read[node]
                    maps = torch.empty(shape, dtype=torch.float64)
                    maps.view(-1)[places.flatten()] = result.double().flatten()
                    pooled.setdefault(path, []).append(maps.flatten(2).mean(2) if maps.dim() > 2 else maps)
                return result

        with torch.no_grad():
            Reader(self._module).run(images)
        return {path: torch.cat(parts).abs().mean(0) for path, parts in pooled.items()}

    def _followed(self, norm: fx.Node) -> list[fx.Node]:
        """Return the steps to the activation, the last of which gives it."""
        functions = list(self._functions(norm))
        first = next((node for node in functions if self._is_nonlinear(node, norm)), None)
        if first is None:
            return []
        last = first
        for node in functions:
            operands = _operands(node)
            contain = [first in _ancestors(operand, norm) for operand in operands]
            is_combination = any(contain) and not all(contain)
            is_end = last is not first and operands == [last] and _name(node) in _LINEAR
            last = node if is_combination or is_end else last
        contained = _ancestors(last, norm)
        return [node for node in functions if node in contained and _name(node) not in _SAME | _REARRANGED]

    def _functions(self, norm: fx.Node) -> Iterator[fx.Node]:
        """Yield the elementwise functions of a node alone, in the order in which they are computed."""
        known, waiting = {norm}, set(norm.users)
        while waiting:
            node = min(waiting, key=self._order.__getitem__)
            waiting.remove(node)
            if self._is_function(node, known):
                known.add(node)
                waiting.update(node.users)
                yield node

    def _places(self, norm: fx.Node) -> dict[fx.Node, Tensor]:
        """Return, for every function of a node, which of the node's elements stands where."""
        shape = norm.meta["val"].shape
        places = {norm: torch.arange(shape.numel()).view(shape)}
        for node in self._functions(norm):
            place = places[_operands(node)[0]]
            is_exchange = _name(node) in {"permute", "transpose"}
            places[node] = node.target(place, *node.args[1:]) if is_exchange else place.reshape(node.meta["val"].shape)
        return places

    def _is_function(self, node: fx.Node, known: set[fx.Node]) -> bool:
        name = _name(node)
        if name not in _SAME | _REARRANGED | _LINEAR | _NONLINEAR:
            is_pointwise = node.op == "call_function" and torch.Tag.pointwise in getattr(node.target, "tags", ())
            assert not is_pointwise or name == "copy", f"{name} is elementwise: is it linear or not?"
            return False
        if not known.issuperset(_operands(node)):
            return False
        shapes = [operand.meta["val"].shape for operand in _operands(node)]
        return name in _SAME | _REARRANGED or all(shape == node.meta["val"].shape for shape in shapes)

    def _is_nonlinear(self, node: fx.Node, norm: fx.Node) -> bool:
        if _name(node) in _NONLINEAR:
            return True
        return (
            _name(node) in {"mul", "div"} and sum(norm in _ancestors(operand, norm) for operand in _operands(node)) > 1
        )


def _let_in_place_results_be_read(graph: fx.Graph) -> None:
    """Replace a tensor that an in-place operation changed by the operation's result, in all that is computed later."""
    later: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if _is_in_place(node):
            source = node.args[0]
            base = source.args[0] if _name(source) in _REARRANGED | {"narrow", "select", "slice"} else None
            assert base is None or later.isdisjoint(base.users), f"{base} is read after a view of it has changed"
            source.replace_all_uses_with(node, delete_user_cb=later.__contains__)
        later.add(node)


def _is_in_place(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable and node.args[0].op != "get_attr"


def _operands(node: fx.Node) -> list[fx.Node]:
    """Return the tensors that are computed with, each as often as it occurs; parameters left out."""
    arguments = node.args[:1] if _name(node) in _REARRANGED else node.args
    return [operand for operand in arguments if isinstance(operand, fx.Node) and operand.op != "get_attr"]


def _ancestors(node: fx.Node, stop: fx.Node) -> set[fx.Node]:
    """Return the node and those that it is computed from, back to another one."""
    found, waiting = set(), [node]
    while waiting:
        earlier = waiting.pop()
        if earlier not in found:
            found.add(earlier)
            if earlier is not stop:
                waiting += _operands(earlier)
    return found


def _name(node: fx.Node) -> str:
    """Return an operation's name, in-place or not."""
    packet = getattr(node.target, "overloadpacket", None) if node.op == "call_function" else None
    return packet.__name__.rstrip("_") if packet is not None else ""


def _path(node: fx.Node) -> str:
    """Return the path of the innermost module that a node belongs to."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return stack[-1][0].split("@")[0] if stack else ""
