"""CSNet in ONNX Runtime and OpenVINO against its plain form in PyTorch, in turns, on one thread.

The plain form and the engines have the same weights and get the same image; their logits are compared first. Time is
the process's own, which other programs disturb less than the clock. What the memory allocator gives back to the system
at every call costs the plain form much and the engines little, so run it both ways:

    python benchmarks/engines_speed.py --weights csnet-L-x1.pth.tar
    MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824 python benchmarks/engines_speed.py --weights ...
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from plain_csnet import PlainCSNet
from torch import Tensor, nn

import goctconv
from goctconv.deployment import (
    Engine,
    OnnxEngine,
    OpenVINOEngine,
    compare_timings,
    export_onnx,
    export_openvino,
)
from goctconv.deployment._machine import describe_machine


def main() -> None:
    """Export, compare, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="csnet_x1_l")
    parser.add_argument("--weights", type=Path, help="checkpoint; without one, random weights are calibrated")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="keep the exported files here, and use those that are there")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = make_model(options.model, options.weights)
    plain = PlainCSNet(model).eval()
    image = torch.randn(1, 3, options.size, options.size, generator=torch.Generator().manual_seed(0))
    with TemporaryDirectory() as temporary:
        engines = load_engines(model, options.folder or Path(temporary), options.size)
        sides: dict[str, Callable[[], object]] = {"plain": inference(plain, image)}
        sides["goctconv, eager"] = inference(model, image)
        sides |= {name: (lambda engine=engine: engine(image.numpy())) for name, engine in engines.items()}
        expected = inference(plain, image)()
        differences = {name: relative(sides[name](), expected) for name in sides}
        timings = compare_timings(sides, rounds=options.rounds, clock=time.process_time)
    allocator = {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")} or "as it comes"
    print(f"{options.model} at {options.size}x{options.size}, one thread, allocator {allocator}")
    for name, (low, middle, high) in timings.ratios("plain").items():
        figures = f"{1000 * timings.median(name):7.2f} ms  {middle:.2f} ({low:.2f}-{high:.2f})"
        print(f"{name:28} {figures}, equal to {differences[name]:.1e}")
    if options.json:
        found = {"machine": describe_machine(), "differences": differences, "timings": timings.to_dict("plain")}
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


def make_model(name: str, weights: Path | None) -> nn.Module:
    """Return a network whose outputs are finite."""
    model = goctconv.create_model(name, checkpoint_path=weights).eval()
    if weights is None:
        torch.manual_seed(0)
        goctconv.saliency.calibrate_batch_norm(model, [torch.randn(4, 3, 64, 64)])
    return model


def load_engines(model: nn.Module, folder: Path, size: int) -> dict[str, Engine]:
    """Export what is not there yet, and load it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "network.onnx").exists():
        export_onnx(model, folder / "network.onnx")
    if not (folder / "network.xml").exists():
        export_openvino(model, folder / "network.xml")
    fixed = (size, size)
    return {
        "ONNX Runtime": OnnxEngine(folder / "network.onnx", threads=1),
        "OpenVINO, any size": OpenVINOEngine(folder / "network.xml", threads=1),
        "OpenVINO": OpenVINOEngine(folder / "network.xml", threads=1, size=fixed),
        "OpenVINO, bfloat16": OpenVINOEngine(folder / "network.xml", threads=1, size=fixed, precision="bf16"),
    }


def inference(network: nn.Module, image: Tensor) -> Callable[[], Tensor]:
    """Return a call of a network."""

    @torch.inference_mode()
    def call() -> Tensor:
        output: Tensor = network(image)
        return output

    return call


def relative(found: object, expected: Tensor) -> float:
    """Return the largest difference over the largest value."""
    return float((torch.as_tensor(found) - expected).abs().max() / expected.abs().max())


if __name__ == "__main__":
    main()
