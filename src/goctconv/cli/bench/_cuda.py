"""Speed and memory on CUDA."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..._torch import cuda_event, cuda_stream, is_out_of_memory
from ...deployment import Timings, deploy
from .._model import channels_of
from .._output import say

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_WARMUP = 3


def measure_on_cuda(
    model: nn.Module, size: tuple[int, int], rounds: int, device: torch.device, *, compiled: bool
) -> dict[str, Any]:
    """Measure a network on CUDA in turns, by events.

    Returns:
        For each batch size the figures of each form, as JSON holds them; None where memory does not suffice.
    """
    networks = dict(_networks(model, device))
    found: dict[str, Any] = {}
    for batch in BATCHES:
        say(f"  measuring on CUDA, {batch} at a time")
        try:
            images = torch.randn(batch, channels_of(model), *size, device=device)
            found[str(batch)] = _measure(networks, images, rounds, compiled=compiled)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            found[str(batch)] = None
            torch.cuda.empty_cache()
    return found


def _networks(model: nn.Module, device: torch.device) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    forms: dict[str, nn.Module] = {
        "eager": copy.deepcopy(model),
        "deployed": deploy(model),
        "deployed bf16": deploy(model, dtype=torch.bfloat16),
    }
    for name, network in forms.items():
        yield name, network.to(device)
        last = copy.deepcopy(network).to(memory_format=torch.channels_last)
        yield f"{name}, channels_last", last


def _measure(
    networks: dict[str, Callable[[Tensor], Tensor]], images: Tensor, rounds: int, *, compiled: bool
) -> dict[str, Any]:
    calls: dict[str, Callable[[], object]] = {}
    memory = {}
    with torch.inference_mode():
        for name, network in networks.items():
            layout = torch.channels_last if "channels_last" in name else torch.contiguous_format
            given = images.contiguous(memory_format=layout)
            calls[name] = partial(network, given)
            memory[name] = _peak(calls[name])
            calls[f"{name}, CUDA graph"] = _graph(calls[name])
            if compiled:
                fast = torch.compile(network, dynamic=False)
                calls[f"{name}, compiled"] = partial(fast, given)
        figures = _timings(calls, rounds).to_dict("eager")
    return {
        name: {**form, "images_per_s": len(images) / form["median_s"], "peak_memory_bytes": memory.get(name)}
        for name, form in figures.items()
    }


def _timings(calls: dict[str, Callable[[], object]], rounds: int) -> Timings:
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


def _graph(call: Callable[[], object]) -> Callable[[], object]:
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


def _peak(call: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
