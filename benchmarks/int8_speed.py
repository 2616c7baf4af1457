"""CSNet with 8-bit integers, calibrated on photographs, in ONNX Runtime and OpenVINO, against float32 in the same.

Weights are quantized by channel and activations by tensor, by ONNX Runtime's tool, for both engines. Printed are the
time of one image on one thread, in turns, and how far the maps of other photographs are from float32's.

    python benchmarks/int8_speed.py PHOTOGRAPHS --weights csnet-L-x1.pth.tar
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from engines_speed import make_model
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static

from goctconv.deployment import Engine, OnnxEngine, OpenVINOEngine, compare_timings, export_onnx
from goctconv.deployment._machine import describe_machine
from goctconv.saliency import preprocess


class Photographs(CalibrationDataReader):
    """The inputs to calibrate with."""

    def __init__(self, images: list[NDArray[np.float32]]) -> None:
        self._inputs = iter([{"image": image} for image in images])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next input."""
        return next(self._inputs, None)


def main() -> None:
    """Export, calibrate, compare, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of photographs")
    parser.add_argument("--model", default="csnet_x1_l")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--calibrate", type=int, default=32, help="photographs to calibrate on (default: %(default)s)")
    parser.add_argument("--compare", type=int, default=20, help="other photographs to compare (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--exported", type=Path, help="keep the exported files here, and use those that are there")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    torch.set_num_threads(1)
    paths = sorted(options.folder.iterdir())[: options.calibrate + options.compare]
    images = [preprocess(path, options.size).numpy() for path in paths]
    with TemporaryDirectory() as temporary:
        engines = make_engines(options, images[: options.calibrate], options.exported or Path(temporary))
    image = images[0]
    sides: dict[str, Callable[[], object]] = {
        name: (lambda engine=engine: engine(image)) for name, engine in engines.items()
    }
    timings = compare_timings(sides, rounds=options.rounds, clock=time.process_time)
    expected = maps(engines["ONNX Runtime, float32"], images[options.calibrate :])
    distances = {
        name: float(np.abs(maps(engine, images[options.calibrate :]) - expected).mean())
        for name, engine in engines.items()
    }
    for engine in ("ONNX Runtime", "OpenVINO"):
        ratios = timings.ratios(f"{engine}, float32")
        for name in (f"{engine}, float32", f"{engine}, int8"):
            low, middle, high = ratios[name]
            figures = f"{1000 * timings.median(name):.2f} ms, {middle:.2f} ({low:.2f}-{high:.2f}) of its float32"
            print(f"{name}: {figures}; maps differ by {distances[name]:.4f} in the mean")
    if options.json:
        found = {"machine": describe_machine(), "distances": distances, "seconds": timings.seconds}
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


def make_engines(options: argparse.Namespace, images: list[NDArray[np.float32]], folder: Path) -> dict[str, Engine]:
    """Export, quantize and load the network: with PReLU for OpenVINO, which fuses it, without for ONNX Runtime."""
    model = make_model(options.model, options.weights)
    fixed = (options.size, options.size)
    engines: dict[str, Engine] = {}
    for name, keep_prelu in (("network", False), ("prelu", True)):
        file = folder / f"{name}.onnx"
        if not file.exists():
            export_onnx(model, file, keep_prelu=keep_prelu)
        quantized = folder / f"{name}-int8.onnx"
        quantize_static(
            file,
            quantized,
            Photographs(images),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        if keep_prelu:
            engines["OpenVINO, float32"] = OpenVINOEngine(file, threads=1, size=fixed)
            engines["OpenVINO, int8"] = OpenVINOEngine(quantized, threads=1, size=fixed)
        else:
            engines["ONNX Runtime, float32"] = OnnxEngine(file, threads=1)
            engines["ONNX Runtime, int8"] = OnnxEngine(quantized, threads=1)
    return engines


def maps(engine: Engine, images: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return probabilities."""
    return np.concatenate([1 / (1 + np.exp(-engine(image))) for image in images])


if __name__ == "__main__":
    main()
