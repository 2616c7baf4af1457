"""The run of ``goctconv bench``, and its figures as text."""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from ..._torch import BatchNorm
from ...deployment import ExportError, describe_machine, keep_freed_memory, processors
from ...saliency import calibrate_batch_norm
from .._command import CommandError, spelling
from .._model import SAVED, channels_of, choose_device, create_model, input_size
from .._output import plural, say, tell, write_file
from ._measure import Settings, installed_forms, measure_on_cuda, measure_on_processor

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
    settings = Settings(
        size=input_size(args.size),
        batch_size=args.batch_size,
        rounds=args.rounds,
        threads=args.threads or sorted({1, processors()}),
        seconds=args.seconds,
    )
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # PyTorch's profiler, which counts memory, would print in between
    device = choose_device(args.device)
    keep_freed_memory()  # as a deployed network does, for all forms alike
    machine = describe_machine()
    found: list[dict[str, Any]] = []
    for name in names:
        say(f"{name}:")
        start = time.perf_counter()
        model = create_model(name, weights=args.weights).eval()
        loaded = time.perf_counter() - start
        if not found:
            tell("\n".join([*machine_lines(machine), LEGEND]))
        found.append(_measure(name, model, args, settings, device) | {"loaded_in_s": loaded})
        tell("\n".join(model_lines(found[-1], args.batch_size)))
    if args.json is not None:
        date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        document = {"date": date, "machine": machine, "settings": settings._asdict(), "models": found}
        write_file(args.json, json.dumps(document, indent=1) + "\n")
    return 0


def _measure(
    name: str, model: nn.Module, args: argparse.Namespace, settings: Settings, device: torch.device
) -> dict[str, Any]:
    if args.weights is None and not name.startswith(SAVED):
        _give_statistics(model, settings.size)
    asked = list(args.forms or installed_forms()) + ["compiled"] * args.compile
    forms = list(dict.fromkeys(["eager", *asked]))  # the baseline comes first
    with TemporaryDirectory(prefix="goctconv-") as folder:
        try:
            on_processor = measure_on_processor(model, forms, settings, Path(folder))
        except ExportError as error:
            raise CommandError(f"{name}: {error.text(spelling(args))}") from error
        except ImportError as error:
            raise CommandError(f"{name}: {error}") from error
    on_cuda = None
    if device.type == "cuda":
        with torch.cuda.device(device):
            on_cuda = measure_on_cuda(model, settings.size, settings.rounds, device, compiled="compiled" in forms)
    weights = None if args.weights is None else str(args.weights.resolve())
    return {
        "model": name,
        "weights": weights,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "cold_start": measure_cold_start(name, weights, settings.size, settings.threads[0]),
        "processor": on_processor,
        "cuda": on_cuda,
    }


def _give_statistics(model: nn.Module, size: tuple[int, int]) -> None:
    """Calibrate BatchNorm of random weights, as values that overflow take longer."""
    if any(isinstance(module, BatchNorm) for module in model.modules()):
        generator = torch.Generator().manual_seed(0)
        calibrate_batch_norm(model, [torch.randn(4, channels_of(model), *size, generator=generator)])


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
        lines += ["", *_table([header, *rows])]
    rows = [_fact_row(name, facts) for name, facts in processor["forms"].items()]
    lines += ["", *_table([["form", "made in", "loaded in", "difference", "peak memory"], *rows])]
    for batch, forms in (figures["cuda"] or {}).items():
        lines += ["", *_cuda_table(batch, forms)]
    return lines


def _cuda_table(batch: str, forms: dict[str, Any] | None) -> list[str]:
    header = [f"CUDA, {batch} at a time", "batch", "ratio", "speed"]
    if forms is None:
        return [f"{header[0]}: not enough memory"]
    return _table([header, *([name, _milliseconds(form), _ratio(form), _speed(form)] for name, form in forms.items())])


def _fact_row(name: str, facts: dict[str, Any]) -> list[str]:
    peak = facts["peak_memory_bytes"]
    memory = "" if peak is None else f"{peak / 2**20:.1f} MiB"
    return [name, f"{facts['made_in_s']:.1f} s", f"{facts['loaded_in_s']:.2f} s", f"{facts['difference']:.1e}", memory]


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


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if column else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
