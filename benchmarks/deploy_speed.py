"""Deployed CSNets against their plain form, side by side, on a processor.

All sides have the same parameters, BatchNorm statistics of random images where no weights are given, and outputs that
are compared first. They are measured in turns, the first one changing with every round, and so are numbers of
threads. The table gives medians, with quartiles of the ratios plain over side, and of the fewest threads over the
others, by wall-clock time. Where other programs run too, use the process's own time, of one thread. All sides share
one process, so the allocator is the same: as it is set, and as a deployed network leaves it (see `goctconv.deploy`).
Memory is the peak of PyTorch's own allocations in a forward pass, counted by its profiler. A training step is
training_speed.py's matter.

    python benchmarks/deploy_speed.py --weights csnet_x1_l=csnet-L-x1.pth.tar --threads 1 2
    python benchmarks/deploy_speed.py --models csnet_x1_l --threads 1 2 --compile --native

With ``GLIBC_TUNABLES=`` in front, a deployed network does not make glibc keep blocks of more than 32 MiB.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import TypeAlias, cast

import torch
from plain_csnet import PlainCSNet
from torch import Tensor, nn

import goctconv
from goctconv.graph import peak_memory

MIB = 2**20
CEILING = "one large convolution"  # what threads give on this machine, where there is nothing but arithmetic
TOLERANCE = 1e-4
HALF = {"bfloat16": 0.2, "float16": 0.05}  # and their tolerances, of the largest output

Seconds: TypeAlias = dict[int, dict[str, list[float]]]
"""By number of threads and side."""


def main() -> None:
    """Compare, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["csnet_x1_l", "csnet_x2_l"])
    parser.add_argument("--weights", nargs="+", default=[], metavar="MODEL=FILE", help="checkpoints")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--compile", action="store_true", help="measure the compiled form too, which takes minutes")
    parser.add_argument("--native", action="store_true", help="measure the form that is compiled from C too")
    parser.add_argument(
        "--dtypes", nargs="+", choices=HALF, default=[], help="measure networks deployed in these types too"
    )
    parser.add_argument("--process-time", action="store_true", help="not the clock; with one thread")
    options = parser.parse_args()
    weights = dict(text.split("=", 1) for text in options.weights if "=" in text)
    if options.rounds < 2:
        parser.error(f"--rounds {options.rounds}: quartiles need at least 2")
    if len(weights) != len(options.weights) or not set(weights) <= set(options.models):
        parser.error(f"--weights {' '.join(options.weights)}: expected MODEL=FILE, of {' '.join(options.models)}")
    if options.process_time and options.threads != [1]:
        parser.error("--process-time adds up what all threads take: use --threads 1")
    clock = time.process_time if options.process_time else time.perf_counter
    print(described(options.rounds), flush=True)
    rows: list[str] = []
    for name in options.models:
        model = prepared(name, weights.get(name))
        image = torch.randn(1, 3, options.size, options.size, generator=torch.Generator().manual_seed(1))
        sides = sides_of(model, options.dtypes, with_compiled=options.compile)
        if options.native:
            sides["deployed, native"] = in_threads(model, options.threads)
        with torch.inference_mode():
            check(sides, image, name)
            if len(options.threads) > 1:
                sides[CEILING] = one_large_convolution
            seconds = measured(sides, image, options.threads, options.rounds, clock)
            torch.set_num_threads(1)
            memory = {side: peak_memory(functools.partial(network, image)) for side, network in sides.items()}
        rows += table(name, seconds, memory)
    print("\n".join([*HEAD, *rows]))


