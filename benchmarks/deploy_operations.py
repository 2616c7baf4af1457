"""The operations of a deployed block, one by one: PyTorch's own in both memory layouts, and those that blocks run.

All forms of an operation are measured in turns in one process; printed are the medians of wall-clock time.

    python benchmarks/deploy_operations.py --channels 10 --size 224
    python benchmarks/deploy_operations.py --threads 2
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goctconv.deployment import _kernels, compare_timings
from goctconv.deployment._machine import keep_freed_memory
from goctconv.layers import _resample

LAST = torch.channels_last


Form: TypeAlias = Callable[[Tensor], Tensor]


def forms(channels: int, size: int) -> dict[str, tuple[Form, Form, Tensor]]:
    """Return PyTorch's form and ours of every operation, and what it is done to."""
    large, small = torch.randn(1, channels, size, size), torch.randn(1, 24, size // 8, size // 8)
    half = torch.randn(1, channels, size // 2, size // 2)
    pointwise, few, single = (nn.Conv2d(*widths, 1) for widths in ((channels, channels), (24, 24), (channels, 1)))
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
    for conv in (pointwise, few, single, depthwise):
        conv.requires_grad_(requires_grad=False)
    slopes = torch.rand(channels)
    twice = size // 2 * 2, size // 2 * 2

    def enlarged(x: Tensor) -> Tensor:
        return F.interpolate(x, twice, mode="bilinear", align_corners=False)

    return {
        "1x1 convolution": (pointwise, _kernels.convolution(pointwise), large),
        f"1x1 convolution, 24 channels of {size // 8}x{size // 8}": (few, _kernels.convolution(few), small),
        "1x1 convolution to one channel": (single, _kernels.convolution(single), large),
        "3x3 depthwise convolution": (depthwise, _kernels.convolution(depthwise), large),
        "2x2 max-pooling": (lambda x: F.max_pool2d(x, 2), lambda x: _resample.max_pool(x, 2), large),
        "2x2 average-pooling": (lambda x: F.avg_pool2d(x, 2), lambda x: _resample.avg_pool(x, 2), large),
        "PReLU": (lambda x: F.prelu(x, slopes), _kernels.prelu(slopes), large),
        "bilinear enlargement to twice the size": (enlarged, lambda x: _resample.resize(x, twice, "bilinear"), half),
    }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=10)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=51)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    print(f"torch {torch.__version__}, {options.channels} channels of {options.size}x{options.size}", end=", ")
    print(f"{options.threads} thread{'s' * (options.threads > 1)}, microseconds")
    print("| operation | PyTorch's own | the same, `channels_last` | here |\n| --- | ---: | ---: | ---: |")
    with torch.inference_mode():
        for name, (usual, ours, x) in forms(options.channels, options.size).items():
            last = x.contiguous(memory_format=LAST)
            torch.testing.assert_close(ours(last), usual(x), rtol=1e-4, atol=1e-4)
            sides = {"usual": partial(usual, x), "channels_last": partial(usual, last), "ours": partial(ours, last)}
            timings = compare_timings(sides, rounds=options.rounds, warmup=0)
            print(f"| {name} | " + " | ".join(f"{1e6 * timings.median(side):.0f}" for side in sides) + " |")


if __name__ == "__main__":
    main()
