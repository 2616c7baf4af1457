"""ONNX files of networks, which are compared with the original before they are written."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._deploy import deploy
from .._deployed import DeployedModel
from .._engines import OnnxEngine, need
from ._check import LEAST, ExportError, Reference, folder_beside, parse_size, tolerance_of

FOR_ONNX = ("onnx", "onnxscript", "onnxruntime")


def export_onnx(
    model: nn.Module,
    file: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    in_chans: int | None = None,
    dtype: torch.dtype = torch.float32,
    keep_prelu: bool = False,
    tolerance: float | None = None,
) -> None:
    """Write a network as one ONNX file with dynamic batch, height and width, or of one size.

    The file holds the network that `deploy` returns: BatchNorm and constant factors are part of the convolutions.

    Before the file is written, the exported network runs in ONNX Runtime on images of four sizes, odd ones too, or of
    its one size, one and three at a time; its output must equal the network's within ``tolerance``.
    The input is named "image", the output "logits"; both are float32.

    Args:
        model: A network (B, C, H, W) → (B, K, H, W) for H, W ≥ 32, with trained or calibrated weights. It is not
            changed; a copy in eval mode is exported.
        file: The file to write; an older one is replaced.
        size: Height and width, or one number for both, of the only images that the file will take, in any number:
            needed by transformers with windows and by some runtimes. None: any from 32.
        in_chans: Channels of the image; by default those that the model names in ``in_chans``, else 3.
        dtype: What the network computes in between: torch.float32, or torch.float16, in half the bytes, for
            accelerators. Processors convert it back.
        keep_prelu: Write PReLU as one operation. Otherwise it becomes max(x, slope · x) where no slope exceeds 1, which
            ONNX Runtime computes faster on processors.
        tolerance: Largest difference that is accepted, relative to the largest output; by default 1e-4 in float32 and
            1e-2 in float16, or, up to 1e-2, four times as much as the network's own output in float32 differs from that
            in float64: networks with random weights can make much of a rounding.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is missing.
        ExportError: The outputs differ, or the network's own output is not finite.
        ArgumentError: A wrong size, or another ``dtype``.

    Example:
        >>> import goctconv
        >>> from goctconv.deployment import export_onnx
        >>> model = goctconv.create_model("csnet_x1_l", checkpoint_path="csnet-L-x1.pth.tar")  # doctest: +SKIP
        >>> export_onnx(model, "csnet.onnx")  # doctest: +SKIP
    """
    tolerance_of(dtype, tolerance)
    with folder_beside(Path(file)):  # before minutes of work
        Exported(model, size=size, in_chans=in_chans, dtype=dtype).write_onnx(file, keep_prelu, tolerance)


class Exported:
    """An exported network that can be written for several engines; the export is what takes time."""

    def __init__(
        self,
        model: nn.Module,
        *,
        size: int | tuple[int, int] | None = None,
        in_chans: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        need("ONNX export", "onnx", FOR_ONNX)
        self.size, self.dtype = parse_size(size), dtype
        channels = in_chans if in_chans is not None else getattr(model, "in_chans", 3)
        network = copy.deepcopy(model.network if isinstance(model, DeployedModel) else model).cpu().float().eval()
        self.reference = Reference(network, channels, self.size)
        self._graph = _exported_graph(network, self.reference, dtype, is_deployed=isinstance(model, DeployedModel))

    def write_onnx(
        self, file: str | os.PathLike[str], keep_prelu: bool = False, tolerance: float | None = None
    ) -> None:
        """Write the file, if its output is right."""
        path = Path(file)
        with folder_beside(path) as folder:
            temporary = folder / path.name
            self.save(temporary, keep_prelu=keep_prelu)
            engine = OnnxEngine(temporary, threads=1, size=self.size)
            self.reference.compare(engine, "ONNX Runtime", self.dtype, tolerance)
            temporary.replace(path)

    def save(self, file: Path, *, keep_prelu: bool) -> None:
        """Write the graph to a file, unchecked."""
        import onnx_ir as ir  # noqa: PLC0415  (of the extra "onnx")

        model = ir.from_proto(self._graph)
        tidy(model, keep_prelu=keep_prelu)
        ir.save(model, file)


class _InHalf(nn.Module):
    """A network that computes in float16, for images and logits of float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.network(image.half())
        return output.float()


def _exported_graph(network: nn.Module, reference: Reference, dtype: torch.dtype, *, is_deployed: bool) -> Any:
    """Return the ``onnx.ModelProto`` of a network, as the exporter gives it."""
    image, is_fixed = reference.images[1], reference.is_fixed
    smallest = {0: ("batch", 1)} if is_fixed else {0: ("batch", 1), 2: ("height", LEAST), 3: ("width", LEAST)}
    dims = {axis: torch.export.Dim(name, min=least) for axis, (name, least) in smallest.items()}
    try:
        deployed = network if is_deployed else deploy(network, example_inputs=image).network
        deployed = copy.deepcopy(deployed).to(memory_format=torch.contiguous_format)  # else a height of 1 is ambiguous
        program = torch.onnx.export(
            _InHalf(deployed).eval() if dtype == torch.float16 else deployed,
            (image,),
            dynamo=True,
            dynamic_shapes=(dims,),
            input_names=["image"],
            output_names=["logits"],
            verbose=False,
        )
    except Exception as error:  # whatever the exporter raises
        cure = "of a wrapper, export what it wraps (model.module of DataParallel, model._orig_mod of torch.compile)"
        cure += "" if is_fixed else "; for a backbone that needs one size, as with windows, name it with {size}"
        raise ExportError(f"torch.onnx.export cannot export this {type(network).__name__} ({error})", cure) from error
    if program is None:  # only the exporter without dynamo returns None
        raise ExportError("torch.onnx.export returned no program")
    return program.model_proto


def tidy(model: Any, *, keep_prelu: bool) -> None:
    """Make the graph of an ``onnx_ir.Model`` small and fast; what it computes stays."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass  # noqa: PLC0415  (of the extra "onnx")

    _forget_sources(model)
    _size_by_axes(model)
    if not keep_prelu:
        _prelu_as_maximum(model)
    RemoveUnusedNodesPass()(model)


def _forget_sources(model: Any) -> None:
    """Remove stack traces, which name files of this machine and outweigh the weights."""
    for node in model.graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()


def _size_by_axes(model: Any) -> None:
    """Resize height and width alone, so that nothing computes the unchanged batch and channels."""
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
