"""The forms that a network can run in."""

import copy
import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from ...deployment import Exported, ExportError, OnnxEngine, OpenVINOEngine, deploy

Call: TypeAlias = Callable[[Tensor], Tensor]
Size: TypeAlias = tuple[int, int]

_PACKAGES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
}


class Form(NamedTuple):
    """A network, ready to be loaded with a number of threads.

    Args:
        seconds: How long it took to bring it into this form; of engines, with the export that they share.
        load: Takes the number of threads, and whether each takes an image of its own; returns what is called.
    """

    seconds: float
    load: Callable[[int, bool], Call]


def installed_forms() -> list[str]:
    """Return the forms that what is installed can run, but not the compiled one, which takes minutes."""
    engines = [name for name, needed in _PACKAGES.items() if all(map(importlib.util.find_spec, needed))]
    return ["eager", "channels_last", "deployed", *engines]


class Forms:
    """A network's forms, made one by one; the engines' are of one export, which takes most of their time.

    Args:
        model: In eval mode.
        size: Of the images.
        folder: For files.
    """

    def __init__(self, model: nn.Module, size: Size, folder: Path) -> None:
        self.model, self.size, self.folder = model, size, folder
        self._exported: Exported | None = None
        self._export_seconds = 0.0

    def make(self, name: str) -> Form:
        """Bring the network into a form."""
        start, before = time.perf_counter(), self._export_seconds
        if name == "onnx":
            self._export().write_onnx(self.folder / "network.onnx")
            load = _onnx(self.folder / "network.onnx", self._export().size)
        elif name == "openvino":
            self._export().write_openvino(self.folder / "network.xml")
            load = _openvino(self.folder / "network.xml", self.size)
        else:
            load = _torch(name, self.model)
        shared = before if name in _PACKAGES else 0.0
        return Form(time.perf_counter() - start + shared, load)

    def _export(self) -> Exported:
        if self._exported is None:
            start = time.perf_counter()
            try:
                self._exported = Exported(self.model)
            except ExportError:  # some networks take one size alone
                self._exported = Exported(self.model, size=self.size)
            self._export_seconds = time.perf_counter() - start
        return self._exported


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let PyTorch use a number of threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _torch(name: str, model: nn.Module) -> Callable[[int, bool], Call]:
    if name in {"deployed", "compiled"}:
        network: nn.Module = deploy(model, backend="compile" if name == "compiled" else "eager")
    else:
        network = copy.deepcopy(model)
    last = name == "channels_last"
    if last:
        network.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def call(images: Tensor) -> Tensor:
        output: Tensor = network(images.contiguous(memory_format=torch.channels_last) if last else images)
        return output

    return lambda _threads, _split: call


def _onnx(file: Path, size: Size | None) -> Callable[[int, bool], Call]:
    def load(threads: int, split: bool) -> Call:
        engine = OnnxEngine(file, threads=threads, split=split, size=size)
        return lambda images: torch.from_numpy(engine(images.numpy()))

    return load


def _openvino(file: Path, size: Size) -> Callable[[int, bool], Call]:
    def load(threads: int, split: bool) -> Call:
        engine = OpenVINOEngine(file, threads=threads, split=split, size=size)
        return lambda images: torch.from_numpy(engine(images.numpy()))

    return load
