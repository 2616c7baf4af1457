"""Does learning the channels pay? CSNet-×1 on photographs, against the same network trained as long without it.

Algorithm 1 with dynamic weight decay, pruning and fine-tuning on the one side; ordinary weight decay on all parameters,
for as many steps, on the other. BatchNorm is calibrated on the training photographs before each evaluation. Runs can be
spread over processes, and joined:

    python benchmarks/learn_saliency.py FOLDER --runs dynamic:0 ordinary:0 --json a.json
    python benchmarks/learn_saliency.py FOLDER --runs dynamic:1 ordinary:1 --json b.json
    python benchmarks/learn_saliency.py --merge a.json b.json
    python benchmarks/learn_saliency.py --merge benchmarks/learn_saliency.json --picture fading-photographs.svg
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import goctconv
from goctconv.report import gamma_over_time
from goctconv.saliency import (
    SaliencyConfig,
    calibrate_batch_norm,
    find_pairs,
    learn,
    split_pairs,
    training_loader,
    validation_loader,
)
from goctconv.saliency.data import Split
from goctconv.saliency.learning import SaliencyStep, SaliencyValidation
from goctconv.training import ProgressBar, ThresholdError, TrainingHistory, TrainingResult, create_schedule

# Chosen before the first run on photographs that came to its end, after trials with `goctconv demo` on made-up ones,
# and not changed after it. (With another setting, λ = 10 and one learning rate of 3e-3, runs were begun and broken off
# after a third of their epochs, for want of time.) The threshold is what `find_threshold` finds. In a first run of both
# seeds, that was the deepest valley anywhere, 8e-13 and 6e-12 between dead and fading channels, and 12 and 15 % of the
# parameters went; since then it looks for the one below living channels. Nothing else was changed for the second run.
MODEL = "csnet_x1"
SEEDS = (0, 1)
VALIDATION = 40
SIZE = 96
BATCH = 8
EPOCHS, FINETUNE_EPOCHS = 60, 15  # of 20 steps
LEARNING_RATE, SCALE_LEARNING_RATE = 3e-3, 6e-3  # of the weights, and of the blocks' γ
BETAS, SCALE_BETAS = (0.9, 0.99), (0.9, 0.9)
WEIGHT_DECAY = 5e-3
DYNAMIC_WEIGHT_DECAY = 3.0
FALLBACK = 1e-3  # the threshold where γ's histogram has no valley
FINETUNE_FACTOR = 0.3
SHRINK = 160


def main() -> None:
    """Run what is asked for, or join runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--runs", nargs="+", default=[f"{arm}:{s}" for s in SEEDS for arm in ("dynamic", "ordinary")])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--merge", type=Path, nargs="+")
    parser.add_argument("--picture", type=Path, help="draw γ over time of the first learned run to this SVG file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for file in options.merge or []:
        found |= json.loads(file.read_text(encoding="utf-8"))
    for run in options.runs if options.folder else []:
        arm, _, seed = run.partition(":")
        pairs = split_pairs(find_pairs(options.folder), VALIDATION, seed=0)
        start, process = time.perf_counter(), time.process_time()
        found[run] = {"dynamic": learned, "ordinary": ordinary}[arm](pairs, int(seed))
        found[run] |= {
            "minutes": (time.perf_counter() - start) / 60,
            "cpu_minutes": (time.process_time() - process) / 60,
        }
        print(run, json.dumps({k: v for k, v in found[run].items() if k != "epochs"}), flush=True)
        if options.json:
            options.json.write_text(json.dumps(found), encoding="utf-8")
    summarise(found)
    if options.picture:
        draw(found, options.picture)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of both sides."""
    gammas = [model.get_submodule(name).weight for name in model.dynamic_decay_names()]  # type: ignore[operator]
    others = [parameter for parameter in model.parameters() if all(parameter is not gamma for gamma in gammas)]
    groups = [{"params": others}, {"params": gammas, "lr": SCALE_LEARNING_RATE, "betas": SCALE_BETAS}]
    return torch.optim.Adam(groups, LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY)


def made(seed: int) -> nn.Module:
    """Return a fresh network."""
    torch.manual_seed(seed)
    return goctconv.create_model(MODEL)


def evaluate(pairs: Split, model: nn.Module, cache: str, *, calibrated: bool = True) -> dict[str, float]:
    """Return validation errors of a network."""
    if calibrated:
        loader = validation_loader(pairs.train, size=SIZE, batch_size=BATCH, workers=0, shrink=SHRINK, cache=cache)
        calibrate_batch_norm(model, [batch.images for batch in loader])
    loader = validation_loader(pairs.validation, size=SIZE, batch_size=BATCH, workers=0, shrink=SHRINK, cache=cache)
    return SaliencyValidation(loader)(model.eval())


def learned(pairs: Split, seed: int) -> dict[str, Any]:
    """Train with dynamic weight decay, prune, fine-tune."""
    with tempfile.TemporaryDirectory() as folder:
        config = SaliencyConfig(
            epochs=EPOCHS,
            finetune_epochs=FINETUNE_EPOCHS,
            sizes=SIZE,
            batch_size=BATCH,
            workers=0,
            shrink=SHRINK,
            cache=f"{folder}/cache",
            seed=seed,
            weight_decay=DYNAMIC_WEIGHT_DECAY,
            threshold="valley",
            finetune_factor=FINETUNE_FACTOR,
            channels_last=True,
            keep_unpruned=True,
            checkpoints=f"{folder}/checkpoints",
        )
        run = functools.partial(
            learn, train=pairs.train, validation=pairs.validation, optimizer=adam, callbacks=[ProgressBar()]
        )
        valley = "found"
        try:
            result = run(made(seed), config=config)
        except ThresholdError as error:
            valley = str(error)
            result = run(made(seed), config=replace(config, threshold=FALLBACK), resume=True)
        unpruned = made(seed)
        unpruned.load_state_dict(result.unpruned or {})
        found = evaluated(pairs, unpruned, result, f"{folder}/cache")
    return {
        **found,
        "valley": str(result.valley or valley),
        "threshold": result.threshold,
        "epochs": condensed(result.history),
    }


def condensed(history: TrainingHistory) -> list[dict[str, Any]]:
    """Return what a history tells of each epoch; the counts of γ's histogram as one text."""
    return [
        {
            "phase": epoch.phase,
            "loss": epoch.loss,
            **epoch.validation,
            "dead": epoch.below_threshold,
            "channels": epoch.channels,
            "quantiles": epoch.quantiles,
            "histogram": " ".join(map(str, epoch.histogram)),
        }
        for epoch in history.epochs
    ]


def evaluated(pairs: Split, unpruned: nn.Module, result: TrainingResult, cache: str) -> dict[str, Any]:
    """Return what a run gave: errors before and after pruning and fine-tuning, and the distances of the three."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the plan's constants are of these weights
        slim = result.plan.apply(unpruned)
    masked = result.plan.mask(copy.deepcopy(unpruned))
    maps = [maps_of(pairs, network, cache) for network in (unpruned, masked, slim)]
    return {
        "parameters": list(result.report.parameters),
        "macs": list(result.report.macs),
        "removed": 1 - result.report.parameters[1] / result.report.parameters[0],
        "share_of_masked": result.report.share,
        "masked_to_unmasked": float((maps[1] - maps[0]).abs().mean()),
        "pruned_to_masked": float((maps[2] - maps[1]).abs().max()),
        "verified": result.report.difference,
        "unpruned": evaluate(pairs, unpruned, cache),
        "finetuned": evaluate(pairs, copy.deepcopy(result.model), cache),
        "finetuned_uncalibrated": evaluate(pairs, result.model, cache, calibrated=False),
    }


@torch.no_grad()
def maps_of(pairs: Split, model: nn.Module, cache: str) -> Tensor:
    """Return maps of the validation photographs, in float64."""
    loader = validation_loader(pairs.validation, size=SIZE, batch_size=BATCH, workers=0, shrink=SHRINK, cache=cache)
    model = copy.deepcopy(model).double().eval()
    return torch.cat([model(batch.images.double()).sigmoid() for batch in loader])


def ordinary(pairs: Split, seed: int) -> dict[str, Any]:
    """Train for as many steps with ordinary weight decay alone, and prune nothing."""
    with tempfile.TemporaryDirectory() as folder:
        model = made(seed).to(memory_format=torch.channels_last).train()
        loader = training_loader(
            pairs.train, size=SIZE, batch_size=BATCH, workers=0, shrink=SHRINK, cache=folder, seed=seed
        )
        optimizer, step = adam(model), SaliencyStep("bce")
        schedule = create_schedule(optimizer, EPOCHS + FINETUNE_EPOCHS)
        for epoch in range(EPOCHS + FINETUNE_EPOCHS):
            loader.set_epoch(epoch)
            for batch in loader:
                optimizer.zero_grad()
                step(model, batch).backward()
                optimizer.step()
            schedule.step()
        return {
            "parameters": [sum(parameter.numel() for parameter in model.parameters())] * 2,
            "uncalibrated": evaluate(pairs, model, folder, calibrated=False),
            "finetuned": evaluate(pairs, model, folder),
        }


def summarise(found: dict[str, Any]) -> None:
    """Print the table."""
    print("| run | parameters | threshold | removed | masked to unmasked | pruned to masked | MAE | max F |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for run, figures in sorted(found.items()):
        scores = figures["finetuned"]
        learned_only = (
            f"{figures['threshold']:.1e} | {figures['removed']:.1%} | {figures['masked_to_unmasked']:.4f} | "
            f"{figures['pruned_to_masked']:.0e}"
            if "threshold" in figures
            else "| | |"
        )
        print(
            f"| {run} | {figures['parameters'][-1]:,} | {learned_only} | {scores['mae']:.4f} | {scores['max_f']:.4f} |"
        )


def draw(found: dict[str, Any], file: Path) -> None:
    """Draw γ over time, from 1e-18 up; what is smaller is counted there."""
    run = next(figures for name, figures in sorted(found.items()) if name.startswith("dynamic"))
    edges = TrainingHistory().to_dict()["histogram_edges"]
    low, high = edges.index(-18.0), edges.index(1.0)
    counts = [[int(count) for count in epoch["histogram"].split()] for epoch in run["epochs"]]
    shown = [[sum(row[: low + 1]), *row[low + 1 : high]] for row in counts]
    gamma_over_time(
        {"epoch": list(range(1, len(shown) + 1)), "gamma": shown},
        edges=edges[low : high + 1],
        events={"pruned": sum(epoch["phase"] == "train" for epoch in run["epochs"]) + 0.5},
        threshold=run["threshold"],
    ).save(file)


if __name__ == "__main__":
    main()
