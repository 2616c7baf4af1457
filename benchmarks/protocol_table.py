"""Print the table of docs/how-to/evaluate.md: the same maps under protocols that differ in one setting each.

goctconv predict PHOTOGRAPHS -o maps --weights csnet-L-x1.pth.tar
python benchmarks/protocol_table.py maps MASKS
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from goctconv.saliency.metrics import SaliencyMetrics, get_protocol

METRICS = ("max_f", "mean_f", "adaptive_f", "s_measure", "max_e", "weighted_f", "mae")
PAPER = get_protocol("paper")
PROTOCOLS = {
    "`paper`": PAPER,
    "F averaged over images, not of averages": replace(PAPER, average="images"),
    "epsilon 0 instead of 1e-4": replace(PAPER, epsilon=0.0),
    "each map stretched to 0 … 255": replace(PAPER, rescale=True),
    "`>=` instead of `>`": replace(PAPER, inclusive=True),
    "255 thresholds instead of 256": replace(PAPER, thresholds=255),
    "`pysodmetrics`: nearly all of these": get_protocol("pysodmetrics"),
}


def read(path: Path) -> torch.Tensor:
    """Return the grey levels of an image file."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("L")))


def main() -> None:
    """Read the maps once, and print a row for each protocol."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("maps", type=Path)
    parser.add_argument("masks", type=Path)
    args = parser.parse_args()
    pairs = [(read(path), read(args.masks / path.name)) for path in sorted(args.maps.glob("*.png"))]
    print("| protocol | max F | mean F | adaptive F | S | max E | weighted F | MAE |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, protocol in PROTOCOLS.items():
        metrics = SaliencyMetrics(protocol, METRICS)
        for saliency, mask in pairs:
            metrics.update(saliency, mask)
        scores = metrics.compute()
        print(f"| {name} |", " | ".join(f"{getattr(scores, metric):.4f}"[1:] for metric in METRICS), "|")


if __name__ == "__main__":
    main()
