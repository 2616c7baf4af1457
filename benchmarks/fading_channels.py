"""Does dynamic weight decay do what it is for? CSNet-×1, trained with it and with ordinary weight decay.

The folder holds photographs and masks, in any layout that ``goctconv.saliency.find_pairs`` knows; without one, made-up
photographs are used. Runs can be spread over processes and joined afterwards:

    python benchmarks/fading_channels.py FOLDER --json all.json --plots plots
    python benchmarks/fading_channels.py FOLDER --runs dynamic:0 ordinary:0 --json a.json
    python benchmarks/fading_channels.py FOLDER --runs dynamic:1 ordinary:1 --json b.json
    python benchmarks/fading_channels.py --merge a.json b.json --plots plots
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import goctconv
from goctconv import DynamicWeightDecay
from goctconv.saliency import calibrate_batch_norm, find_pairs, preprocess, synthetic_images
from goctconv.saliency.metrics import SaliencyMetrics

# Chosen before the first run, and not changed after it.
MODEL = "csnet_x1"
ARMS = ("dynamic", "ordinary")
SEEDS = (0, 1)
STEPS = 1500
# By setting; divided by 10 after each share of the steps in MILESTONES. The second setting was written down, and run
# once, after the first one had given networks that see nothing.
LEARNING_RATES = {"first": 1e-2, "second": 3e-3}
MILESTONES = (0.7, 0.85)
BETAS = (0.9, 0.99)
WEIGHT_DECAY = 5e-3
DYNAMIC_WEIGHT_DECAY = 3.0
SIZE = 64
BATCH = 8
TRAINING, VALIDATION = 160, 40  # photographs, drawn with SPLIT_SEED
SPLIT_SEED = 0
THRESHOLDS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-10, 1e-20)
EVERY = 25  # steps from one record of γ to the next
SMALLEST = 1e-45  # of float32: what 0 is taken for, to have a logarithm
STRETCH_SHARE = 0.01  # of the channels have to lie on either side of an empty stretch


def load(folder: Path | None) -> tuple[Tensor, Tensor]:
    """Return images (N, 3, SIZE, SIZE), normalised, and masks (N, 1, SIZE, SIZE) from 0 to 1, in a random order."""
    images, masks = [], []
    for photograph, mask in pictures(folder):
        images.append(preprocess(photograph, SIZE))
        small = mask.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        masks.append(torch.tensor(list(small.tobytes()), dtype=torch.float32).view(1, 1, SIZE, SIZE) / 255)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SPLIT_SEED))[: TRAINING + VALIDATION]
    if len(order) < TRAINING + VALIDATION:
        raise SystemExit(f"{folder}: {len(order)} photographs with masks, {TRAINING + VALIDATION} are needed.")
    return torch.cat(images)[order], torch.cat(masks)[order]


def pictures(folder: Path | None) -> Iterator[tuple[Any, Image.Image]]:
    """Yield photographs and their masks."""
    if folder is None:
        yield from synthetic_images(TRAINING + VALIDATION)
    else:
        for pair in find_pairs(folder):
            with Image.open(pair.mask) as mask:
                yield pair.image, mask


def batches(images: Tensor, masks: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield random batches for ever, epoch after epoch, about half of the pictures flipped."""
    while True:
        order = torch.randperm(len(images), generator=generator)
        for chosen in order.split(BATCH):
            flipped = torch.rand(len(chosen), 1, 1, 1, generator=generator) < 0.5
            yield tuple(torch.where(flipped, part[chosen].flip(3), part[chosen]) for part in (images, masks))