def described(rounds: int) -> str:
    """Return date, commit, machine, versions and allocator."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)  # noqa: S607
    tuned = {name: value for name, value in os.environ.items() if name.startswith(("MALLOC_", "LD_PRELOAD"))}
    now = dt.datetime.now(tz=dt.timezone.utc)
    return (
        f"{now:%Y-%m-%d}, commit {commit.stdout.strip() or 'unknown'}, torch "
        f"{torch.__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{' '.join(platform.libc_ver())} malloc {tuned or 'as it comes'}, "
        f"which keeps 64 MiB of freed memory once a deployed network has run; {rounds} rounds"
    )


def prepared(name: str, weights: str | None) -> nn.Module:
    """Return a network in eval mode: with weights, or BatchNorm calibrated on random images."""
    torch.manual_seed(0)
    if weights is not None:
        return goctconv.create_model(name, checkpoint_path=weights).eval()
    model = goctconv.create_model(name)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in model.modules():
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0.7, 0.95)  # nearly linear, so that rounding is not amplified
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 128, 128))
    return model.eval()


def sides_of(model: nn.Module, dtypes: list[str], *, with_compiled: bool) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return what is compared, the baseline first."""
    sides: dict[str, Callable[[Tensor], Tensor]] = {
        "plain": PlainCSNet(model).eval(),
        "goctconv, eval": model,
        "deployed": goctconv.deploy(model),
    }
    if with_compiled:
        sides["deployed, compiled"] = goctconv.deploy(model, backend="compile")
    sides |= {f"deployed, {dtype}": goctconv.deploy(model, dtype=getattr(torch, dtype)) for dtype in dtypes}
    return sides


def in_threads(model: nn.Module, threads: list[int]) -> Callable[[Tensor], Tensor]:
    """Return the native form, which has as many threads as PyTorch has when it is called."""
    forms = {count: goctconv.deploy(model, backend="native", threads=count) for count in {1, *threads}}

    def run(image: Tensor) -> Tensor:
        return cast("Tensor", forms.get(torch.get_num_threads(), forms[1])(image))

    return run


def check(sides: dict[str, Callable[[Tensor], Tensor]], image: Tensor, name: str) -> None:
    """Compare the outputs.

    Raises:
        RuntimeError: They differ.
    """
    expected = sides["plain"](image)
    for side, network in sides.items():
        difference = float((network(image) - expected).abs().max())
        print(f"{name}, {side}: largest difference {difference:.1e}, largest output {float(expected.abs().max()):.1f}")
        allowed = HALF.get(side.rpartition(" ")[2], 0) * float(expected.abs().max()) or TOLERANCE
        if not difference <= allowed:
            raise RuntimeError(f"{side} differs by {difference:.1e}, more than {allowed:g}")


LARGE = nn.Conv2d(64, 64, 3, padding=1).requires_grad_(requires_grad=False)
FEATURES = torch.randn(1, 64, 112, 112)


def one_large_convolution(_: Tensor) -> Tensor:
    """Convolve 64 channels of 112x112 with themselves, 3x3: 0.46 GMACs."""
    return cast("Tensor", LARGE(FEATURES))


def measured(
    sides: dict[str, Callable[[Tensor], Tensor]],
    image: Tensor,
    threads: list[int],
    rounds: int,
    clock: Callable[[], float],
) -> Seconds:
    """Return the seconds of every round. One round warms up."""
    taken: Seconds = {number: {side: [] for side in sides} for number in threads}
    for number in range(rounds + 1):
        for count in sorted(taken, reverse=bool(number // 2 % 2)):
            torch.set_num_threads(count)
            if count > 1:
                torch.zeros(2**20).add_(1)  # wakes the threads
            for side in sorted(sides, reverse=bool(number % 2)):
                start = clock()
                sides[side](image)
                if number:
                    taken[count][side].append(clock() - start)
    return taken


HEAD = (
    "| network | form | threads | ms | × plain | × fewest threads | memory |",
    "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
)


def table(name: str, seconds: Seconds, memory: dict[str, int]) -> list[str]:
    """Return a line for every side and number of threads."""
    fewest, rows = min(seconds), []
    for threads, taken in seconds.items():
        for side, each in taken.items():
            cells = [name, side, str(threads), f"{1000 * statistics.median(each):.1f}", ratio(taken["plain"], each)]
            cells.append(ratio(seconds[fewest][side], each) if threads > fewest else "")
            cells.append(f"{memory[side] / memory['plain']:.2f} ({memory[side] / MIB:.1f} MiB)")
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def ratio(baseline: list[float], each: list[float]) -> str:
    """Return the ratio of the medians, and quartiles of the single rounds' ratios."""
    low, _, high = statistics.quantiles([a / b for a, b in zip(baseline, each, strict=True)], n=4)
    return f"{statistics.median(baseline) / statistics.median(each):.2f} ({low:.2f}–{high:.2f})"


if __name__ == "__main__":
    main()
