"""Channels of more than two hundred networks are masked and removed: how many go, and how exact what is left is.

Each network has random γ, β and statistics; 30 % of its channels are masked, each on its own or all together
that can only go together, with β kept or not. Printed for every network and combination: the share of the
masked channels that went, the largest difference to the masked network in float64, at two sizes where it takes them,
relative to the largest output, and the processor seconds of the call, comparisons and copies included. With
``--torch-pruning``, the same of Torch-Pruning, which is told to remove just the masked channels and what depends on
them, and is compared with the network with γ and β of what it removed at 0; its seconds are those of its own work alone
(`pruning_cost.py` compares times). It is `pip install "goctconv[bench]"`.

A star behind a difference says that rounding of the input alone changes the masked network's outputs as much, as where
boxes of near-equal scores are sorted. Each network has a process of its own, of limited memory and time. ``--json``
writes the figures after each; networks and combinations that are in it are done. Its shares are what the tests hold as
a floor. ``--table`` writes the figures as Markdown. ``--like`` prints where a share is smaller than in another file.

    python benchmarks/pruning_networks.py --networks timm/resnet18 timm/dla34 --combinations groups-keep
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import resource
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from networks import NETWORKS, prepared

from goctconv.pruning import PruningError, prune_channels
from reference.masking import largest_difference, mask_, masked_channels

COMBINATIONS = [f"{masks}-{bn_bias}" for masks in ("independent", "groups") for bn_bias in ("keep", "zero")]
LIMIT = 60
"""Seconds of the processor that Torch-Pruning may take for a network."""
SECONDS, GIB = 300, 16
"""What a process may take, of the processor and of memory."""
PEER = "Torch-Pruning"
EXACT = 1e-10


def main() -> None:
    """Run the networks and combinations that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["*"], metavar="NETWORK", help="names or globs")
    parser.add_argument("--combinations", nargs="+", default=COMBINATIONS, choices=COMBINATIONS)
    parser.add_argument("--json", type=Path, help="write all numbers there; networks in it are done")
    parser.add_argument("--table", type=Path, help="write the table there at the end")
    parser.add_argument("--like", type=Path, help="compare shares with those of this file")
    parser.add_argument("--torch-pruning", action="store_true", help="run Torch-Pruning beside it")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    wanted = [*options.combinations, *([PEER] if options.torch_pruning else [])]
    found: dict[str, dict[str, Any]] = {}
    if options.json and options.json.exists():
        found = json.loads(options.json.read_text(encoding="utf-8"))
    for name in [name for name in NETWORKS if any(fnmatch(name, pattern) for pattern in options.networks)]:
        figures = found.setdefault(name, {})
        missing = [combination for combination in wanted if combination not in figures]
        if missing:
            run(name, missing, figures)
            if options.json:
                options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(row(name, figures, wanted), flush=True)
    print("\n" + "\n".join(summarised(found, wanted)))
    if options.like:
        print("\n".join(losses(found, json.loads(options.like.read_text(encoding="utf-8")))))
    if options.table:
        options.table.write_text(table(found, wanted), encoding="utf-8")


def run(name: str, combinations: list[str], figures: dict[str, Any]) -> None:
    """Add the figures of one network, which has a process of its own."""
    context = multiprocessing.get_context("fork")  # which need not import everything again
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(sender, name, combinations))
    process.start()
    sender.close()
    while True:
        try:
            key, value = receiver.recv()
        except EOFError:
            break
        figures[key] = value
    process.join()
    for combination in combinations:
        figures.setdefault(combination, {"error": f"the process ended with {process.exitcode}"})


