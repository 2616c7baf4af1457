"""Speed and memory of a network's forms, on the processor and on CUDA."""

from __future__ import annotations

import copy
import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from .._torch import cuda_event, cuda_stream, is_out_of_memory
from ..graph import Timings, compare_timings, peak_memory
from ._deploy import deploy
from ._engines import OnnxEngine, OpenVINOEngine
from ._machine import describe_machine, keep_freed_memory, processors
from .export import Exported, ExportError, write_openvino

Call: TypeAlias = Callable[[Tensor], Tensor]
Size: TypeAlias = tuple[int, int]

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # on CUDA
_WARMUP = 3  # rounds on CUDA
_TORCH = ("eager", "channels_last", "deployed")  # whose memory PyTorch's profiler sees
_PACKAGES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
}


class Form(NamedTuple):
    """A network, ready to be loaded with a number of threads."""

    seconds: float
    load: Callable[[int, bool], Call]


class Forms:
    """A network's forms, made one by one; the engines share one export, which takes most of their time."""

    def __init__(self, model: nn.Module, size: Size, folder: Path) -> None:
        self.model, self.size, self.folder = model, size, folder
        self._exported: Exported | None = None
        self._export_seconds = 0.0

    def make(self, name: str) -> Form:
        """Convert the network to a form."""
        start, before = time.perf_counter(), self._export_seconds
        if name == "onnx":
            self._export().write_onnx(self.folder / "network.onnx")
            load = _engine(OnnxEngine, self.folder / "network.onnx", self._export().size)
        elif name == "openvino":
            write_openvino(self._export(), self.folder / "network.xml")
            load = _engine(OpenVINOEngine, self.folder / "network.xml", self.size)
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


def _engine(kind: type[OnnxEngine | OpenVINOEngine], file: Path, size: Size | None) -> Callable[[int, bool], Call]:
    def load(threads: int, split: bool) -> Call:
        engine = kind(file, threads=threads, split=split, size=size)
        return lambda images: torch.from_numpy(engine(images.numpy()))

    return load


