"""Channels of a hundred and ten networks are masked and removed: how many go, and how exact what is left is.

Each network has random γ, β and statistics; 30 % of its channels are masked, each on its own or all together
that can only go together, with β kept or not. Printed for every network and combination: the share of the
masked channels that went, the largest difference to the masked network in float64, at two sizes where it takes them,
relative to the largest output, and the seconds of the call, comparisons and copies included. With ``--torch-pruning``,
the same of Torch-Pruning, which is told to remove just the masked channels and what depends on them, and is compared
with the network with γ and β of what it removed at 0; its seconds are those of its own work alone
(`pruning_cost.py` compares times). It is `pip install "goctconv[bench]"`.

``--json`` writes the figures, whose shares the tests hold as a floor; ``--table`` writes them as Markdown.

    python benchmarks/pruning_networks.py --networks timm/resnet18 timm/dla34 --combinations groups-keep
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from goctconv.pruning import prune_channels
from reference.masking import largest_difference, mask_, masked_channels, prepared
from reference.networks import FIXED_SIZES, NETWORKS, images

COMBINATIONS = [f"{masks}-{bn_bias}" for masks in ("independent", "groups") for bn_bias in ("keep", "zero")]
LIMIT = 60
"""Seconds that Torch-Pruning may take for a network."""
PEER = "Torch-Pruning"
EXACT = 1e-10
HEADING = """\
# A hundred and ten networks, pruned

