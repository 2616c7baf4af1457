"""Print the table of saliency networks on ten backbones: parameters, operations, and milliseconds on one core.

The networks take turns, one image each in every round, so that all of them see the same moods of the machine; printed
are the medians of the process's own time, which does not count what other programs take away.

    python benchmarks/csf_backbones.py --rounds 5
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time

import torch
from torch import nn

from goctconv import create_model
from goctconv.deployment import compare_timings
from goctconv.models import count_macs

BACKBONES = (
    "resnet18",
    "resnet50",
    "res2net50d",
    "mobilenetv4_conv_small",
    "efficientnet_b0",
    "regnetx_004",
    "fastvit_t8",
    "convnext_nano",
    "pvt_v2_b1",
    "swin_tiny_patch4_window7_224",
)
HEADER = ("backbone", "parameters", "of these, the head", "MACs at {0}×{0}", "ms on one core")


def parameters(module: nn.Module) -> int:
    """Return how many parameters a module has."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.inference_mode()
def times(models: dict[str, nn.Module], size: int, rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of every network in every round."""
    image = torch.randn(1, 3, size, size)
    sides = {name: functools.partial(model, image) for name, model in models.items()}
    timings = compare_timings(sides, rounds=rounds, warmup=1, clock=time.process_time)
    return {name: [1000 * seconds for seconds in values] for name, values in timings.seconds.items()}


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=352, help="height and width of the image (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    models: dict[str, nn.Module] = {name: create_model("csf", backbone=name).eval() for name in BACKBONES}
    taken = times(models, args.size, args.rounds)
    lines = [tuple(cell.format(args.size) for cell in HEADER), ("---", *["---:"] * 4)]
    for name, model in models.items():
        macs = count_macs(model, args.size)
        head = parameters(model) - parameters(model.get_submodule("backbone"))
        cells = (f"`{name}`", f"{parameters(model):,}", f"{head:,}", f"{macs / 1e9:.1f} G")
        lines.append((*cells, f"{statistics.median(taken[name]):,.0f}"))
    print("\n".join("| " + " | ".join(cells) + " |" for cells in lines))


if __name__ == "__main__":
    main()
