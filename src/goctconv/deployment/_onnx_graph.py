"""What exported graphs still need: the exporter is careful where speed wants to be bold."""

from __future__ import annotations

from typing import Any

import numpy as np


def tidy(model: Any, *, keep_prelu: bool) -> None:
    """Make the graph of an ``onnx_ir.Model`` small and fast; what it computes stays.

    Args:
        model: The model, which is changed.
        keep_prelu: Leave PRelu as it is. ONNX Runtime takes three times as long for it as for the maximum of x and
            slope times x, which is the same where no slope exceeds 1 (1.32, AVX-512); OpenVINO computes PRelu
            within the convolution before it.
    """
    _forget_sources(model)
    _size_by_axes(model)
    if not keep_prelu:
        _prelu_as_maximum(model)
    _drop_unused(model)


def _forget_sources(model: Any) -> None:
    """Remove stack traces, which name files of this machine and outweigh the weights."""
    for node in model.graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()


def _size_by_axes(model: Any) -> None:
    """Let Resize name height and width alone, so that nothing computes the batch and the channels that stay."""
    import onnx_ir as ir  # noqa: PLC0415  (of the extra "onnx")

    if model.graph.opset_imports[""] < 18:  # the first with axes
        return
    for node in list(model.graph):
        if node.op_type != "Resize" or len(node.inputs) < 4 or "axes" in node.attributes:
            continue
        sizes = node.inputs[3].producer()
        if sizes is None or sizes.op_type != "Concat" or len(sizes.inputs) != 2:
            continue
        kept = sizes.inputs[0].producer()
        if kept is None or kept.op_type != "Shape" or kept.inputs[0] is not node.inputs[0]:
            continue
        if (kept.attributes.get_int("start", 0), kept.attributes.get_int("end", -1)) == (0, 2):
            node.replace_input_with(3, sizes.inputs[1])
            node.attributes["axes"] = ir.AttrInt64s("axes", [2, 3])


def _prelu_as_maximum(model: Any) -> None:
    import onnx_ir as ir  # noqa: PLC0415  (of the extra "onnx")

    for node in list(model.graph):
        if node.op_type != "PRelu" or node.inputs[1].const_value is None:
            continue
        if not bool(np.all(node.inputs[1].const_value.numpy() <= 1)):
            continue
        x, result = node.inputs[0], node.outputs[0]
        scaled = ir.node("Mul", [x, node.inputs[1]])
        greater = ir.node("Max", [x, scaled.outputs[0]])
        for made in (scaled.outputs[0], greater.outputs[0]):
            made.type, made.shape = result.type, result.shape
        ir.convenience.replace_nodes_and_values(
            model.graph, node, [node], [scaled, greater], [result], [greater.outputs[0]]
        )


def _drop_unused(model: Any) -> None:
    from onnx_ir.passes.common import RemoveUnusedNodesPass  # noqa: PLC0415  (of the extra "onnx")

    RemoveUnusedNodesPass()(model)