def train(
    arm: str, seed: int, data: tuple[Tensor, Tensor], steps: int, rate: float
) -> tuple[nn.Module, dict[str, Any]]:
    """Train a network; return it with γ over time, the losses and the time it took."""
    torch.manual_seed(seed)
    model = goctconv.create_model(MODEL).train()
    names = model.dynamic_decay_names()
    optimizer = torch.optim.Adam(model.parameters(), rate, betas=BETAS, weight_decay=WEIGHT_DECAY)
    if arm == "dynamic":
        optimizer = DynamicWeightDecay(
            optimizer, model, weight_decay=DYNAMIC_WEIGHT_DECAY, include=names, history=EVERY
        )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [round(share * steps) for share in MILESTONES])
    feed = batches(*(part[:TRAINING] for part in data), torch.Generator().manual_seed(seed))
    losses, recorded, start = [], [gammas(model, names)], time.perf_counter()
    for step, (images, masks) in zip(range(1, steps + 1), feed, strict=False):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(images), masks)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if arm == "ordinary" and step % EVERY == 0:
            recorded.append(gammas(model, names))
        if step % 100 == 0 or step == steps:
            seconds = time.perf_counter() - start
            print(f"{arm} {seed}: step {step}, loss {statistics.mean(losses[-100:]):.3f}, {seconds:.0f} s", flush=True)
    if arm == "dynamic":
        recorded += list(optimizer.history.gammas())
        optimizer.remove()
    history = {"every": EVERY, "scales": [[float(f"{value:.4g}") for value in row.tolist()] for row in recorded]}
    last = statistics.mean(losses[-TRAINING // BATCH :])
    return model, {"history": history, "training_loss": last, "seconds": time.perf_counter() - start}


def gammas(model: nn.Module, names: list[str]) -> Tensor:
    """Return γ of all named layers, one behind the other."""
    return torch.cat([model.get_submodule(name).weight.detach().clone() for name in names])


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, masks: Tensor) -> dict[str, Any]:
    """Return the errors on pictures, and by layer how far apart the outputs of its channels are."""
    model.eval()
    names = model.dynamic_decay_names()
    outputs: dict[str, list[Tensor]] = {name: [] for name in names}
    handles = [
        # of an ILBlock, act1 to act3 follow norm1 to norm3
        model.get_submodule(name.replace("norm", "act")).register_forward_hook(
            lambda _module, _args, output, name=name: outputs[name].append(output)
        )
        for name in names
    ]
    maps, losses, metrics = [], [], SaliencyMetrics("paper", ["max_f"])
    spreads: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in names}
    for some, truth in zip(images.split(BATCH), masks.split(BATCH), strict=True):
        logits = model(some)
        losses.append(F.binary_cross_entropy_with_logits(logits, truth).item())
        maps.append(logits.sigmoid())
        metrics.update(maps[-1], truth)
        for name, seen in outputs.items():
            (output,) = seen
            pooled = output.mean((2, 3)).abs()
            spreads[name].append((pooled, output.std(1, correction=0).mean((1, 2))))
            seen.clear()
    for handle in handles:
        handle.remove()
    return {
        "mae": (torch.cat(maps) - masks).abs().mean().item(),
        "variation": torch.cat(maps).std(0, correction=0).mean().item(),  # 0: the same map for every photograph
        "max_f": metrics.compute().max_f,
        "validation_loss": statistics.mean(losses),
        "spread": {name: spread(parts) for name, parts in spreads.items()},
    }


