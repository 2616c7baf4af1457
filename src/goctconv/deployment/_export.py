"""ONNX files that are checked before they are written."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_CHECKED = ((1, 64, 64), (3, 67, 83), (1, 33, 95), (3, 96, 50))
_BATCHES = (1, 3)  # of a fixed size
_LEAST = 32


class ExportError(RuntimeError):
    """The exported network does not compute what the original computes; no file was written."""


def export_onnx(
    model: nn.Module,
    file: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    in_chans: int | None = None,
    tolerance: float = 1e-4,
) -> None:
    """Write a network as one ONNX file with dynamic batch, height and width, or of one size.

    The exported network runs in ONNX Runtime on images of four sizes, odd ones too, one and three at a time; only if
    its output equals the network's, the file is written, whole or not at all. The input is named "image", the output
    "logits".

    Args:
        model: A network (B, C, H, W) → (B, K, H, W) for H, W ≥ 32, with trained or calibrated weights. It is left as it
            is; a copy in eval mode and float32 is exported.
        file: Where to; an older file is replaced.
        size: Height and width, or one number for both, of the only images that the file will take, in any number: what
            transformers with windows need, and what other runtimes may want. None: any from 32.
        in_chans: Channels of the image; by default those that the model names in ``in_chans``, else 3.
        tolerance: Largest difference that is accepted, relative to the largest output.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is missing.
        ExportError: The outputs differ, or the network's own output is not finite.
        ValueError: A size that is none.

    Example:
        >>> import goctconv
        >>> from goctconv.deployment import export_onnx
        >>> model = goctconv.create_model("csnet_x1_l", checkpoint_path="csnet-L-x1.pth.tar")  # doctest: +SKIP
        >>> export_onnx(model, "csnet.onnx")  # doctest: +SKIP
    """
    runtime = _onnx_runtime()
    channels = in_chans if in_chans is not None else getattr(model, "in_chans", 3)
    network = copy.deepcopy(model).cpu().float().eval()
    fixed = None if size is None else _parse_size(size)
    images = _images(channels, fixed)
    path = Path(file)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name the file to write in it")
    expected = [_output(network, image) for image in images]
    for image, output in zip(images, expected, strict=True):
        if not torch.isfinite(output).all():
            raise ExportError(
                f"the network's own output for an image of {tuple(image.shape)} is not finite, so nothing can be "
                "checked: load trained weights, or calibrate its BatchNorm"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".goctconv-") as folder:
        temporary = Path(folder) / path.name
        _export(network, images[1], temporary, is_fixed=fixed is not None)
        _check(runtime, temporary, images, expected, tolerance)
        temporary.replace(path)


@torch.no_grad()
def _output(network: nn.Module, image: Tensor) -> Tensor:
    try:
        output = network(image)
    except Exception as error:  # whatever it raises, it cannot be checked
        raise ExportError(
            f"the network does not run on an image of {tuple(image.shape)} ({error}); it must take any size from "
            "32x32, or the one that size= names"
        ) from error
    if not isinstance(output, Tensor):
        raise ExportError(f"the network returns a {type(output).__name__}, expected one tensor: wrap it to return that")
    return output


def _onnx_runtime() -> Any:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"ONNX export needs {', '.join(missing)}: install them with pip install 'goctconv[onnx]'")
    return importlib.import_module("onnxruntime")


def _parse_size(size: int | tuple[int, int]) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) or side < _LEAST for side in sides):
        raise ValueError(f"size={size!r} must be one integer or (height, width), each at least {_LEAST}")
    return sides[0], sides[1]


def _images(channels: int, size: tuple[int, int] | None) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = _CHECKED if size is None else [(batch, *size) for batch in _BATCHES]
    return [torch.randn(batch, channels, h, w, generator=generator) for batch, h, w in shapes]


def _export(network: nn.Module, image: Tensor, file: Path, *, is_fixed: bool) -> None:
    smallest = {0: ("batch", 1)} if is_fixed else {0: ("batch", 1), 2: ("height", _LEAST), 3: ("width", _LEAST)}
    dims = {axis: torch.export.Dim(name, min=least) for axis, (name, least) in smallest.items()}
    try:
        program = torch.onnx.export(
            network,
            (image,),
            dynamo=True,
            dynamic_shapes=(dims,),
            input_names=["image"],
            output_names=["logits"],
            verbose=False,
        )
    except Exception as error:  # whatever the exporter raises
        raise ExportError(
            f"torch.onnx.export cannot export this {type(network).__name__}: {error}. "
            "Of a wrapper, export what it wraps (model.module of DataParallel, model._orig_mod of torch.compile)"
            f"{'' if is_fixed else '; of a transformer with windows, name one size with size='}"
        ) from error
    if program is None:  # only the exporter without dynamo returns None
        raise ExportError("torch.onnx.export returned no program")
    for node in program.model.graph:  # stack traces, which name files of this machine and outweigh the weights
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    program.save(str(file), external_data=False)


def _check(runtime: Any, file: Path, images: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for image, output in zip(images, expected, strict=True):
        try:
            (found,) = session.run(None, {"image": image.numpy()})
        except Exception as error:  # whatever ONNX Runtime raises
            raise ExportError(
                f"the exported network does not run on an image of {tuple(image.shape)}; nothing was written. Some "
                f"transformers export for one size alone: name it with size=. ONNX Runtime says: {error}"
            ) from error
        if found.shape != tuple(output.shape):
            raise ExportError(f"for {tuple(image.shape)} ONNX Runtime gives {found.shape}, torch {tuple(output.shape)}")
        difference = float((torch.from_numpy(found) - output).abs().max() / output.abs().max().clamp_min(1e-30))
        if not difference <= tolerance:
            raise ExportError(
                f"for an image of {tuple(image.shape)} the exported network differs by {difference:.1e} of the largest "
                f"output, more than tolerance={tolerance:g}; nothing was written"
            )
