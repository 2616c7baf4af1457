"""The recorded network before it is lowered: without unread nodes, in forms that the runtime has."""

from __future__ import annotations

from collections import Counter

from ._nodes import Network, Node


def uses_of(network: Network) -> Counter[Node]:
    uses = Counter(source for node in network.nodes for source in node.inputs)
    uses[network.output] += 1
    return uses


def simplified(network: Network) -> Network:
    """Return the network without unread nodes, and with activations of concatenations in front of them."""
    needed: set[Node] = {network.output}
    for node in reversed(network.nodes):
        if node in needed:
            needed.update(node.inputs)
    replaced: dict[Node, Node] = {}
    nodes = _halved([node for node in network.nodes if node in needed], replaced)
    output = replaced.get(network.output, network.output)
    uses = uses_of(Network(nodes, output, network.is_flat, network.images))
    found: list[Node] = []
    for node in nodes:
        node.inputs = [replaced.get(source, source) for source in node.inputs]
        source = node.inputs[0] if node.inputs else None
        if node.kind == "activation" and source is not None and source.kind == "concatenate" and uses[source] == 1:
            found.remove(source)
            parts = _split_activation(node, source)
            found += parts
            source.inputs = parts
            found.append(source)
            replaced[node] = source
        else:
            found.append(node)
    return Network(found, replaced.get(output, output), network.is_flat, network.images)


def _halved(nodes: list[Node], replaced: dict[Node, Node]) -> list[Node]:
    """Return the nodes with max pools of 4, 8 … pixels as pools of 2, one behind the other, and note the new ones."""
    found: list[Node] = []
    made: dict[Node, Node] = {}
    for node in nodes:
        node.inputs = [replaced.get(source, source) for source in node.inputs]
        side = node.options["kernel"][0] if _is_square_pool(node) else 0
        if side < 2 or side & (side - 1):
            found.append(node)
            continue
        source = node.inputs[0]
        for _ in range(side.bit_length() - 1):
            if source not in made:
                options = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "ceil": False}
                sizes = [(height // 2, width // 2) for height, width in source.sizes]
                made[source] = Node("max_pool", [source], node.channels, options, node.path, node.operator, sizes)
                found.append(made[source])
            source = made[source]
        replaced[node] = source
    return found


def _is_square_pool(node: Node) -> bool:
    """Whether a node takes the maximum of squares side by side."""
    options = node.options
    is_square = node.kind == "max_pool" and options["kernel"] == options["stride"]
    return (
        is_square
        and options["kernel"][0] == options["kernel"][1]
        and options["padding"] == (0, 0)
        and not options["ceil"]
    )


def _split_activation(node: Node, concatenated: Node) -> list[Node]:
    parts, start = list[Node](), 0
    for source in concatenated.inputs:
        options = dict(node.options)
        if "slopes" in options:
            options["slopes"] = options["slopes"][start : start + source.channels]
        start += source.channels
        part = Node("activation", [source], source.channels, options, node.path, node.operator, list(source.sizes))
        parts.append(part)
    return parts