`python benchmarks/pruning_networks.py --torch-pruning` gave this. 30 % of the channels are masked, each on its own or
whole groups that can only go together, with β kept or zeroed. Every cell: the share of the masked
channels that went, the largest difference to the masked network in float64 relative to its largest output, at two
sizes where it takes them, and seconds. In the last column, Torch-Pruning removes what the mask of "groups-zero" names
and all that it finds to depend on that; its difference is to the network with γ and β of the mask at 0. An exception
stands by its name."""


def main() -> None:
    """Run the networks and combinations that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NETWORK", help="all of them by default")
    parser.add_argument("--combinations", nargs="+", default=COMBINATIONS, choices=COMBINATIONS)
    parser.add_argument("--smallest", action="store_true", help="take the smallest images, not 128 x 128")
    parser.add_argument("--json", type=Path, help="write all numbers there; networks in it are done")
    parser.add_argument("--table", type=Path, help="write the table there at the end")
    parser.add_argument("--torch-pruning", action="store_true", help="run Torch-Pruning beside it")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    heads = [*options.combinations, *([PEER] if options.torch_pruning else [])]
    lines = [f"| network | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    print("\n".join(lines))
    found: dict[str, dict[str, Any]] = {}
    if options.json and options.json.exists():
        found = json.loads(options.json.read_text(encoding="utf-8"))
    for name in options.networks:
        found[name] = found.get(name) or network(
            name, options.combinations, smallest=options.smallest, peer=options.torch_pruning
        )
        lines.append(f"| {name} | {' | '.join(cell(found[name][head]) for head in heads)} |")
        print(lines[-1], flush=True)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    summary = summarised(found, heads)
    print("\n" + "\n".join(summary))
    if options.table:
        versions = f"torch {torch.__version__}, timm {timm.__version__}, {datetime.now(tz=timezone.utc):%Y-%m-%d}"
        text = "\n".join([f"{HEADING}\n\n{versions}, one thread.\n", *summary, "", *lines])
        options.table.write_text(text + "\n", encoding="utf-8")


def network(name: str, combinations: list[str], *, smallest: bool, peer: bool) -> dict[str, Any]:
    """Return the figures of one network, by combination."""
    model = prepared(name, smallest=smallest)
    inputs = inputs_of(name, smallest=smallest)
    figures = {
        combination: guarded(lambda combination=combination: ours(model, combination, inputs))
        for combination in combinations
    }
    if peer:
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # its memory is given back at the end
            figures[PEER] = pool.apply(by_peer, (name, smallest))
    return figures


def by_peer(name: str, smallest: bool) -> dict[str, Any]:
    """Return the figures of Torch-Pruning, or what it raised."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model = prepared(name, smallest=smallest)
    return guarded(lambda: theirs(model, inputs_of(name, smallest=smallest)))


def inputs_of(name: str, *, smallest: bool) -> list[Tensor]:
    """Return the example, and input of another size where a network takes it."""
    example = images(name, batch=1, smallest=smallest).double()
    torch.manual_seed(1)
    larger = torch.randn(2, 3, example.shape[2] + 32, example.shape[3]).double()
    return [example] if name in FIXED_SIZES else [example, larger]


def ours(model: nn.Module, combination: str, inputs: list[Tensor]) -> dict[str, Any]:
    """Return the figures of `prune_channels`."""
    masks, _, bn_bias = combination.partition("-")
    chosen = masked_channels(model, inputs[0], groups=masks == "groups")
    masked = mask_(copy.deepcopy(model), chosen)
    start = time.perf_counter()
    result = prune_channels(masked, inputs[0], threshold=1e-20, bn_bias=bn_bias)
    seconds = time.perf_counter() - start
    mask_(masked, chosen, biases=bn_bias == "zero")
    return {
        "share": result.report.share,
        "difference": worst(result.model, masked, inputs),
        "seconds": round(seconds, 3),
    }


def theirs(model: nn.Module, inputs: list[Tensor]) -> dict[str, Any]:
    """Return the figures of Torch-Pruning, with masks of whole groups and β := 0, which is where it can be exact."""
    chosen = masked_channels(model, inputs[0], groups=True)
    masked = mask_(copy.deepcopy(model), chosen, biases=True)
    slim = copy.deepcopy(masked)
    start = time.perf_counter()
    remove_by_peer(slim, chosen, inputs[0])
    seconds = time.perf_counter() - start
    removed = sum(model.get_submodule(p).num_features - slim.get_submodule(p).num_features for p in chosen)
    total = sum(int(mask.sum()) for mask in chosen.values())
    difference = worst(slim, masked, inputs)
    return {"share": removed / max(total, 1), "difference": difference, "seconds": round(seconds, 3)}


def remove_by_peer(slim: nn.Module, chosen: dict[str, Tensor], example: Tensor) -> None:
    """Remove masked channels with Torch-Pruning, and what it finds to depend on them, in place."""
    import torch_pruning as tp  # noqa: PLC0415  # an extra

    with at_most(LIMIT):
        graph = tp.DependencyGraph().build_dependency(slim, example_inputs=example)
        for path, mask in chosen.items():
            norm = slim.get_submodule(path)
            dead = (norm.weight == 0).nonzero()[:, 0].tolist() if mask.any() else []
            if dead and len(dead) < norm.num_features:
                group = graph.get_pruning_group(norm, tp.prune_batchnorm_out_channels, idxs=dead)
                if graph.check_pruning_group(group):
                    group.prune()


@torch.no_grad()
def worst(slim: nn.Module, masked: nn.Module, inputs: list[Tensor]) -> float:
    """Return the largest relative difference of two networks."""
    return max(largest_difference(slim(batch), masked(batch)) for batch in inputs)


def guarded(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return figures, or what was raised."""
    try:
        return run()
    except Exception as error:  # noqa: BLE001  # whatever a network or a peer raises is the result
        return {"error": f"{type(error).__name__}: {error}"[:300]}


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError after some seconds."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def cell(figures: dict[str, Any]) -> str:
    """Return figures in the form of a table's cell."""
    if "error" in figures:
        return str(figures["error"]).partition(":")[0]
    return f"{100 * figures['share']:.0f} %, {figures['difference']:.0e}, {figures['seconds']:.1f}"


def summarised(found: dict[str, dict[str, Any]], heads: list[str]) -> list[str]:
    """Return how many networks are exact, and the medians, a line for each head."""
    lines = []
    for head in heads:
        ran = [figures[head] for figures in found.values() if "error" not in figures[head]]
        if not ran:
            lines.append(f"- {head}: none of {len(found)} ran")
            continue
        exact = sum(figures["difference"] <= EXACT for figures in ran)
        share, seconds = (statistics.median(figures[key] for figures in ran) for key in ("share", "seconds"))
        lines.append(
            f"- {head}: {len(ran)} of {len(found)} ran, {exact} exact to {EXACT:.0e}; median share {100 * share:.0f} %,"
            f" median {seconds:.2f} s, longest {max(figures['seconds'] for figures in ran):.1f} s"
        )
    return lines


if __name__ == "__main__":
    main()
