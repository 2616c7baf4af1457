"""What pruning costs: processor time, beside Torch-Pruning's on networks that both prune, and memory.

The seconds are the least of some rounds in turns, in float32, on one thread, of processor time, which other programs
disturb less: of a forward pass in inference mode; of `prune_channels` as it is; of it without the comparisons on
random input and at another size; of Torch-Pruning's analysis and removal, which copies and compares nothing; and of
what exact pruning cannot do without, whatever else it does: one copy of the network, and a pass of each of the
original, the masked and the slim one, taken for three of the first. The memory is that of ResNet-50 at 224 x 224: by
how much the process grows at most while it is pruned, over what one forward pass and twice the weights take. Networks
whose output Torch-Pruning changes are left out, by name.

    pip install "goctconv[bench]" && python benchmarks/pruning_cost.py
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from pruning_networks import EXACT, PEER, remove_by_peer

from goctconv.deployment import compare_timings
from goctconv.pruning import prune_channels
from reference.masking import largest_difference, mask_, masked_channels, prepared
from reference.networks import NETWORKS, images

KIB = 1024
FORWARD, VERIFIED, ALONE, LEAST = "forward pass", "prune_channels", "verify=False", "copy and three passes"
COMPARED = [
    *("timm/resnet18", "timm/resnet50", "timm/mobilenetv2_100", "timm/mobilenetv3_small_050", "timm/efficientnet_b0"),
    *("timm/efficientnet_lite0", "timm/densenet121", "timm/gernet_s", "timm/ese_vovnet19b_dw", "timm/hrnet_w18_small"),
    *("timm/inception_v3", "timm/ghostnet_050", "torchvision/mobilenet_v2", "torchvision/vgg11_bn"),
]


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=COMPARED, metavar="NETWORK", help="some of all by default")
    parser.add_argument("--all", action="store_true", help="all networks of the tests")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all numbers there")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(memory(), flush=True)
    found: dict[str, dict[str, float]] = {}
    sides = f"{FORWARD} | {VERIFIED} | {ALONE} | {PEER} | {LEAST}"
    print(f"| network | {sides} | ratio | without | least | forward passes |")
    print(f"| --- |{' ---: |' * 9}")
    for name in NETWORKS if options.all else options.networks:
        figures = guarded(name, options.rounds)
        if isinstance(figures, str):
            print(f"{name}: {figures}", file=sys.stderr, flush=True)
            continue
        found[name] = figures
        print(row(name, figures), flush=True)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if found:
        ratios = [ratios_of(figures) for figures in found.values()]
        middle = [statistics.median(values) for values in zip(*ratios, strict=True)]
        numbers = f"{middle[0]:.2f} | {middle[1]:.2f} | {middle[2]:.2f} | {middle[3]:.1f}"
        print(f"| median of {len(found)} | | | | | | {numbers} |")


def ratios_of(figures: dict[str, float]) -> tuple[float, float, float, float]:
    """Return what both forms of pruning and the least take of the peer's time, and the first of a forward pass's."""
    verified, alone, least = (figures[side] / figures[PEER] for side in (VERIFIED, ALONE, LEAST))
    return verified, alone, least, figures[VERIFIED] / figures[FORWARD]


def row(name: str, figures: dict[str, float]) -> str:
    """Return a row of the table."""
    seconds = [f"{1000 * figures[side]:.0f} ms" for side in (FORWARD, VERIFIED, ALONE, PEER, LEAST)]
    ratio, alone, least, passes = ratios_of(figures)
    return f"| {name} | {' | '.join(seconds)} | {ratio:.2f} | {alone:.2f} | {least:.2f} | {passes:.1f} |"


def guarded(name: str, rounds: int) -> dict[str, float] | str:
    """Return the seconds of all sides, or why they do not compare."""
    try:
        return seconds(name, rounds)
    except Exception as error:  # noqa: BLE001  # whatever a network or a peer raises
        return f"{type(error).__name__}"


def seconds(name: str, rounds: int) -> dict[str, float]:
    """Return the seconds of all sides.

    Raises:
        ValueError: Torch-Pruning changes the output.
    """
    model = prepared(name)
    example = images(name, batch=1).double()
    chosen = masked_channels(model, example, groups=True)
    masked = mask_(model, chosen, biases=True)
    slim = copy.deepcopy(masked)
    remove_by_peer(slim, chosen, example)
    with torch.no_grad():
        if not largest_difference(slim(example), masked(example)) <= EXACT:
            raise ValueError("the output is another one")
    masked, example = masked.float(), example.float()
    return timed(masked, chosen, example, rounds)


def timed(masked: nn.Module, chosen: dict[str, Tensor], example: Tensor, rounds: int) -> dict[str, float]:
    """Return the least seconds of each side, run in turns."""
    options: dict[str, Any] = {"threshold": 1e-20, "bn_bias": "zero"}
    copies = [copy.deepcopy(masked) for _ in range(rounds)]
    runs: dict[str, Callable[[], object]] = {
        FORWARD: lambda: forward(masked, example),
        VERIFIED: lambda: prune_channels(masked, example, **options),
        ALONE: lambda: prune_channels(masked, example, verify=False, **options),
        PEER: lambda: remove_by_peer(copies.pop(), chosen, example),
        LEAST: lambda: least(masked, example),
    }
    forward(masked, example)
    timings = compare_timings(runs, rounds=rounds, warmup=0, clock=time.process_time)
    return {name: round(min(seconds), 4) for name, seconds in timings.seconds.items()}


def least(model: nn.Module, example: Tensor) -> None:
    """Copy a model, and run it three times."""
    copy.deepcopy(model)
    for _ in range(3):
        forward(model, example)


@torch.inference_mode()
def forward(model: nn.Module, example: Tensor) -> None:
    """Run a model once."""
    model(example)


def memory() -> str:
    """Return what pruning ResNet-50 takes, measured in processes of their own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        forward = pool.apply(growth, ("forward",))
        pruning = pool.apply(growth, ("prune",))
    weights = sum(each.numel() * each.element_size() for each in timm.create_model("resnet50").parameters()) / KIB / KIB
    limit = forward + 2 * weights
    return (
        f"resnet50 at 224 x 224: grows by {pruning:.0f} MiB at most, a forward pass by {forward:.0f} MiB, the weights "
        f"are {weights:.0f} MiB: {pruning / limit:.2f} of one forward pass and twice the weights"
    )


def growth(what: str) -> float:
    """Return by how many MiB this process grows."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model = timm.create_model("resnet50", zero_init_last=False).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.05, 1.35)
            nn.init.normal_(module.bias, 0, 0.3)
    example = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        model(example[:, :, :64, :64])  # what a first call allocates for good
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if what == "prune":
        prune_channels(model, example, ratio=0.3, groups=True)
    else:
        with torch.inference_mode():
            model(example)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / KIB


if __name__ == "__main__":
    main()