@dataclass(frozen=True)
class Benchmark:
    """Measures the forms of networks on this machine, all of them in turns.

    Args:
        size: (height, width) of the images.
        batch_size: Images per batch for the throughput.
        rounds: Rounds that count.
        threads: Numbers of threads to measure with; by default 1, and one for each processor.
        seconds: After which no round begins, of latency or throughput with one number of threads.
        device: CUDA is measured if it is one.
        tell: Is called with a line about each part of the work.
    """

    size: Size
    batch_size: int = 8
    rounds: int = 15
    threads: Sequence[int] = ()
    seconds: float = 10
    device: torch.device = torch.device("cpu")  # noqa: RUF009  (it does not change)
    tell: Callable[[str], object] = print

    def __post_init__(self) -> None:
        keep_freed_memory()  # as a deployed network does, for all forms alike
        if not self.threads:
            object.__setattr__(self, "threads", sorted({1, processors()}))

    def machine(self) -> dict[str, Any]:
        """Return what is measured on, as JSON holds it."""
        return describe_machine()

    def measure(
        self, model: nn.Module, names: Sequence[str] | None = None, *, compiled: bool = False
    ) -> dict[str, Any]:
        """Return all figures of a network in eval mode, on the ``processor`` and on ``cuda``, as JSON holds them.

        Args:
            model: The network.
            names: Of the forms: eager, channels_last, deployed, compiled, onnx and openvino; by default those that the
                installed packages can run, without the compiled one, which takes minutes.
            compiled: Whether that is measured too.
        """
        engines = [name for name, needed in _PACKAGES.items() if all(map(importlib.util.find_spec, needed))]
        asked = [*(names or [*_TORCH, *engines]), *["compiled"] * compiled]
        forms = list(dict.fromkeys(["eager", *asked]))  # the baseline comes first
        with TemporaryDirectory(prefix="goctconv-") as folder:
            found: dict[str, Any] = {"processor": self._on_processor(model, forms, Path(folder)), "cuda": None}
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                found["cuda"] = self.on_cuda(model, compiled="compiled" in forms)
        return found

    def _on_processor(self, model: nn.Module, names: Sequence[str], folder: Path) -> dict[str, Any]:
        maker, forms = Forms(model, self.size, folder), {}
        for name in names:
            self.tell(f"  making {name}")
            forms[name] = maker.make(name)
        generator = torch.Generator().manual_seed(0)
        batch = torch.randn(self.batch_size, getattr(model, "in_chans", 3), *self.size, generator=generator)
        facts = {name: _facts(name, form, forms["eager"], batch[:1]) for name, form in forms.items()}
        latency, throughput = {}, {}
        for threads in self.threads:
            self.tell(f"  measuring with {threads} thread{'s' * (threads > 1)}")
            with _torch_threads(threads):
                latency[str(threads)] = self._timings(forms, threads, batch[:1], split=False)
                figures = self._timings(forms, threads, batch, split=True)
            throughput[str(threads)] = {
                name: {**form, "images_per_s": self.batch_size / form["median_s"]} for name, form in figures.items()
            }
        return {"forms": facts, "latency": latency, "throughput": throughput}

    def _timings(self, forms: dict[str, Form], threads: int, images: Tensor, *, split: bool) -> dict[str, Any]:
        calls = {name: partial(form.load(threads, split), images) for name, form in forms.items()}
        timings = compare_timings(calls, rounds=self.rounds, budget=self.seconds)
        done = len(timings.seconds["eager"])
        if done < self.rounds:
            self.tell(f"  only {done} of {self.rounds} rounds in {self.seconds} s: --seconds allows more")
        return timings.to_dict("eager")

    def on_cuda(self, model: nn.Module, *, compiled: bool) -> dict[str, Any]:
        """Return the figures of each form for each batch size; None where memory does not suffice."""
        networks = dict(_networks_on_cuda(model, self.device))
        found: dict[str, Any] = {}
        for batch in BATCHES:
            self.tell(f"  measuring on CUDA, {batch} at a time")
            try:
                images = torch.randn(batch, getattr(model, "in_chans", 3), *self.size, device=self.device)
                found[str(batch)] = _figures_on_cuda(networks, images, self.rounds, compiled=compiled)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                found[str(batch)] = None
                torch.cuda.empty_cache()
        return found


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    """Set the number of PyTorch's threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _facts(name: str, form: Form, first: Form, image: Tensor) -> dict[str, Any]:
    start = time.perf_counter()
    call = form.load(1, False)
    loaded = time.perf_counter() - start
    with _torch_threads(1):
        output, expected = call(image), first.load(1, False)(image)
        peak = peak_memory(partial(call, image)) if name in _TORCH else None
    return {
        "made_in_s": form.seconds,
        "loaded_in_s": loaded,
        "difference": float((output - expected).abs().max() / expected.abs().max().clamp(min=1e-30)),
        "peak_memory_bytes": peak,
    }


def _networks_on_cuda(model: nn.Module, device: torch.device) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    forms: dict[str, nn.Module] = {
        "eager": copy.deepcopy(model),
        "deployed": deploy(model),
        "deployed bf16": deploy(model, dtype=torch.bfloat16),
    }
    for name, network in forms.items():
        yield name, network.to(device)
        last = copy.deepcopy(network).to(memory_format=torch.channels_last)
        yield f"{name}, channels_last", last


def _figures_on_cuda(
    networks: dict[str, Callable[[Tensor], Tensor]], images: Tensor, rounds: int, *, compiled: bool
) -> dict[str, Any]:
    calls: dict[str, Callable[[], object]] = {}
    memory = {}
    with torch.inference_mode():
        for name, network in networks.items():
            layout = torch.channels_last if "channels_last" in name else torch.contiguous_format
            given = images.contiguous(memory_format=layout)
            calls[name] = partial(network, given)
            memory[name] = _peak_on_cuda(calls[name])
            calls[f"{name}, CUDA graph"] = _cuda_graph(calls[name])
            if compiled:
                fast = torch.compile(network, dynamic=False)
                calls[f"{name}, compiled"] = partial(fast, given)
        figures = _timings_on_cuda(calls, rounds).to_dict("eager")
    return {
        name: {**form, "images_per_s": len(images) / form["median_s"], "peak_memory_bytes": memory.get(name)}
        for name, form in figures.items()
    }


def _timings_on_cuda(calls: dict[str, Callable[[], object]], rounds: int) -> Timings:
    """Measure in turns as `compare_timings` does, but by events, which time the device."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(-_WARMUP, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            start, end = cuda_event(), cuda_event()
            start.record()
            calls[name]()
            end.record()
            torch.cuda.synchronize()
            if number >= 0:
                seconds[name].append(start.elapsed_time(end) / 1000)
    return Timings(seconds)


def _cuda_graph(call: Callable[[], object]) -> Callable[[], object]:
    side = cuda_stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARMUP):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def _peak_on_cuda(call: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
