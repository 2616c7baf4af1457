"""Speed and memory on the processor."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...deployment import compare_timings
from ...graph import Timings, peak_memory
from .._model import channels_of
from .._output import say
from ._forms import Form, Forms, torch_threads

_TORCH = ("eager", "channels_last", "deployed")  # whose memory PyTorch's profiler sees


class Settings(NamedTuple):
    """What is measured."""

    size: tuple[int, int]
    batch_size: int
    rounds: int
    threads: Sequence[int]
    seconds: float  # for one table: latency or throughput, with one number of threads


def measure_on_processor(model: nn.Module, names: Sequence[str], settings: Settings, folder: Path) -> dict[str, Any]:
    """Measure the forms of a network.

    Args:
        model: In eval mode.
        names: Of the forms; the first is what the others are compared with.
        settings: What is measured.
        folder: For files.

    Returns:
        All figures, as JSON holds them.
    """
    maker, forms = Forms(model, settings.size, folder), {}
    for name in names:
        say(f"  making {name}")
        forms[name] = maker.make(name)
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(settings.batch_size, channels_of(model), *settings.size, generator=generator)
    facts = {name: _facts(name, form, forms[names[0]], batch[:1]) for name, form in forms.items()}
    latency, throughput = {}, {}
    for threads in settings.threads:
        say(f"  measuring with {threads} thread{'s' * (threads > 1)}")
        with torch_threads(threads):
            latency[str(threads)] = _turns(forms, threads, batch[:1], settings, split=False)
            throughput[str(threads)] = _turns(forms, threads, batch, settings, split=True)
    return {
        "forms": facts,
        "latency": {threads: turns.to_dict(names[0]) for threads, turns in latency.items()},
        "throughput": {
            threads: {
                name: {**figures, "images_per_s": settings.batch_size / figures["median_s"]}
                for name, figures in turns.to_dict(names[0]).items()
            }
            for threads, turns in throughput.items()
        },
    }


def _turns(forms: dict[str, Form], threads: int, images: Tensor, settings: Settings, *, split: bool) -> Timings:
    calls = {name: partial(form.load(threads, split), images) for name, form in forms.items()}
    turns = compare_timings(calls, rounds=settings.rounds, budget=settings.seconds)
    done = len(next(iter(turns.seconds.values())))
    if done < settings.rounds:
        say(f"  only {done} of {settings.rounds} rounds in {settings.seconds} s: --seconds allows more")
    return turns


def _facts(name: str, form: Form, first: Form, image: Tensor) -> dict[str, Any]:
    start = time.perf_counter()
    call = form.load(1, False)
    loaded = time.perf_counter() - start
    with torch_threads(1):
        output, expected = call(image), first.load(1, False)(image)
        peak = peak_memory(partial(call, image)) if name in _TORCH else None
    return {
        "made_in_s": form.seconds,
        "loaded_in_s": loaded,
        "difference": float((output - expected).abs().max() / expected.abs().max().clamp(min=1e-30)),
        "peak_memory_bytes": peak,
    }
