"""``goctconv bench``: the run, and its figures as text."""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from typing import Any

import torch
from torch import nn

from ..deployment import Benchmark, ExportError
from ..models.hub import packaged_cfg
from ..saliency import calibrate_batch_norm
from ._command import CommandError, spelling
from ._model import SAVED, choose_device, create_model, input_size
from ._output import aligned, plural, say, tell, write_file

_CODE = """
import time
start = time.perf_counter()
import torch
torch.set_num_threads({threads})
import_torch = time.perf_counter() - start
import goctconv
model = goctconv.create_model({name!r}, checkpoint_path={weights!r}).eval()
loaded = time.perf_counter() - start
with torch.inference_mode():
    model(torch.zeros(1, getattr(model, "in_chans", 3), {height}, {width}))
print(import_torch, loaded, time.perf_counter() - start)
"""
_SETTINGS = ("size", "batch_size", "rounds", "threads", "seconds")
_TIMES = 3
LEGEND = (
    "Times are medians; ratios how many times faster than eager, with the quartiles of the single rounds. Where these\n"
    "lie far apart, something else is running, or there are too few rounds."
)


def run_bench(args: argparse.Namespace) -> int:
    """Measure, print and write the figures, and return the exit status."""
    names = args.models or ["csnet_x1_l"]
    if args.weights is not None and len(names) > 1:
        raise CommandError(f"--weights {args.weights}: this file is of one network: give one MODEL")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # PyTorch's profiler, which counts memory, would print in between
    benchmark = Benchmark(
        input_size(args.size),
        args.batch_size,
        args.rounds,
        args.threads or (),
        args.seconds,
        device=choose_device(args.device),
        tell=say,
    )
    machine = benchmark.machine()
    found: list[dict[str, Any]] = []
    for name in names:
        say(f"{name}:")
        start = time.perf_counter()
        is_packaged = args.weights is None and packaged_cfg(name) is not None
        model = create_model(name, weights=args.weights, pretrained=is_packaged).eval()
        loaded = time.perf_counter() - start
        if not found:
            tell("\n".join([*machine_lines(machine), LEGEND]))
        found.append(_measure(name, model, args, benchmark) | {"loaded_in_s": loaded})
        tell("\n".join(model_lines(found[-1], args.batch_size)))
    if args.json is not None:
        date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        settings = {name: getattr(benchmark, name) for name in _SETTINGS}
        document = {"date": date, "machine": machine, "settings": settings, "models": found}
        write_file(args.json, json.dumps(document, indent=1) + "\n")
    return 0


def _measure(name: str, model: nn.Module, args: argparse.Namespace, benchmark: Benchmark) -> dict[str, Any]:
    if args.weights is None and not name.startswith(SAVED) and packaged_cfg(name) is None:
        _give_statistics(model, benchmark.size)
    try:
        figures = benchmark.measure(model, args.forms or (), compiled=args.compile)
    except ExportError as error:
        raise CommandError(f"{name}: {error.text(spelling(args))}") from error
    except ImportError as error:
        raise CommandError(f"{name}: {error}") from error
    weights = None if args.weights is None else str(args.weights.resolve())
    return {
        "model": name,
        "weights": weights,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "cold_start": measure_cold_start(name, weights, benchmark.size, benchmark.threads[0]),
        **figures,
    }


def _give_statistics(model: nn.Module, size: tuple[int, int]) -> None:
    """Calibrate BatchNorm of random weights, as values that overflow take longer."""
    if any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) for module in model.modules()):
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(4, getattr(model, "in_chans", 3), *size, generator=generator)
        calibrate_batch_norm(model, [images])


def measure_cold_start(name: str, weights: str | None, size: tuple[int, int], threads: int) -> dict[str, float] | None:
    """Return seconds to the import of PyTorch, to the loaded model and to its first output, medians of three processes.

    None where the processes fail.
    """
    code = _CODE.format(name=name, weights=weights, height=size[0], width=size[1], threads=threads)
    found = []
    for _ in range(_TIMES):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603  (our own code)
        if done.returncode:
            return None
        found.append([float(value) for value in done.stdout.split()[-3:]])
    medians = [statistics.median(values) for values in zip(*found, strict=True)]
    return dict(zip(("import_torch_s", "loaded_s", "first_output_s"), medians, strict=True))


def machine_lines(machine: dict[str, Any]) -> list[str]:
    """Return a line for each kind of fact about the machine."""
    packages, processor = machine["packages"], machine["processor"]
    return [
        f"goctconv {machine['goctconv']}, Python {machine['python']}, {machine['system']}",
        f"processor     {processor['name']}, {processor['usable']} usable, {processor['vector_instructions']}",
        f"accelerators  {', '.join(machine['accelerators']) or 'none'}",
        f"allocator     {_pairs(machine['allocator'])}",
        f"threads       {_pairs(machine['threads'])}",
        f"installed     {', '.join(f'{name} {version}' for name, version in packages.items() if version)}",
        f"missing       {', '.join(name for name, version in packages.items() if not version) or 'nothing'}",
    ]


def model_lines(figures: dict[str, Any], batch_size: int) -> list[str]:
    """Return the tables of one network."""
    lines = ["", f"{figures['model']}: {figures['parameters']:,} parameters, loaded in {figures['loaded_in_s']:.2f} s"]
    start = figures["cold_start"]
    if start is not None:
        lines.append(
            f"new process: PyTorch after {start['import_torch_s']:.1f} s, the network after {start['loaded_s']:.1f} s, "
            f"the first map after {start['first_output_s']:.1f} s"
        )
    processor = figures["processor"]
    for threads, latency in processor["latency"].items():
        throughput = processor["throughput"][threads]
        rows = [
            [name, _milliseconds(one_image), _ratio(one_image), _speed(throughput[name]), _ratio(throughput[name])]
            for name, one_image in latency.items()
        ]
        header = [plural(int(threads), "thread"), "one image", "ratio", f"batches of {batch_size}", "ratio"]
        lines += ["", *aligned([header, *rows])]
    rows = [
        [
            name,
            f"{facts['made_in_s']:.1f} s",
            f"{facts['loaded_in_s']:.2f} s",
            f"{facts['difference']:.1e}",
            "" if facts["peak_memory_bytes"] is None else f"{facts['peak_memory_bytes'] / 2**20:.1f} MiB",
        ]
        for name, facts in processor["forms"].items()
    ]
    lines += ["", *aligned([["form", "made in", "loaded in", "difference", "peak memory"], *rows])]
    for batch, forms in (figures["cuda"] or {}).items():
        lines += ["", *_on_cuda(batch, forms)]
    return lines


def _on_cuda(batch: str, forms: dict[str, Any] | None) -> list[str]:
    header = [f"CUDA, {batch} at a time", "batch", "ratio", "speed"]
    if forms is None:
        return [f"{header[0]}: not enough memory"]
    return aligned([header, *([name, _milliseconds(form), _ratio(form), _speed(form)] for name, form in forms.items())])


def _milliseconds(figures: dict[str, Any]) -> str:
    return f"{1000 * figures['median_s']:.2f} ms"


def _speed(figures: dict[str, Any]) -> str:
    return f"{figures['images_per_s']:.1f}/s"


def _ratio(figures: dict[str, Any]) -> str:
    (ratios,) = (value for key, value in figures.items() if key.endswith("_over_this"))
    low, middle, high = ratios
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def _pairs(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
