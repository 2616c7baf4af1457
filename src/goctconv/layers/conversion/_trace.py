"""The graph of a network that is to be converted, with the shape of every tensor on an example."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..._checks import ArgumentError, ArgumentWarning, escaped
from ..._torch import BatchNorm, ConvNd
from .._layer import ScaleLayer

SHAPE = "goctconv_shape"
"""The key of a node's ``meta`` under which the shape of its tensor is."""
_DROPOUT = {
    F.dropout: nn.Dropout,
    F.dropout2d: nn.Dropout2d,
    F.alpha_dropout: nn.AlphaDropout,
    F.feature_alpha_dropout: nn.FeatureAlphaDropout,
}


class _Tracer(fx.Tracer):
    """Keeps modules whole that depend on the mode in their own code, that are convolutions, or that a list names."""

    def __init__(self, whole: set[str]) -> None:
        super().__init__()
        self.whole = whole
        self.failed: str | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_known = isinstance(m, BatchNorm | ConvNd | ScaleLayer) or module_qualified_name in self.whole
        return is_known or _depends_on_mode(m) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = self.failed or self.path_of_module(m)
            raise


def _depends_on_mode(module: nn.Module) -> bool:
    """Whether a module without children reads ``training`` in its forward pass, as stochastic depth does."""
    code = getattr(type(module).forward, "__code__", None)
    return code is not None and "training" in code.co_names and not any(True for _ in module.children())


def traced(network: nn.Module, args: tuple[Any, ...]) -> fx.Graph:
    """Return the graph of a network in eval mode; what torch.fx cannot trace is kept whole, with a warning.

    Functions of dropout become modules in the network, so that they follow its mode.

    Raises:
        ArgumentError: The forward pass of the network itself cannot be traced.
    """
    whole: dict[str, Exception] = {}
    graph = _graph(network, args, whole)
    network.train()
    learning = _graph(network, args, whole)
    network.eval()
    if not _follow_mode(network, graph, learning):
        problem = "computes other things in train mode than in eval mode"
        cure = "the result always computes those of eval mode: turn off auxiliary heads for both"
        warnings.warn(ArgumentWarning("model", type(network).__name__, cure=cure, problem=problem), stacklevel=3)
    for name, error in whole.items():
        kind = type(network.get_submodule(name)).__name__
        problem = f"of {kind} stays as it is: torch.fx cannot trace it ({escaped(error)})"
        warnings.warn(ArgumentWarning("module", name, problem=problem), stacklevel=3)
    with torch.no_grad():
        _Shapes(fx.GraphModule(network, graph)).run(*args)
    return graph


def _graph(network: nn.Module, args: tuple[Any, ...], whole: dict[str, Exception]) -> fx.Graph:
    parameters = list(inspect.signature(network.forward).parameters.values())
    others = {p.name: p.default for p in parameters[len(args) :] if p.default is not p.empty}
    while True:
        tracer = _Tracer(set(whole))
        try:
            return _without(tracer.trace(network, others or None), len(args))
        except Exception as error:
            if tracer.failed is None or tracer.failed in whole:
                cure = "convert the part of it that makes features, such as its backbone, and put that in its place"
                problem = f"has a forward pass that torch.fx cannot trace ({escaped(error)})"
                raise ArgumentError("model", type(network).__name__, cure=cure, problem=problem) from error
            whole[tracer.failed] = error


def _without(graph: fx.Graph, count: int) -> fx.Graph:
    """Return a graph that takes the first arguments alone: others are fixed, and what checks them goes."""
    pending = [node for node in graph.nodes if node.op == "placeholder"][count:]
    while pending:
        if pending[-1].users:
            pending.extend(pending[-1].users)
        else:
            node = pending.pop()
            if node in graph.nodes:
                graph.erase_node(node)
    return graph


def _follow_mode(network: nn.Module, graph: fx.Graph, learning: fx.Graph) -> bool:
    """Make modules of functions of dropout that follow the mode; returns whether the graphs are alike but for those."""
    if [(n.op, n.target) for n in graph.nodes] != [(n.op, n.target) for n in learning.nodes]:
        return False
    is_alike = True
    for node, other in zip(list(graph.nodes), learning.nodes, strict=True):
        constants = [repr((n.args, n.kwargs)) for n in (node, other)]
        if constants[0] == constants[1]:
            continue
        given = [_arguments(n) for n in (node, other)]
        if given[0] is None or given[1] is None or given[0]["training"] or not given[1]["training"]:
            is_alike = False
            continue
        name = _free_name(network, node.name)
        network.add_module(name, _DROPOUT[node.target](given[0]["p"], given[0]["inplace"]).eval())
        node.op, node.target, node.args, node.kwargs = "call_module", name, (given[0]["input"],), {}
    return is_alike


def _arguments(node: fx.Node) -> dict[str, Any] | None:
    """Return the arguments of a function of dropout by name; None of other functions."""
    if node.op != "call_function" or node.target not in _DROPOUT:
        return None
    bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def _free_name(network: nn.Module, name: str) -> str:
    while hasattr(network, name):
        name = f"{name}_"
    return name


class _Shapes(fx.Interpreter):
    """Runs a graph and notes the shapes of tensors."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta[SHAPE] = tuple(result.shape)
        return result
