"""The operations of a deployed block, one by one: PyTorch's own in both memory layouts, and those that blocks run.

All forms of an operation take turns in one process, on one thread; printed are the medians of the process's own time.

    python benchmarks/deploy_operations.py --channels 10 --size 224
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goctconv.deployment import _cpu
from goctconv.layers import _resample

LAST = torch.channels_last


def forms(channels: int) -> dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]:
    """Return PyTorch's form and ours of every operation."""
    pointwise = nn.Conv2d(channels, channels, 1).requires_grad_(requires_grad=False)
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels).requires_grad_(requires_grad=False)
    slopes = torch.rand(channels)
    return {
        "1x1 convolution": (pointwise, _cpu.convolution(pointwise)),
        "3x3 depthwise convolution": (depthwise, _cpu.convolution(depthwise)),
        "2x2 max-pooling": (lambda x: F.max_pool2d(x, 2), lambda x: _resample.max_pool(x, 2)),
        "2x2 average-pooling": (lambda x: F.avg_pool2d(x, 2), lambda x: _resample.avg_pool(x, 2)),
        "PReLU": (lambda x: F.prelu(x, slopes), _cpu.prelu(slopes)),
    }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=10)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=51)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(1, options.channels, options.size, options.size)
    last = x.contiguous(memory_format=LAST)
    print(f"torch {torch.__version__}, {options.channels} channels of {options.size}x{options.size}, microseconds")
    print("| operation | PyTorch's own | the same, `channels_last` | here |\n| --- | ---: | ---: | ---: |")
    with torch.inference_mode():
        for name, (usual, ours) in forms(options.channels).items():
            torch.testing.assert_close(ours(last), usual(x), rtol=1e-4, atol=1e-4)
            seconds: list[list[float]] = [[], [], []]
            for _ in range(options.rounds):
                for taken, form, given in zip(seconds, (usual, usual, ours), (x, last, last), strict=True):
                    start = time.process_time()
                    form(given)
                    taken.append(time.process_time() - start)
            print(f"| {name} | " + " | ".join(f"{1e6 * statistics.median(taken):.0f}" for taken in seconds) + " |")


if __name__ == "__main__":
    main()
