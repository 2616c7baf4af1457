"""Time all metrics of 200 maps against their masks, ours and pysodmetrics', in turns in one run, one thread each.

pysodmetrics pins an older numpy and needs an environment of its own:

    python3 -m venv sod && sod/bin/pip install pysodmetrics
    python benchmarks/metrics_speed.py sod/bin/python
    python benchmarks/metrics_speed.py sod/bin/python --predictions DIR --masks DIR
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from goctconv.saliency import synthetic_images
from goctconv.saliency.metrics import SaliencyMetrics

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]

_WORKER = """
import sys, time, warnings
import numpy as np
import py_sod_metrics
warnings.simplefilter("ignore")
data = np.load(sys.argv[1])
pairs = [(data[f"map{i}"], data[f"mask{i}"]) for i in range(len(data.files) // 2)]
classes = ("MAE", "Smeasure", "Emeasure", "Fmeasure", "WeightedFmeasure")
metrics = [getattr(py_sod_metrics, name)() for name in classes]
print("ready", flush=True)
for line in sys.stdin:
    first, last = map(int, line.split())
    start = time.perf_counter()
    for saliency, mask in pairs[first:last]:
        for metric in metrics:
            metric.step(saliency, mask)
    print(time.perf_counter() - start, flush=True)
"""


def made_up_pairs(count: int) -> list[Pair]:
    """Return masks of made-up photographs, and maps that are about right: blurred, noisy, in part wrong."""
    pairs = []
    for index, (photograph, mask) in enumerate(synthetic_images(count)):
        rng = np.random.default_rng(index)
        blurred = np.asarray(mask.filter(ImageFilter.GaussianBlur(4)), dtype=np.float64)
        coarse = Image.fromarray(rng.uniform(0, 255, (9, 9)).astype(np.uint8)).resize(photograph.size)
        level = blurred * rng.uniform(0.6, 1) + np.asarray(coarse, dtype=np.float64) * 0.4 - 60
        pairs.append((np.clip(level, 0, 255).astype(np.uint8), np.array(mask)))
    return pairs


def read_pairs(predictions: Path, masks: Path, count: int) -> list[Pair]:
    """Return the maps and masks of the same names in two folders."""
    pairs = []
    for path in sorted(predictions.glob("*.png"))[:count]:
        with Image.open(path) as saliency, Image.open(masks / path.name) as mask:
            pairs.append((np.array(saliency.convert("L")), np.array(mask.convert("L"))))
    return pairs


def run(python: str, pairs: list[Pair], chunk: int, repeats: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each pass over all maps, ours and theirs, taken in turns of a few maps."""
    torch.set_num_threads(1)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.npz"
        arrays = {f"map{i}": saliency for i, (saliency, _) in enumerate(pairs)}
        np.savez(file, **arrays, **{f"mask{i}": mask for i, (_, mask) in enumerate(pairs)})
        with subprocess.Popen(  # noqa: S603  # the interpreter that the caller names
            [python, "-c", _WORKER, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, **ONE_THREAD},
        ) as worker:
            if worker.stdin is None or worker.stdout is None or worker.stdout.readline().strip() != "ready":
                sys.exit(f"{python} could not run pysodmetrics: pass the interpreter of an environment that has it.")
            for _ in range(repeats):
                metrics = SaliencyMetrics("pysodmetrics")
                seconds = [0.0, 0.0]
                for first in range(0, len(pairs), chunk):
                    seconds[0] += time_ours(metrics, pairs[first : first + chunk])
                    worker.stdin.write(f"{first} {first + chunk}\n")
                    seconds[1] += float(worker.stdout.readline())
                ours.append(seconds[0])
                theirs.append(seconds[1])
            worker.stdin.close()
    return ours, theirs


def time_ours(metrics: SaliencyMetrics, pairs: list[Pair]) -> float:
    """Return the seconds that some maps take."""
    start = time.perf_counter()
    for saliency, mask in pairs:
        metrics.update(torch.from_numpy(saliency), torch.from_numpy(mask))
    return time.perf_counter() - start


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", nargs="?", default=sys.executable, help="an interpreter that has pysodmetrics")
    parser.add_argument("--predictions", type=Path)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    pairs = read_pairs(args.predictions, args.masks, args.count) if args.predictions else made_up_pairs(args.count)
    ours, theirs = run(args.python, pairs, chunk=10, repeats=args.repeats)
    ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
    print(f"{len(pairs)} maps, all metrics, protocol pysodmetrics, one thread; median of {args.repeats} passes")
    print(f"goctconv     {statistics.median(ours):7.3f} s")
    print(f"pysodmetrics {statistics.median(theirs):7.3f} s")
    print(f"ratio        {statistics.median(ratios):7.2f}   (each: {', '.join(f'{ratio:.2f}' for ratio in ratios)})")


if __name__ == "__main__":
    main()
