"""This checkout against another one, workload by workload, in turns: what a change did to speed.

Each side is a process of its own with one thread; a round runs a workload once on either side, and what is compared is
processor time. Ratios above 1 mean that this checkout is faster.

    git worktree add ../before 4e9bbec
    python benchmarks/compare_checkouts.py ../before --rounds 9
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
WORKLOADS = ("deploy_x1_l", "deploy_x2_l", "training_step", "prune_resnet50", "prune_csnet_x2", "evaluate_200_maps")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

# Runs in the process of a side. It uses only names that are not expected to change.
_WORKER = """
import sys, time, warnings
import numpy as np
import torch
import torch.nn.functional as F
import goctconv
warnings.simplefilter("ignore")
torch.set_num_threads(1)


def deployed(name):
    torch.manual_seed(0)
    fast = goctconv.deploy(goctconv.create_model(name).eval())
    image = torch.randn(1, 3, 224, 224)
    def run():
        with torch.inference_mode():
            for _ in range(5):
                fast(image)
    return run


def training_step():
    torch.manual_seed(0)
    model = goctconv.create_model("csnet_x1").train()
    adam = torch.optim.Adam(model.parameters(), lr=1e-4)
    optimizer = goctconv.DynamicWeightDecay(adam, model, weight_decay=3.0)
    images, masks = torch.randn(4, 3, 112, 112), (torch.rand(4, 1, 112, 112) > 0.7).float()
    def run():
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(images), masks).backward()
        optimizer.step()
    return run


def pruned(model):
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.05, 1.35)
            torch.nn.init.normal_(module.bias, 0, 0.3)
            module.momentum = None
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 128, 128))
    example = torch.randn(1, 3, 128, 128)
    return lambda: goctconv.prune_channels(model.eval(), example, ratio=0.3)


def prune_resnet50():
    import timm
    torch.manual_seed(0)
    return pruned(timm.create_model("resnet50", zero_init_last=False))


def prune_csnet_x2():
    torch.manual_seed(0)
    return pruned(goctconv.create_model("csnet_x2"))


def evaluate_200_maps():
    from goctconv.saliency.metrics import SaliencyMetrics
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(200):
        mask = np.zeros((192, 256), np.uint8)
        top, left = rng.integers(0, 96, 2)
        mask[top:top + 80, left:left + 120] = 255
        noise = rng.integers(-60, 60, mask.shape)
        saliency = np.clip(mask * 0.8 + noise, 0, 255).astype(np.uint8)
        pairs.append((torch.from_numpy(saliency), torch.from_numpy(mask)))
    def run():
        metrics = SaliencyMetrics()
        for saliency, mask in pairs:
            metrics.update(saliency, mask)
        metrics.compute()
    return run


made = {
    "deploy_x1_l": lambda: deployed("csnet_x1_l"), "deploy_x2_l": lambda: deployed("csnet_x2_l"),
    "training_step": training_step, "prune_resnet50": prune_resnet50, "prune_csnet_x2": prune_csnet_x2,
    "evaluate_200_maps": evaluate_200_maps,
}
runs = {}
print(goctconv.__file__, flush=True)
for line in sys.stdin:
    name = line.strip()
    if name not in runs:
        runs[name] = made[name]()
        runs[name]()
    start = time.process_time()
    runs[name]()
    print(time.process_time() - start, flush=True)
"""

_IMPORT = "import time; start = time.process_time(); {}; print(time.process_time() - start)"
_IMPORTS = {"import torch": "import torch", "import GOctConv": "from goctconv import GOctConv"}


class Side:
    """A process that runs workloads with the package of one checkout."""

    def __init__(self, checkout: Path) -> None:
        self.environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(checkout.resolve() / "src")}
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter, with the code above
            [sys.executable, "-c", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        found = Path(self._read()).resolve()
        if not found.is_relative_to(checkout.resolve()):
            raise RuntimeError(f"{found} was imported, expected the package of {checkout}: is it a checkout?")

    def seconds(self, workload: str) -> float:
        """Run a workload once."""
        assert self._process.stdin is not None  # noqa: S101  # it is a pipe
        print(workload, file=self._process.stdin, flush=True)
        return float(self._read())

    def import_seconds(self, statement: str) -> float:
        """Import in a fresh process."""
        command = [sys.executable, "-c", _IMPORT.format(statement)]
        done = subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True)  # noqa: S603
        return float(done.stdout)

    def _read(self) -> str:
        assert self._process.stdout is not None  # noqa: S101  # it is a pipe
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a side ended: its error stands above")
        return line.strip()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="another checkout of this repository")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=WORKLOADS)
    options = parser.parse_args()
    sides = {"this": Side(HERE), "other": Side(options.other)}
    print("| workload | other, s | this, s | other / this (quartiles) |\n| --- | ---: | ---: | ---: |")
    for name in options.workloads:
        print(row(name, {key: side.seconds for key, side in sides.items()}, name, options.rounds), flush=True)
    for name, statement in _IMPORTS.items():
        print(row(name, {key: side.import_seconds for key, side in sides.items()}, statement, options.rounds))


def row(name: str, sides: dict[str, Callable[[str], float]], argument: str, rounds: int) -> str:
    """Return a line of the table."""
    seconds: dict[str, list[float]] = {key: [] for key in sides}
    for index in range(rounds):
        for key in sorted(sides, reverse=bool(index % 2)):
            seconds[key].append(sides[key](argument))
    ratios = sorted(a / b for a, b in zip(seconds["other"], seconds["this"], strict=True))
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    return (
        f"| {name} | {medians['other']:.3f} | {medians['this']:.3f} "
        f"| {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f}) |"
    )


if __name__ == "__main__":
    main()