def spread(parts: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Return measures of the differences between a layer's channels behind BatchNorm and activation, in eval mode.

    ``pooled``: standard deviation over channels of M, the mean over images of abs(mean over pixels). ``relative``: the
    same, divided by the mean over channels of M. ``pixels``: standard deviation over channels at each pixel of each
    image, averaged over pixels and images.
    """
    metric = torch.cat([pooled for pooled, _ in parts]).mean(0)
    deviation = metric.std(correction=0).item()
    mean = metric.mean().item()
    pixels = torch.cat([each for _, each in parts]).mean().item()
    return {"pooled": deviation, "relative": deviation / mean if mean else 0.0, "pixels": pixels}


def widest_stretch(values: Tensor) -> dict[str, float]:
    """Return the widest empty stretch between neighbours among abs(γ), on a logarithmic scale."""
    ordered = values.abs().double().clamp(min=SMALLEST).sort().values
    margin = math.ceil(STRETCH_SHARE * len(ordered))
    ratios = (ordered[1:] / ordered[:-1]).log10()[margin - 1 : len(ordered) - margin]
    index = int(ratios.argmax()) + margin - 1
    low, high = ordered[index].item(), ordered[index + 1].item()
    return {"from": low, "to": high, "decades": math.log10(high / low), "share_below": (index + 1) / len(ordered)}


def run(
    arm: str, seed: int, data: tuple[Tensor, Tensor], steps: int, rate: float, weights: Path | None
) -> dict[str, Any]:
    """Train one network and measure it."""
    model, trained = train(arm, seed, data, steps, rate)
    if weights:
        weights.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), weights / f"{arm}_{seed}.pt")
    calibrate_batch_norm(model, data[0][:TRAINING].split(BATCH))
    names = model.dynamic_decay_names()
    measured: dict[str, Any] = {"arm": arm, "seed": seed, "steps": steps, **trained}
    for group, chosen in (("all", names), ("first", [name for name in names if ".norm1." in name])):
        values = gammas(model, chosen)
        below = {f"{limit:g}": (values.abs() < limit).double().mean().item() for limit in THRESHOLDS}
        measured[group] = {"channels": len(values), "below": below, "stretch": widest_stretch(values)}
    measured["layers"] = {name: model.get_submodule(name).num_features for name in names}
    return {**measured, **evaluate(model, data[0][TRAINING:], data[1][TRAINING:])}


def mean_spread(measured: dict[str, Any], kind: str) -> float:
    """Return the mean over layers."""
    return statistics.mean(layer[kind] for layer in measured["spread"].values())


def table(runs: list[dict[str, Any]]) -> str:
    """Return the figures of all runs in Markdown."""
    columns = [
        "decay, seed", "γ < 1e-3", "γ < 1e-20", "first layers: γ < 1e-3", "γ < 1e-20", "spread", "relative",
        "by pixel", "MAE", "max F", "loss: training", "validation", "maps differ by",
    ]  # fmt: skip
    lines = [" | ".join(columns), " | ".join(["---"] + ["---:"] * (len(columns) - 1))]
    for figures in runs:
        shares = [f"{figures[group]['below'][limit]:.1%}" for group in ("all", "first") for limit in ("0.001", "1e-20")]
        spreads = [f"{mean_spread(figures, kind):.4g}" for kind in ("pooled", "relative", "pixels")]
        errors = [f"{figures[key]:.4f}" for key in ("mae", "max_f", "training_loss", "validation_loss", "variation")]
        lines.append(" | ".join([f"{figures['arm']}, {figures['seed']}", *shares, *spreads, *errors]))
    return "\n".join(f"| {line} |" for line in lines)


def stretches(runs: list[dict[str, Any]]) -> str:
    """Return where the widest empty stretch between neighbouring γ lies, in Markdown."""
    lines = ["| decay, seed | layers | channels | widest empty stretch in abs(γ) | decades | below it |"]
    lines.append("| --- | --- | ---: | --- | ---: | ---: |")
    for figures in runs:
        for group in ("all", "first"):
            found = figures[group]["stretch"]
            lines.append(
                f"| {figures['arm']}, {figures['seed']} | {group} | {figures[group]['channels']} | "
                f"{found['from']:.2g} to {found['to']:.2g} | {found['decades']:.1f} | {found['share_below']:.1%} |"
            )
    return "\n".join(lines)


def plot(runs: list[dict[str, Any]], folder: Path) -> None:
    """Draw γ of the first layers over time, the distribution of all γ, and the spread by layer."""
    import matplotlib as mpl  # noqa: PLC0415  # measuring does not need it

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  # after the choice of a backend

    folder.mkdir(parents=True, exist_ok=True)
    shape = {"nrows": 1, "ncols": len(runs), "figsize": (4 * len(runs), 3.5), "sharey": True, "squeeze": False}
    figure, axes = plt.subplots(**shape, layout="constrained")
    for axis, figures in zip(axes[0], runs, strict=True):
        layers, every = figures["layers"], figures["history"]["every"]
        is_first = [".norm1." in name for name, channels in layers.items() for _ in range(channels)]
        values = torch.tensor(figures["history"]["scales"])[:, is_first].abs().clamp(min=1e-24)
        axis.semilogy(torch.arange(len(values)) * every, values, color="tab:blue", alpha=0.08, linewidth=0.7)
        axis.set(title=f"{figures['arm']}, seed {figures['seed']}", xlabel="step")
    axes[0][0].set_ylabel("abs(γ) of the blocks' first layers")
    figure.savefig(folder / "over_time.png", dpi=100)

    figure, axes = plt.subplots(**shape, layout="constrained")
    for axis, figures in zip(axes[0], runs, strict=True):
        values = torch.tensor(figures["history"]["scales"][-1]).abs().clamp(min=1e-24).log10()
        axis.hist(values, bins=torch.arange(-24, 1.01, 0.25))
        axis.set(
            title=f"{figures['arm']}, seed {figures['seed']}",
            xlabel="log10 abs(γ), all layers of the blocks",
            yscale="log",
        )
    axes[0][0].set_ylabel("channels")
    figure.savefig(folder / "distribution.png", dpi=100)

    figure, axes = plt.subplots(3, 1, figsize=(9, 8), sharex=True, layout="constrained")
    for axis, kind in zip(axes, ("pooled", "relative", "pixels"), strict=True):
        for figures in runs:
            style = "-" if figures["arm"] == "dynamic" else "--"
            axis.plot(
                [layer[kind] for layer in figures["spread"].values()],
                style,
                label=f"{figures['arm']}, {figures['seed']}",
            )
        axis.set(ylabel=kind, yscale="log")
    axes[0].set_title("spread among channels")
    axes[0].legend()
    axes[-1].set_xlabel("BatchNorm layer")
    figure.savefig(folder / "spread.png", dpi=100)


def main() -> None:
    """Run what was asked for, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every_run = [f"{arm}:{seed}" for seed in SEEDS for arm in ARMS]
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--runs", nargs="*", choices=every_run, metavar="ARM:SEED", help=f"of {', '.join(every_run)}")
    parser.add_argument("--merge", nargs="*", type=Path, default=[], metavar="FILE", help="results to join")
    parser.add_argument("--setting", choices=LEARNING_RATES, default="second", help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=STEPS, help="for trying out (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write pictures")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="keep the trained weights")
    args = parser.parse_args()
    torch.set_num_threads(1)
    runs = [figures for file in args.merge for figures in json.loads(file.read_text(encoding="utf-8"))["runs"]]
    wanted = args.runs if args.runs is not None else ([] if args.merge else every_run)
    data = load(args.folder) if wanted else None
    for arm, _, seed in (name.partition(":") for name in wanted):
        runs.append(run(arm, int(seed), data, args.steps, LEARNING_RATES[args.setting], args.weights))
    runs.sort(key=lambda figures: (ARMS.index(figures["arm"]), figures["seed"]))
    versions = {"torch": torch.__version__, "goctconv": goctconv.__version__}
    if args.json:
        args.json.write_text(json.dumps({"versions": versions, "runs": runs}), encoding="utf-8")
    print(f"\n{MODEL}, {SIZE}×{SIZE}, {versions}\n\n{table(runs)}\n\n{stretches(runs)}")
    if args.plots:
        plot(runs, args.plots)


if __name__ == "__main__":
    main()