def work(sender: Connection, name: str, combinations: list[str]) -> None:
    """Send the figures of one network, by combination, and what it took in all."""
    resource.setrlimit(resource.RLIMIT_DATA, (GIB * 2**30, GIB * 2**30))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    try:
        model = prepared(name)
        examples = NETWORKS[name].examples()
        start = time.process_time()
        outputs_of(model, examples[0])
        sender.send(("forward", round(time.process_time() - start, 4)))
    except Exception as error:  # noqa: BLE001  # whatever a network raises is the result
        model, problem = None, {"error": f"{type(error).__name__}: {error}"[:300]}
    for combination in combinations:
        if model is None:
            figures = problem
        elif combination == PEER:
            figures = guarded(lambda: theirs(model, examples))
        else:
            figures = guarded(lambda: ours(name, model, combination, examples))  # noqa: B023
        sender.send((combination, figures))
    taken = resource.getrusage(resource.RUSAGE_SELF)
    sender.send(("process", {"seconds": round(time.process_time(), 1), "MiB": taken.ru_maxrss // 1024}))


def ours(name: str, model: nn.Module, combination: str, examples: list[Any]) -> dict[str, Any]:
    """Return the figures of `prune_channels`."""
    masks, _, bn_bias = combination.partition("-")
    outputs = NETWORKS[name].outputs
    chosen = masked_channels(model, examples[0], groups=masks == "groups", outputs=outputs)
    masked = mask_(copy.deepcopy(model), chosen)
    start = time.process_time()
    result = prune_channels(masked, examples[0], threshold=1e-20, bn_bias=bn_bias, outputs=outputs)
    seconds = time.process_time() - start
    mask_(masked, chosen, biases=bn_bias == "zero")
    difference = worst(result.model, masked, examples, outputs)
    figures = {"share": round(result.report.share, 4), "difference": difference, "seconds": round(seconds, 3)}
    if difference > EXACT:
        figures["rounding"] = rounding(masked, examples, outputs)
    return {**figures, "notes": list(result.report.notes)}


def rounding(masked: nn.Module, examples: list[Any], outputs: Callable[[Any], Any] | None = None) -> float:
    """Return by how much the outputs change with the last bits of the input; 1 for other shapes of them."""

    def shaken(tensor: Any) -> Any:
        is_number = isinstance(tensor, Tensor) and tensor.is_floating_point()
        return tensor * (1 + 4 * torch.finfo(tensor.dtype).eps) if is_number else tensor

    changed = [pytree.tree_map(shaken, example) for example in examples]
    try:
        return max(
            largest_difference(outputs_of(masked, after, outputs), outputs_of(masked, before, outputs))
            for before, after in zip(examples, changed, strict=True)
        )
    except AssertionError:
        return 1.0


def theirs(model: nn.Module, inputs: list[Any]) -> dict[str, Any]:
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


def outputs_of(model: nn.Module, example: Any, outputs: Callable[[Any], Any] | None = None) -> Any:
    """Return what counts of what a network returns."""
    with torch.no_grad():
        output = model(*copy.deepcopy(example)) if isinstance(example, tuple) else model(example.clone())
    return outputs(output) if outputs else output


def worst(
    slim: nn.Module, masked: nn.Module, examples: list[Any], outputs: Callable[[Any], Any] | None = None
) -> float:
    """Return the largest relative difference of two networks."""
    pairs = [[outputs_of(model, example, outputs) for model in (slim, masked)] for example in examples]
    return float(f"{max(largest_difference(*pair) for pair in pairs):.4g}")


def guarded(compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return figures, or what was raised; by us, it is a refusal with its reason."""
    try:
        return compute()
    except PruningError as error:
        return {"refused": str(error)}
    except Exception as error:  # noqa: BLE001  # whatever a network or a peer raises is the result
        return {"error": f"{type(error).__name__}: {error}"[:300]}


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError after some seconds of the processor."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def cell(figures: dict[str, Any], forward: float) -> str:
    """Return figures in the form of a table's cell."""
    if "share" not in figures:
        return "refused" if "refused" in figures else str(figures["error"]).partition(":")[0]
    seconds = figures["seconds"]
    passes = f" ({max(seconds - 0.3, 0) / forward:.0f})" if forward else ""
    star = "*" if figures.get("rounding", 0) >= figures["difference"] else ""
    return f"{100 * figures['share']:.0f} %, {figures['difference']:.0e}{star}, {seconds:.1f}{passes}"


def row(name: str, figures: dict[str, Any], heads: list[str]) -> str:
    """Return a network's line of the table."""
    forward = figures.get("forward", 0.0)
    cells = [cell(figures[head], 0.0 if head == PEER else forward) if head in figures else "" for head in heads]
    return f"| {name} | {round(1000 * forward) or ''} | {' | '.join(cells)} |"


def table(found: dict[str, dict[str, Any]], heads: list[str]) -> str:
    """Return the rows, the summary, and the reasons of refusals, as Markdown."""
    lines = [f"| network | ms | {' | '.join(heads)} |", f"| --- | ---: |{' ---: |' * len(heads)}"]
    lines += [row(name, figures, heads) for name, figures in found.items()]
    reasons = [
        f"- {name}, {head}: {figures[head]['refused']}"
        for name, figures in found.items()
        for head in heads
        if "refused" in figures.get(head, {})
    ]
    return "\n".join([*summarised(found, heads), "", *lines, "", *reasons]).rstrip() + "\n"


def summarised(found: dict[str, dict[str, Any]], heads: list[str]) -> list[str]:
    """Return how many networks are exact, and the medians, a line for each head, and the time of all together."""
    lines = []
    for head in heads:
        asked = [figures[head] for figures in found.values() if head in figures]
        ran = [figures for figures in asked if "share" in figures]
        if not ran:
            continue
        exact = sum(figures["difference"] <= EXACT for figures in ran)
        share, seconds = (statistics.median(figures[key] for figures in ran) for key in ("share", "seconds"))
        lines.append(
            f"- {head}: {len(ran)} of {len(asked)} ran, {sum('refused' in figures for figures in asked)} were refused, "
            f"{exact} are exact to {EXACT:.0e}; median share {100 * share:.0f} %, median {seconds:.2f} s, longest "
            f"{max(figures['seconds'] for figures in ran):.1f} s"
        )
    taken = [figures["process"] for figures in found.values() if "process" in figures]
    if taken:
        total = sum(figures["seconds"] for figures in taken)
        largest = max(figures["MiB"] for figures in taken)
        lines.append(f"- {len(found)} networks, {total / 60:.0f} minutes of processor time, at most {largest} MiB")
    return lines


def losses(found: dict[str, dict[str, Any]], before: dict[str, dict[str, Any]]) -> list[str]:
    """Return where a share is smaller than it was, by more than half a percent of the masked channels."""
    return [
        f"{name}, {head}: {figures[head]['share']} was {was['share']}"
        for name, figures in found.items()
        for head, was in before.get(name, {}).items()
        if head in COMBINATIONS and "share" in figures.get(head, {}) and figures[head]["share"] < was["share"] - 0.005
    ]


if __name__ == "__main__":
    main()
