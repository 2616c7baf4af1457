"""What dynamic weight decay costs: time and memory of a training step with it, over those of the same step without.

Time: two copies of a network take the same steps in turns, in one process, the one that comes first changing with every
round; printed are the median and the quartiles of the ratios of all rounds, by the clock on the wall and by the
process's own, which does not count what other programs take away from it. Memory: each side in a process of its own;
PyTorch's allocations are counted by its profiler, which is exact, and the peak of the process's resident memory is
looked up as a check, which is noisy and contains what other libraries allocate.

    python benchmarks/decay_cost.py --rounds 20 --threads 1
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

import goctconv
from goctconv import DynamicWeightDecay

MODELS: dict[str, tuple[Callable[[], nn.Module], type[torch.optim.Optimizer], dict[str, Any]]] = {
    "csnet_x2": (
        lambda: goctconv.create_model("csnet_x2"),
        torch.optim.Adam,
        {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 5e-3},
    ),
    "resnet18": (
        lambda: timm.create_model("resnet18"),
        torch.optim.SGD,
        {"lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4},
    ),
    "mobilenetv3_large_100": (
        lambda: timm.create_model("mobilenetv3_large_100"),
        torch.optim.SGD,
        {"lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4},
    ),
}
SIDES = ("without", "with")
WARM_UP = 2  # rounds that do not count: in the first, activations are looked for
MIB = 2**20

Step = Callable[[], None]


def make_step(model: nn.Module, name: str, side: str, images: Tensor) -> Step:
    """Return a function that takes one training step."""
    _, kind, options = MODELS[name]
    optimizer = kind(model.parameters(), **options)
    if side == "with":
        optimizer = DynamicWeightDecay(optimizer, model)
    model.train()
    targets: list[Tensor] = []

    def step() -> None:
        optimizer.zero_grad()
        logits = model(images)
        if not targets:
            targets.append(torch.rand_like(logits))
        F.binary_cross_entropy_with_logits(logits, targets[0]).backward()
        optimizer.step()

    return step


def make_model(name: str, size: int, batch: int) -> tuple[nn.Module, Tensor]:
    """Return a network and images, the same in every process."""
    torch.manual_seed(0)
    return MODELS[name][0](), torch.rand(batch, 3, size, size)


def time_steps(name: str, size: int, batch: int, rounds: int) -> dict[str, Any]:
    """Return the seconds of each step of both sides, taken in turns."""
    model, images = make_model(name, size, batch)
    steps = {side: make_step(copy.deepcopy(model), name, side, images) for side in SIDES}
    seconds: dict[str, dict[str, list[float]]] = {clock: {side: [] for side in SIDES} for clock in ("wall", "process")}
    for turn in range(-WARM_UP, rounds):
        for side in SIDES if turn % 2 else reversed(SIDES):
            wall, process = time.perf_counter(), time.process_time()
            steps[side]()
            wall, process = time.perf_counter() - wall, time.process_time() - process
            if turn >= 0:
                seconds["wall"][side].append(wall)
                seconds["process"][side].append(process)
    return seconds


def count_memory(name: str, size: int, batch: int, side: str) -> dict[str, float]:
    """Return the largest number of bytes in tensors, in the first and in the third step."""
    model, images = make_model(name, size, batch)
    before = sum(each.numel() * each.element_size() for each in (*model.parameters(), *model.buffers(), images))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step = make_step(model, name, side, images)
        for number in range(3):
            with record_function(f"step {number}"):
                step()
    events = profiled.profiler.kineto_results.events()
    marks = {event.name(): (event.start_ns(), event.end_ns()) for event in events if event.name().startswith("step ")}
    live, peaks = before, dict.fromkeys(marks, 0)
    for event in sorted((each for each in events if each.name() == "[memory]"), key=lambda each: each.start_ns()):
        live += event.nbytes()
        for mark, (start, end) in marks.items():
            if start <= event.start_ns() <= end:
                peaks[mark] = max(peaks[mark], live)
    return {"first": peaks["step 0"], "steady": peaks["step 2"]}


def resident_memory(name: str, size: int, batch: int, side: str) -> dict[str, float]:
    """Return by how many bytes three steps raise the peak of the process's resident memory."""
    model, images = make_model(name, size, batch)
    step = make_step(model, name, side, images)
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        step()
    return {"resident": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit}


WORKERS = {"count": count_memory, "resident": resident_memory}


def in_process(worker: str, name: str, side: str, args: argparse.Namespace) -> dict[str, float]:
    """Return what a worker finds in a fresh process."""
    command = [sys.executable, __file__, "--worker", worker, side, "--models", name, "--threads", str(args.threads)]
    command += ["--size", str(args.size), "--batch", str(args.batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # this file
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def quartiles(seconds: dict[str, list[float]]) -> tuple[float, float, float]:
    """Return the median and the quartiles of the ratios of all rounds."""
    ratios = [with_ / without for with_, without in zip(seconds["with"], seconds["without"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return middle, low, high


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures of one network."""
    found: dict[str, Any] = {"model": name, "memory": {}}
    for side in SIDES if args.memory else ():
        found["memory"][side] = {**in_process("count", name, side, args), **in_process("resident", name, side, args)}
    if args.rounds:
        found["seconds"] = time_steps(name, args.size, args.batch, args.rounds)
    return found


def table(results: list[dict[str, Any]]) -> str:
    """Return the figures in Markdown."""
    lines = ["| model | what | without | with | ratio |", "| --- | --- | ---: | ---: | ---: |"]
    for figures in results:
        for clock, seconds in figures.get("seconds", {}).items():
            middle, low, high = quartiles(seconds)
            sides = " | ".join(f"{statistics.median(seconds[side]):.3f} s" for side in SIDES)
            lines.append(f"| {figures['model']} | {clock} time | {sides} | {middle:.3f} ({low:.3f}–{high:.3f}) |")
        if figures["memory"]:
            for kind in ("steady", "first", "resident"):
                without, with_ = (figures["memory"][side][kind] for side in SIDES)
                what = {"steady": "tensors, third step", "first": "tensors, first step", "resident": "resident"}[kind]
                sides = f"{without / MIB:.1f} MiB | {with_ / MIB:.1f} MiB"
                ratio = f"{with_ / without:.3f}" if without else "–"  # small networks stay below the peak of imports
                lines.append(f"| {figures['model']} | peak of {what} | {sides} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what was asked for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=20, help="0: no times (default: %(default)s)")
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--worker", nargs=2, metavar=("WHAT", "SIDE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.worker:
        worker, side = args.worker
        print(json.dumps(WORKERS[worker](args.models[0], args.size, args.batch, side)))
        return
    results = []
    for name in args.models:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        results.append(measure(name, args))
    settings = {"threads": args.threads, "size": args.size, "batch": args.batch, "rounds": args.rounds}
    versions = {"torch": torch.__version__, "timm": timm.__version__, "goctconv": goctconv.__version__}
    if args.json:
        content = {"settings": settings, "versions": versions, "results": results}
        args.json.write_text(json.dumps(content), encoding="utf-8")
    print(f"{settings}, {versions}\n\n{table(results)}")


if __name__ == "__main__":
    main()
