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

from ...deployment import deploy, export_onnx, export_openvino
from ...deployment._engines import OnnxEngine, OpenVINOEngine

Call: TypeAlias = Callable[[Tensor], Tensor]
Size: TypeAlias = tuple[int, int]

_PACKAGES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
}


class Form(NamedTuple):
    """A network, ready to be loaded with a number of threads.

    Args:
        seconds: How long it took to bring it into this form.
        load: Takes the number of threads, and whether each takes an image of its own; returns what is called.
    """

    seconds: float
    load: Callable[[int, bool], Call]


def installed_forms() -> list[str]:
    """Return the forms that what is installed can run, but not the compiled one, which takes minutes."""
    engines = [name for name, needed in _PACKAGES.items() if all(map(importlib.util.find_spec, needed))]
    return ["eager", "channels_last", "deployed", *engines]


def make_form(name: str, model: nn.Module, size: Size, folder: Path) -> Form:
    """Bring a network into a form; files go into ``folder``."""
    start = time.perf_counter()
    if name == "onnx":
        export_onnx(model, folder / "network.onnx")
        load = _onnx(folder / "network.onnx")
    elif name == "openvino":
        export_openvino(model, folder / "network.xml")
        load = _openvino(folder / "network.xml", size)
    else:
        load = _torch(name, model)
    return Form(time.perf_counter() - start, load)


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


def _onnx(file: Path) -> Callable[[int, bool], Call]:
    def load(threads: int, split: bool) -> Call:
        engine = OnnxEngine(file, threads=threads, split=split)
        return lambda images: torch.from_numpy(engine(images.numpy()))

    return load


def _openvino(file: Path, size: Size) -> Callable[[int, bool], Call]:
    def load(threads: int, split: bool) -> Call:
        engine = OpenVINOEngine(file, threads=threads, split=split, size=size)
        return lambda images: torch.from_numpy(engine(images.numpy()))

    return load
