"""Rules for convolutions and linear layers: a depthwise one passes channels on, the others mix them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from ...graph import Operation
from ._context import Propagation, rule
from ._facts import Blocks, Consumer
from ._shadows import NotUnderstood, Shadow, by_dimension
from ._values import Constants, constants_of, only_where


@rule("conv1d", "conv2d", "conv3d", "convolution", of_any_input=True)
def convolution(t: Propagation, op: Operation) -> Shadow:
    """A convolution."""
    source, weight, groups = op.arguments["input"], op.arguments["weight"], op.arguments["groups"]
    shadow = t.input(op)
    labels = t.channels(shadow, 1)
    if op.arguments.get("transposed"):
        raise NotUnderstood
    if groups > 1 and groups == source.shape[1]:
        return _depthwise(t, op, shadow, labels)
    t.weight_of(weight)
    taint = t.taints.find(source)
    constants = constants_of(source, shadow, 1) if taint is None else taint
    consumer = _consume(t, op, labels, constants, padded=taint is not None or _is_padded(op), groups=groups)
    if groups == 1:
        t.bind(consumer.weight, 1, labels)
    else:
        t.facts.grouped.setdefault(consumer.weight, consumer)
        for side in (labels, consumer.outputs):
            t.facts.blocks.append(Blocks(list(side.chunk(groups)), t.reason("balance", op, f" with {groups} groups")))
    return by_dimension(op.result.shape, 1, consumer.outputs)


def _consume(
    t: Propagation, op: Operation, inputs: Tensor, constants: Constants, output_dimension: int = 0, **details: Any
) -> Consumer:
    """Note a layer that mixes channels."""
    weight = op.arguments["weight"]
    name, factor = t.weight_of(weight)
    copies = details.get("groups", 1) if output_dimension else 1  # the weight's rows serve every group
    outputs = t.row_labels(name, output_dimension, weight.shape[output_dimension] * copies)
    bias = t.bind_bias(op.arguments.get("bias"), outputs, op.path)
    consumer = Consumer(
        module=op.path, weight=name, bias=bias, inputs=inputs, outputs=outputs, **constants._asdict(), factor=factor
    )
    consumer = replace(consumer, **details)
    t.add_consumer(consumer, op.result)
    return consumer


def _is_padded(op: Operation) -> bool:
    padding = op.arguments["padding"]
    if isinstance(padding, str):
        return padding != "valid" and any(size > 1 for size in op.arguments["weight"].shape[2:])
    return any(size != 0 for size in padding)


def _depthwise(t: Propagation, op: Operation, shadow: Shadow, labels: Tensor) -> Shadow:
    weight, groups = op.arguments["weight"], op.arguments["groups"]
    outputs = labels.repeat_interleave(weight.shape[0] // groups)
    named = t.stored.weight_of(weight)
    if named is not None:
        t.bind(named[0], 0, outputs)
        t.facts.depthwise.setdefault(named[0], outputs)
    elif weight.stride(0) != 0:  # else all channels have one filter
        raise NotUnderstood
    t.bind_bias(op.arguments.get("bias"), outputs, op.path)
    if not t.is_plain(op.path):
        t.note_size(labels, t.sources.of([groups])[0], t.reason("size", op))
    if _is_padded(op):
        shadow = only_where(op.arguments["input"], shadow, 0)
    constant = shadow.flags_along(1).repeat_interleave(len(outputs) // groups)
    return by_dimension(op.result.shape, 1, outputs, constant)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", of_any_input=True)
def transposed_convolution(t: Propagation, op: Operation) -> Shadow:
    """A transposed convolution: kernels overlap in other ways at the border, so constants are merged there."""
    source, weight, groups = op.arguments["input"], op.arguments["weight"], op.arguments["groups"]
    name, _ = t.weight_of(weight)
    shadow = t.input(op)
    labels = t.channels(shadow, 1)
    t.bind(name, 0, labels)
    if groups > 1 and groups == source.shape[1] and weight.shape[1] == 1:
        t.bind_bias(op.arguments.get("bias"), labels, op.path)
        t.facts.depthwise.setdefault(name, labels)
        return by_dimension(op.result.shape, 1, labels, only_where(source, shadow, 0).flags_along(1))
    taint = t.taints.find(source)
    constants = constants_of(source, shadow, 1) if taint is None else taint
    consumer = _consume(t, op, labels, constants, 1, padded=True, groups=groups, is_transposed=True)
    if groups > 1:
        t.facts.grouped.setdefault(name, consumer)
        for side in (labels, consumer.outputs):
            t.facts.blocks.append(Blocks(list(side.chunk(groups)), t.reason("balance", op, f" with {groups} groups")))
    return by_dimension(op.result.shape, 1, consumer.outputs)


@rule("deform_conv2d", of_any_input=True, weights=lambda op: [op.arguments["weight"], op.arguments["bias"]])
def deformable_convolution(t: Propagation, op: Operation) -> Shadow:
    """A convolution that reads at places which another layer computes."""
    source, shadow = op.args[0], t.input(op)
    if op.arguments["groups"] != 1 or op.arguments["offset_groups"] != 1:
        raise NotUnderstood
    labels = t.channels(shadow, 1)
    for key in ("offset", "mask"):
        t.freeze(t.shadow_of(op.arguments[key]).labels, t.reason("mixed", op))
    taint = t.taints.find(source)
    consumer = _consume(t, op, labels, constants_of(source, shadow, 1) if taint is None else taint, padded=True)
    t.bind(consumer.weight, 1, labels)
    return by_dimension(op.result.shape, 1, consumer.outputs)


@rule("linear", of_any_input=True, keeps_constants=True)
def linear(t: Propagation, op: Operation) -> Shadow:
    """A linear layer, which mixes the last dimension."""
    source = op.arguments["input"]
    t.weight_of(op.arguments["weight"])
    shadow = t.input(op)
    labels = shadow.channels_along(-1)
    consumer = _consume(t, op, labels, constants_of(source, shadow, source.dim() - 1))
    t.bind(consumer.weight, 1, labels)
    return by_dimension(op.result.shape, op.result.dim() - 1, consumer.outputs)
