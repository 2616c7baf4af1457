"""Photographs per second of the Predictor from files to PNG files, and the share of each part.

For the shares, one photograph after the other goes through every part on one thread, and the processor time of each
part is summed up. For the speed, all go through the pipeline of `goctconv predict`, whose threads decode and write
while the network runs; the engines take turns, each time with the whole folder.

    python benchmarks/predictor_speed.py PHOTOGRAPHS --weights csnet-L-x1.pth.tar --backends torch onnx openvino
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import torch
from engines_speed import make_model
from PIL import Image

from goctconv.deployment import compare_timings, export_onnx, export_openvino
from goctconv.deployment._machine import describe_machine
from goctconv.saliency import Predictor, grey_map, read_image
from goctconv.saliency.inference import prepare, run_pipeline

T = TypeVar("T")
LEVEL = 3  # what goctconv predict writes with


def main() -> None:
    """Measure shares, then speed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of photographs")
    parser.add_argument("--model", default="csnet_x1_l")
    parser.add_argument("--weights", type=Path, help="checkpoint; without one, random weights are calibrated")
    parser.add_argument("--backends", nargs="+", default=["torch", "onnx", "openvino"])
    parser.add_argument("--count", type=int, default=200, help="photographs (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of the network (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="threads that read and write (default: %(default)s)")
    parser.add_argument(
        "--process-time", action="store_true", help="measure speed by the process's own time, beside other programs"
    )
    parser.add_argument("--exported", type=Path, help="keep the exported files here, and use those that are there")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.process_time else time.perf_counter
    photographs = sorted(path for path in options.folder.iterdir() if path.is_file())[: options.count]
    with TemporaryDirectory() as temporary:
        predictors = make_predictors(options, options.exported or Path(temporary))
        single_threaded = make_predictors(options, options.exported or Path(temporary), threads=1)
        shares = {
            name: measure_shares(predictor, photographs, options.threads) for name, predictor in single_threaded.items()
        }
        sides = {
            name: partial(run, predictor, photographs, Path(temporary), options.workers)
            for name, predictor in predictors.items()
        }
        timings = compare_timings(sides, rounds=options.rounds, warmup=0, clock=clock)
    for name, parts in shares.items():
        whole = sum(parts.values())
        told = ", ".join(
            f"{part} {1000 * value / len(photographs):.2f} ms ({value / whole:.0%})" for part, value in parts.items()
        )
        speed = len(photographs) / timings.median(name)
        kind = "second of processor time" if options.process_time else "second"
        print(f"{name}: {speed:.1f} photographs per {kind}; each on one thread: {told}")
    if options.json:
        found = {"machine": describe_machine(), "shares": shares, "timings": timings.to_dict(options.backends[0])}
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


def make_predictors(options: argparse.Namespace, folder: Path, threads: int | None = None) -> dict[str, Predictor]:
    """Load the network into every engine."""
    model = make_model(options.model, options.weights)
    folder.mkdir(parents=True, exist_ok=True)
    files = {"onnx": (folder / "network.onnx", export_onnx), "openvino": (folder / "network.xml", export_openvino)}
    predictors = {}
    for name in options.backends:
        if name == "torch":
            predictors[name] = Predictor(model)
            continue
        file, export = files[name]
        if not file.exists():
            export(model, file)
        predictors[name] = Predictor(file, backend=name, threads=threads or options.threads)
    return predictors


def measure_shares(predictor: Predictor, photographs: list[Path], threads: int) -> dict[str, float]:
    """Return the seconds of every part for all photographs."""
    seconds: dict[str, float] = dict.fromkeys(("decode", "resize", "network", "resize back", "PNG"), 0.0)

    def timed(part: str, call: Callable[[], T]) -> T:
        start = time.process_time()
        result = call()
        seconds[part] += time.process_time() - start
        return result

    torch.set_num_threads(1)
    for path in photographs:
        photograph = timed("decode", lambda path=path: read_image(path))
        prepared = timed("resize", lambda photograph=photograph: prepare(photograph, predictor.size))
        (probability,) = timed("network", lambda prepared=prepared: predictor.infer([prepared.pixels]))
        grey = timed("resize back", lambda p=probability, prepared=prepared: grey_map(p, prepared.size))
        timed("PNG", lambda grey=grey: Image.fromarray(grey).save(io.BytesIO(), "PNG", compress_level=LEVEL))
    torch.set_num_threads(threads)
    return seconds


def run(predictor: Predictor, photographs: list[Path], folder: Path, workers: int) -> None:
    """Write the map of every photograph."""

    def write(path: Path, probability: np.ndarray, size: tuple[int, int]) -> None:
        Image.fromarray(grey_map(probability, size)).save(folder / f"{path.stem}.png", compress_level=LEVEL)

    load = partial(prepare, size=predictor.size)
    pipeline = run_pipeline(photographs, load, predictor.infer, write, batch_size=predictor.batch_size, workers=workers)
    with closing(pipeline) as outcomes:
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error


if __name__ == "__main__":
    main()
