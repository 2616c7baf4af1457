"""CSF on Res2Net-50 at 352×352 against the same network written plainly: time in turns, memory, the head's share.

The plain form follows the description of the network, one convolution for every path between two levels, with the same
backbone and the same weights. Its logits are compared with ours first. Both sides take turns, the one that comes first
changing with every round; printed are the median and the quartiles of the ratios, by the process's own time and by the
clock. Memory is the peak of PyTorch's own allocations in one forward pass, counted by its profiler, which is exact.

    python benchmarks/csf_speed.py --rounds 10
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import goctconv
from goctconv.graph import peak_memory
from goctconv.models import CSF

DILATIONS = (1, 2, 4, 8, 16)
MIB = 2**20


class Plain(nn.Module):
    """The network as it is described: features, cross-stage exchange, dilated branches, cross-stage fusion."""

    def __init__(self, model: CSF) -> None:
        super().__init__()
        self.model = model

    def head(self, features: list[Tensor]) -> Tensor:
        """Return the fused map."""
        head = self.model.head
        mixed = [self._exchange(head.fuse.paths, features, target) for target in range(4)]
        mixed = [self._norm_act(x, head.norm1, head.act1, level) for level, x in enumerate(mixed)]
        wide = []
        for level, x in enumerate(mixed):
            branches = [
                F.conv2d(x, head.dilated.branches[str(level)][str(index)].weight, padding=d, dilation=d)
                for index, d in enumerate(DILATIONS)
            ]
            wide.append(self._norm_act(torch.cat(branches, dim=1), head.norm2, head.act2, level))
        return self._norm_act(self._exchange(head.merge.paths, wide, 0), head.norm3, head.act3, 0)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        prediction = self.model.classifier(self.head(list(self.model.backbone(image))))
        return F.interpolate(prediction, image.shape[-2:], mode="bilinear", align_corners=False)

    @staticmethod
    def _exchange(paths: nn.ModuleDict, features: list[Tensor], target: int) -> Tensor:
        size = features[target].shape[-2:]
        total = None
        for source, x in enumerate(features):
            weight = paths[f"{source}_to_{target}"].weight
            if source < target:
                x = F.interpolate(x, size, mode="bilinear", align_corners=False)  # noqa: PLW2901  # as in the description
            y = F.conv2d(x, weight)
            if source > target:
                y = F.interpolate(y, size, mode="bilinear", align_corners=False)
            total = y if total is None else total + y
        return total

    @staticmethod
    def _norm_act(x: Tensor, norms: nn.Module, acts: nn.Module, level: int) -> Tensor:
        return acts.get_submodule(str(level))(norms.get_submodule(str(level))(x))


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Return what a call takes of the process's own time, and by the clock."""
    start = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - start[0], time.perf_counter() - start[1]


def spread(values: list[float]) -> str:
    """Return median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3f} ({low:.3f}-{high:.3f})"


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="csf_res2net50", help="default: %(default)s")
    parser.add_argument("--size", type=int, default=352, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=10, help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = cast("CSF", goctconv.create_model(args.model)).eval()
    plain = Plain(model)
    image = torch.randn(1, 3, args.size, args.size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        deployed = goctconv.deploy(model)
        sides: dict[str, Callable[[], object]] = {
            "ours": lambda: model(image),
            "deployed": lambda: deployed(image),
            "plain": lambda: plain(image),
        }
        for name, network in (("ours", model), ("deployed", deployed)):
            difference = float((network(image) - plain(image)).abs().max() / plain(image).abs().max())
            print(
                f"{args.model} at {args.size}x{args.size}, torch {torch.__version__}: {name} equal to {difference:.1e}"
            )
        features = list(model.backbone(image))
        own: dict[str, list[float]] = {side: [] for side in sides}
        clock: dict[str, list[float]] = {side: [] for side in sides}
        head: list[float] = []
        for number in range(args.rounds):
            for side in sorted(sides, reverse=bool(number % 2)):
                process, wall = seconds(sides[side])
                own[side].append(process)
                clock[side].append(wall)
            head.append(seconds(lambda: model.head(tuple(features)))[0])
        for name, taken in (("process time", own), ("clock", clock)):
            for side in ("ours", "deployed"):
                ratios = [a / b for a, b in zip(taken[side], taken["plain"], strict=True)]
                print(f"{name}: {side} {statistics.median(taken[side]):.3f} s; over plain {spread(ratios)}")
        share = statistics.median(head) / statistics.median(own["ours"])
        print(f"the head's share of the time: {share:.0%}")
        print(", ".join(f"peak memory of {side} {peak_memory(call) / MIB:.1f} MiB" for side, call in sides.items()))


if __name__ == "__main__":
    main()
