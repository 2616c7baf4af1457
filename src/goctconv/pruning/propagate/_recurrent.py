"""Rules for recurrent layers: what they read from outside goes through linear layers."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...graph import Operation
from ._context import Propagation, rule
from ._facts import Consumer
from ._shadows import FROZEN, NotUnderstood, Shadow, uniform
from ._values import constants_of

_LAYERS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
_CELLS = ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")


def _parameters(op: Operation) -> list[Any]:
    return list(op.arguments["params"])


@rule(*_LAYERS, of_any_input=True, weights=_parameters)
def recurrent(t: Propagation, op: Operation) -> list[Shadow]:
    """A recurrent network; its first layers, one per direction, read what comes in."""
    arguments = op.arguments
    source = arguments.get("input", arguments.get("data"))
    parameters = arguments["params"]
    if source is None or (arguments["train"] and arguments["dropout"]):
        raise NotUnderstood
    by_layer = len(parameters) // (arguments["num_layers"] * (1 + arguments["bidirectional"]))
    for direction in range(1 + arguments["bidirectional"]):
        weights = parameters[direction * by_layer : (direction + 1) * by_layer]
        _read(t, op, source, weights[0], weights[2] if arguments["has_biases"] else None)
    return _opaque(t, op, source)


@rule(*_CELLS, of_any_input=True, weights=lambda op: [op.arguments[key] for key in ("w_ih", "w_hh", "b_ih", "b_hh")])
def recurrent_cell(t: Propagation, op: Operation) -> list[Shadow]:
    """One step of a recurrent layer."""
    source = op.arguments["input"]
    _read(t, op, source, op.arguments["w_ih"], op.arguments["b_ih"])
    return _opaque(t, op, source)


def _read(t: Propagation, op: Operation, source: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Note a linear layer that reads channels, and whose outputs must stay."""
    name, _ = t.weight_of(weight)
    shadow = t.shadow_of(source)
    labels = t.channels(shadow, -1)
    outputs = uniform((len(weight),), FROZEN).labels.contiguous()
    bias_name = t.bind_bias(bias, outputs, op.path)
    constants = constants_of(source, shadow, source.dim() - 1)
    consumer = Consumer(
        module=op.path, weight=name, bias=bias_name, inputs=labels, outputs=outputs, **constants._asdict()
    )
    t.add_consumer(consumer, source.new_empty(0))
    t.bind(name, 1, labels)


def _opaque(t: Propagation, op: Operation, source: Tensor) -> list[Shadow]:
    """Freeze all else that comes in, such as the first state, and what comes out."""
    for key, shadow in t.known.items():
        if shadow is not None and key != id(source):
            t.freeze(shadow.labels, t.reason("mixed", op))
    return [uniform(result.shape, FROZEN) for result in op.results]
