"""Deployed CSNets against their plain form, side by side, on a processor.

All sides have the same parameters, BatchNorm statistics of random images, and outputs that are compared first. They
take turns, the one that comes first changing with every round; printed are medians, and quartiles of the ratios plain
over side, by the process's own time and by the clock. Where other programs run too, believe the former, of one thread.
All sides share one process, so the allocator is the same; how it is set is printed. Memory is the peak of PyTorch's
own allocations in a forward pass, counted by its profiler. A training step is training_speed.py's matter.

    python benchmarks/deploy_speed.py --models csnet_x1_l csnet_x2_l --threads 1 2 --rounds 15
    python benchmarks/deploy_speed.py --models csnet_x1_l --weights csnet-L-x1.pth.tar --compile
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
from pathlib import Path
from typing import TypeAlias

import torch
from plain_csnet import PlainCSNet
from torch import Tensor, nn

import goctconv
from goctconv.deployment._turns import peak_memory

MIB = 2**20
TOLERANCE = 1e-4


def main() -> None:
    """Compare, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["csnet_x1_l", "csnet_x2_l"])
    parser.add_argument("--weights", type=Path, help="a file of weights, where one model is named")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--compile", action="store_true", help="measure the compiled form too, which takes minutes")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error(f"--rounds {options.rounds}: quartiles need at least 2")
    if options.weights is not None and len(options.models) > 1:
        parser.error(f"--weights is of one network, but --models names {len(options.models)}: name one")
    print(described(options.rounds))
    for name in options.models:
        model = prepared(name, options.weights)
        image = torch.randn(1, 3, options.size, options.size, generator=torch.Generator().manual_seed(1))
        sides = sides_of(model, with_compiled=options.compile)
        with torch.inference_mode():
            check(sides, image, name)
            seconds = measured(sides, image, options.threads, options.rounds)
            for threads, (own, clock) in seconds.items():
                report(name, threads, own, clock)
            if len(seconds) > 1:
                report_threads(name, {threads: clock for threads, (_, clock) in seconds.items()})
            torch.set_num_threads(1)
            memory = {side: peak_memory(functools.partial(one, image)) / MIB for side, one in sides.items()}
        for side, most in memory.items():
            print(f"{name}, {side}: peak memory {most:.1f} MiB, {most / memory['plain']:.2f} of the plain form's")


def described(rounds: int) -> str:
    """Return date, commit, machine, versions and allocator."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)  # noqa: S607
    tuned = {name: value for name, value in os.environ.items() if name.startswith(("MALLOC_", "LD_PRELOAD"))}
    now = dt.datetime.now(tz=dt.timezone.utc)
    return (
        f"{now:%Y-%m-%d}, commit {commit.stdout.strip() or 'unknown'}, torch "
        f"{torch.__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{' '.join(platform.libc_ver())} malloc {tuned or 'as it comes'}; {rounds} rounds"
    )


def prepared(name: str, weights: Path | None) -> nn.Module:
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


def sides_of(model: nn.Module, *, with_compiled: bool) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return what is compared, the baseline first."""
    sides: dict[str, Callable[[Tensor], Tensor]] = {
        "plain": PlainCSNet(model).eval(),
        "goctconv, eval": model,
        "deployed, eager": goctconv.deploy(model),
    }
    if with_compiled:
        sides["deployed, compiled"] = goctconv.deploy(model, backend="compile")
    return sides


def check(sides: dict[str, Callable[[Tensor], Tensor]], image: Tensor, name: str) -> None:
    """Compare the outputs.

    Raises:
        RuntimeError: They differ.
    """
    expected = sides["plain"](image)
    for side, network in sides.items():
        difference = float((network(image) - expected).abs().max())
        print(f"{name}, {side}: largest difference {difference:.1e}, largest output {float(expected.abs().max()):.1f}")
        if not difference <= TOLERANCE:
            raise RuntimeError(f"{side} differs by {difference:.1e}, more than {TOLERANCE:g}")


Seconds: TypeAlias = dict[str, list[float]]


def measured(
    sides: dict[str, Callable[[Tensor], Tensor]], image: Tensor, threads: list[int], rounds: int
) -> dict[int, tuple[Seconds, Seconds]]:
    """Return for every number of threads the process's own seconds and the clock's, of every side and round.

    One round warms up. Numbers of threads take turns too: what else the machine does changes from second to second.
    """
    taken: dict[int, tuple[Seconds, Seconds]] = {
        n: ({side: [] for side in sides}, {side: [] for side in sides}) for n in threads
    }
    for number in range(rounds + 1):
        for count in sorted(taken, reverse=bool(number // 2 % 2)):
            torch.set_num_threads(count)
            torch.zeros(2**20).add_(1)  # wakes the threads
            own, clock = taken[count]
            for side in sorted(sides, reverse=bool(number % 2)):
                start = time.process_time(), time.perf_counter()
                sides[side](image)
                if number:
                    own[side].append(time.process_time() - start[0])
                    clock[side].append(time.perf_counter() - start[1])
    return taken


def report_threads(name: str, seconds: dict[int, Seconds]) -> None:
    """Print how much faster every side is with the most threads than with the fewest."""
    few, many = min(seconds), max(seconds)
    for side in seconds[few]:
        ratio = statistics.median(seconds[few][side]) / statistics.median(seconds[many][side])
        low, _, high = statistics.quantiles(
            [a / b for a, b in zip(seconds[few][side], seconds[many][side], strict=True)], n=4
        )
        print(f"{name}, {side}: {many} threads are {ratio:.2f} x as fast as {few} ({low:.2f}-{high:.2f})")


def report(name: str, threads: int, own: dict[str, list[float]], clock: dict[str, list[float]]) -> None:
    """Print a line for every side."""
    for side in own:
        parts = [
            f"{name}, {threads} thread{'s' * (threads > 1)}, {side}: {1000 * statistics.median(clock[side]):.1f} ms"
        ]
        for what, taken in (("own time", own), ("clock", clock)):
            baseline = statistics.median(taken["plain"]) / statistics.median(taken[side])
            each = [a / b for a, b in zip(taken["plain"], taken[side], strict=True)]
            low, _, high = statistics.quantiles(each, n=4)
            parts.append(f"{what} {baseline:.2f} x ({low:.2f}-{high:.2f})")
        print(", ".join(parts), flush=True)


if __name__ == "__main__":
    main()
