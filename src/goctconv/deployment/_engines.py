"""Engines that run exported networks: ONNX Runtime and OpenVINO."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._checks import ArgumentError, escaped
from .._limits import MAX_NETWORK, MAX_TEXT, FileSizeError, check_length
from ._machine import processors

Precision: TypeAlias = Literal["f32", "bf16"]
Images: TypeAlias = NDArray[np.float32]

_DIMENSIONS = 4  # of a batch of images
_PROPERTIES = {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}


def need(purpose: str, extra: str, names: Sequence[str]) -> Any:
    """Import the last of some packages of an extra."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"{purpose} needs {', '.join(missing)}: install them with pip install 'goctconv[{extra}]'")
    return importlib.import_module(names[-1])


class Engine:
    """A network that an engine runs: float32 images (B, C, H, W) to float32 outputs.

    With ``split``, every thread takes an image of the batch, which is faster for many; otherwise all take part in each
    image, which is faster for one. A given ``size`` is the only (height, width) of the images.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        *,
        threads: int | None = None,
        split: bool = False,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.threads, self.split = threads or processors(), split
        _check_lengths(Path(file))
        self.channels: int | None = None  # None for any
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="goctconv-net") if split else None
        self._load(os.fspath(file), size)

    def _load(self, file: str, size: tuple[int, int] | None) -> None:
        raise NotImplementedError

    def __call__(self, images: Images) -> Images:
        """Return the network's output."""
        if self._pool is None:
            return self.run(images)
        return np.concatenate(self.each(np.split(images, len(images))))

    def each(self, batches: Sequence[Images]) -> list[Images]:
        """Return the network's outputs for batches, which may be of different sizes."""
        return list(map(self.run, batches) if self._pool is None else self._pool.map(self.run, batches))

    def run(self, images: Images) -> Images:
        """Return the network's output, computed in one go."""
        raise NotImplementedError


class OnnxEngine(Engine):
    """A network in ONNX Runtime, on the processor."""

    def _load(self, file: str, size: tuple[int, int] | None) -> None:
        runtime = need("Running ONNX files", "onnx", ("onnxruntime",))
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1 if self.split else self.threads
        options.log_severity_level = 3
        # Otherwise its threads go on spinning after a run, on the processors that others need then.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # The next level goes to and fro between layouts of 16 channels, which costs more than it saves where there
        # are fewer or other numbers of them (1.32: a tenth of CSNet's time).
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        self._session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        image, *others = self._session.get_inputs() or [None]
        is_read = image is not None and image.type == "tensor(float)" and not others
        is_read = is_read and self._session.get_outputs()[0].type.startswith("tensor(")
        self.channels = _check_input(file, image.shape if is_read else None, size)
        self._input = image.name

    def run(self, images: Images) -> Images:
        """Return the network's output, computed in one go."""
        output: Images = self._session.run(None, {self._input: np.ascontiguousarray(images)})[0]
        return output


class OpenVINOEngine(Engine):
    """A network in OpenVINO, on the processor."""

    def __init__(self, file: str | os.PathLike[str], *, precision: Precision = "f32", **options: Any) -> None:
        self.precision = precision
        super().__init__(file, **options)

    def _load(self, file: str, size: tuple[int, int] | None) -> None:
        openvino = need("Running OpenVINO", "openvino", ("openvino",))
        core = openvino.Core()
        graph = core.read_model(file)
        shape = graph.inputs[0].get_partial_shape() if len(graph.inputs) == 1 else None
        is_read = shape is not None and shape.rank.is_static
        sides = [side.get_length() if side.is_static else None for side in shape or ()] if is_read else None
        self.channels = _check_input(file, sides, size)
        if size is not None:
            graph.reshape([1 if self.split else -1, self.channels or -1, *size])
        properties = {
            **_PROPERTIES,
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": self.threads if self.split else 1,
            "INFERENCE_PRECISION_HINT": self.precision,
        }
        compiled = core.compile_model(graph, "CPU", properties)
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.threads if self.split else 1):
            self._requests.put(compiled.create_infer_request())

    def run(self, images: Images) -> Images:
        """Return the network's output, computed in one go."""
        request = self._requests.get()
        try:
            output: Images = request.infer([np.ascontiguousarray(images)], share_inputs=True)[0]
        finally:
            self._requests.put(request)
        return output


def _check_lengths(file: Path) -> None:
    """Refuse files of which an engine would take more memory than a network may, before it opens them."""
    is_text = file.suffix == ".xml"
    try:
        check_length(file, MAX_TEXT if is_text else MAX_NETWORK)
        if is_text and (weights := file.with_suffix(".bin")).is_file():
            check_length(weights, MAX_NETWORK)
    except FileSizeError as error:
        problem = f"is refused: {escaped(error)}"
        raise ArgumentError("file", str(file), problem=problem, cure="export the network again") from error


def _check_input(file: str, shape: Sequence[object] | None, size: tuple[int, int] | None) -> int | None:
    """Refuse networks that take no images, or none of a size; return how many channels they have, None for any.

    Lengths of ``shape`` that are no integers may be any; it is None where there is not one input of numbers.
    """
    known = [side if isinstance(side, int) else None for side in shape or ()]
    if len(known) != _DIMENSIONS:
        problem = "is no network that takes float32 images (B, C, H, W) alone"
        raise ArgumentError("file", file, problem=problem, cure="export one that takes one batch of images")
    sides, taken = known[2:], size or (None, None)
    if any(own is not None and own != asked for own, asked in zip(sides, taken, strict=True)):
        own, asked = "x".join(map(str, sides)), "any size" if size is None else "x".join(map(str, size))
        problem = f"takes images of {own} alone, not of {asked}"
        raise ArgumentError("file", file, problem=problem, cure="name this size with {size}, or export again")
    return known[1]
