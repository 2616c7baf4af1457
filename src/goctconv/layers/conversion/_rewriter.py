"""The rewriting of a graph: every value becomes one node per scale where rules know how, else stays one tensor."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

from torch import fx, nn

from ..._torch import parameters_of
from ._choices import Choices, Scales, ShapeOf
from ._layers import JoinedScales
from ._parts import Indices

Rule: TypeAlias = "Callable[[Rewriter, fx.Node], Scales | ShapeOf | fx.Node | None]"
"""Returns what a node becomes; None if it needs plain tensors."""


class Rewriter:
    """Makes the graph of a converted network.

    Args:
        network: The original.
        graph: Its graph, with shapes.
        choices: What becomes of its convolutions.
        rule_of: Returns the rule of a node, or None.
    """

    def __init__(
        self, network: nn.Module, graph: fx.Graph, choices: Choices, rule_of: Callable[[Rewriter, fx.Node], Rule | None]
    ) -> None:
        self.network = network
        self.choices = choices
        self.modules: dict[str, nn.Module] = {}
        self.converted: list[str] = []
        self.tied = _tied(network)
        self._original = graph
        self._rule_of = rule_of
        self._graph = fx.Graph()
        self._values: dict[fx.Node, Scales | ShapeOf | fx.Node] = {}
        self._joined: dict[fx.Node, fx.Node] = {}
        self._made: dict[str, Hashable] = {}
        self._container = "scales"  # the child that holds modules which stand for functions
        while hasattr(network, self._container):
            self._container += "_"

    def run(self) -> fx.Graph:
        """Return the new graph; `modules` holds those that are new.

        Raises:
            ChoicesChanged: Convolutions have to be converted otherwise.
        """
        for node in self._original.nodes:
            rule = self._rule_of(self, node)
            result = None if rule is None else rule(self, node)
            if result is None and node.op == "call_module":
                self._claim(node, None)
            self._values[node] = self.copied(node) if result is None else result
        return self._graph

    # What rules ask

    def value(self, node: Any) -> Scales | ShapeOf | fx.Node:
        """Return what a node of the original has become."""
        return self._values[node]

    def scales(self, node: Any) -> Scales | None:
        """Return what a node of the original has become, if that has scales."""
        found = self._values.get(node) if isinstance(node, fx.Node) else None
        return found if isinstance(found, Scales) else None

    def module(self, node: fx.Node) -> nn.Module:
        """Return the module that a node of the original calls."""
        return self.network.get_submodule(str(node.target))

    def plain(self, node: fx.Node) -> fx.Node:
        """Return a value as one node, joining its scales if it has some."""
        found = self._values[node]
        if isinstance(found, fx.Node):
            return found
        if node not in self._joined:
            value = found.value if isinstance(found, ShapeOf) else found
            joined = self.call(node, JoinedScales(value.channels, self.choices.upsample), value.parts)
            if isinstance(found, ShapeOf):
                joined = self._graph.call_function(getattr, (joined, "shape"))
            self._joined[node] = joined
        return self._joined[node]

    # What rules make

    def copied(self, node: fx.Node, given: Callable[[fx.Node], fx.Node] | None = None) -> fx.Node:
        """Return a copy of a node, which takes plain tensors unless a function gives other nodes."""
        return self._graph.node_copy(node, given or self.plain)

    def function(self, target: Callable[..., Any], *args: Any) -> fx.Node:
        """Return a new call of a function."""
        return self._graph.call_function(target, args)

    def call(self, node: fx.Node, module: nn.Module, *args: Any) -> fx.Node:
        """Return a call of a new module, which stands for something that was no module."""
        name = f"{self._container}.{node.name}_{len(self.modules)}"
        self.modules[name] = module
        return self._call(name, *args)

    def replace(self, node: fx.Node, key: Hashable, make: Callable[[], nn.Module], *args: Any) -> fx.Node:
        """Return a call of what replaces a module; see `_claim` for the key."""
        name = str(node.target)
        self._claim(node, key)
        if name not in self.modules:
            self.modules[name] = make()
        return self._call(name, *args)

    def _claim(self, node: fx.Node, key: Hashable) -> None:
        """Note what a module becomes; one that is called at several places and would become several is kept."""
        name = str(node.target)
        if self._made.setdefault(name, key) != key:
            self.choices.keep([name])

    def each(self, node: fx.Node, given: Scales) -> Scales:
        """Return a value whose scales a node's function treats one by one."""
        mapped = [dict.fromkeys(node.all_input_nodes, part) for part in given.parts]
        return given._replace(parts=tuple(self.copied(node, nodes.__getitem__) for nodes in mapped))

    def parts(self, node: fx.Node, channels: tuple[Indices, ...], sources: frozenset[str]) -> Scales:
        """Return the scales of a node that gives a tuple."""
        nodes = tuple(self.function(operator.getitem, node, scale) for scale in range(len(channels)))
        return Scales(nodes, channels, sources)

    def _call(self, name: str, *args: Any) -> fx.Node:
        return self._graph.create_node("call_module", name, args)


def _tied(network: nn.Module) -> set[nn.Module]:
    """Return the modules that share parameters with others."""
    own = {module: [id(p) for p in parameters_of(module).values() if p is not None] for module in network.modules()}
    uses = Counter(key for keys in own.values() for key in keys)
    return {module for module, keys in own.items() if any(uses[key] > 1 for key in keys)}
