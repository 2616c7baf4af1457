"""OpenVINO's files of networks, which are compared with the original before they are written."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from ..._checks import ArgumentError
from .._engines import OpenVINOEngine, need
from ._check import folder_beside, tolerance_of
from ._onnx import FOR_ONNX, Exported

_FOR_OPENVINO = (*FOR_ONNX, "openvino")


def export_openvino(
    model: nn.Module,
    file: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    in_chans: int | None = None,
    dtype: torch.dtype = torch.float32,
    tolerance: float | None = None,
) -> None:
    """Write a network as OpenVINO's intermediate representation, ``NAME.xml`` and ``NAME.bin`` beside it.

    As `export_onnx`, through a temporary ONNX file, but compared in OpenVINO.

    Args:
        model: As in `export_onnx`.
        file: The ``.xml`` file; older files are replaced.
        size: As in `export_onnx`.
        in_chans: As in `export_onnx`.
        dtype: Type of the stored weights: torch.float32 or torch.float16. OpenVINO takes the type of the computation
            when it loads the file.
        tolerance: As in `export_onnx`.

    Raises:
        ImportError: openvino, onnx, onnxscript or onnxruntime is missing.
        ExportError: The outputs differ, or the network's own output is not finite.
        ArgumentError: A wrong size, another ``dtype``, or the file does not end in ".xml".

    Example:
        >>> import goctconv
        >>> from goctconv.deployment import export_openvino
        >>> model = goctconv.create_model("csnet_x1_l", checkpoint_path="csnet-L-x1.pth.tar")  # doctest: +SKIP
        >>> export_openvino(model, "csnet.xml")  # doctest: +SKIP
    """
    need("OpenVINO export", "openvino", _FOR_OPENVINO)
    tolerance_of(dtype, tolerance)
    if Path(file).suffix != ".xml":
        cure = "the weights go into a file beside it that ends in .bin"
        raise ArgumentError("file", os.fspath(file), "a path that ends in .xml", cure)
    with folder_beside(Path(file)):  # before minutes of work
        write_openvino(Exported(model, size=size, in_chans=in_chans), file, dtype, tolerance)


def write_openvino(
    exported: Exported, file: str | os.PathLike[str], dtype: torch.dtype = torch.float32, tolerance: float | None = None
) -> None:
    """Write the two files of an exported network, if their output is right."""
    openvino, path = need("OpenVINO export", "openvino", _FOR_OPENVINO), Path(file)
    with folder_beside(path) as folder:
        exported.save(folder / "network.onnx", keep_prelu=True)
        temporary = folder / path.name
        graph = openvino.Core().read_model(str(folder / "network.onnx"))
        openvino.save_model(graph, str(temporary), compress_to_fp16=dtype == torch.float16)
        engine = OpenVINOEngine(temporary, threads=1, size=exported.size)
        exported.reference.compare(engine, "OpenVINO", dtype, tolerance)
        for part in (temporary.with_suffix(".bin"), temporary):
            part.replace(path.parent / part.name)
