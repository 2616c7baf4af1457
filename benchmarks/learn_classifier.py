"""Does learning the channels keep a classifier's accuracy? ResNet-18 of timm on pictures that are made here.

Two arms, each with every seed: the channels are learned (train with dynamic weight decay, prune, fine-tune), and the
same network trained equally long, on the same batches and with the same schedules, with ordinary weight decay.

    OMP_NUM_THREADS=1 python benchmarks/learn_classifier.py --json learn_classifier.json
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from goctconv import learn_channels
from goctconv.pruning import channel_groups
from goctconv.training import ProgressBar, TrainingConfig, create_schedule
from goctconv.training._epoch import begin_epoch  # the order of the data that learn_channels has

# Chosen before the run whose table is in README.md, and not changed after it. It is the second setting: with the first
# (960 pictures, 14 + 5 epochs, β2 = 0.99 for γ too), 24 % of the parameters went, and 6.5 and 9.3 points were lost. One
# trial with another seed and other pictures, of 14 + 14 epochs, came between the two.
MODEL = "resnet18"
SEEDS = (0, 1)
SIZE = 32
TRAINING, VALIDATION = 2000, 4000
DATA_SEED = 7
EPOCHS, FINETUNE_EPOCHS = 14, 22
BATCH = 32
LEARNING_RATE, SCALE_LEARNING_RATE = 2e-3, 3e-2  # of the weights, and of γ
BETAS, SCALE_BETAS = (0.9, 0.99), (0.9, 0.9)
WEIGHT_DECAY = 5e-4
DYNAMIC_WEIGHT_DECAY = 3.0
THRESHOLD = 1e-3
SHAPES = ("disc", "square", "triangle", "ring", "cross")
TEXTURES = ("stripes", "dots")
AIM_PARAMETERS, AIM_ACCURACY = 0.30, 0.01


def picture(label: int, random: np.random.Generator) -> np.ndarray:
    """Return a picture (3, SIZE, SIZE) of a textured, coloured shape on a textured background of another colour."""
    shape, texture = SHAPES[label // len(TEXTURES)], TEXTURES[label % len(TEXTURES)]
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    inside = _inside(shape, x, y, random)
    pattern = _pattern(texture, x, y, random)
    other = _pattern(TEXTURES[random.integers(len(TEXTURES))], x, y, random)
    colours = random.uniform(0.1, 0.9, (2, 3, 1, 1)).astype(np.float32)
    front = colours[0] * (0.6 + 0.4 * pattern)
    back = colours[1] * (0.9 + 0.1 * other)
    noise = random.normal(0, 0.05, (3, SIZE, SIZE)).astype(np.float32)
    return np.where(inside, front, back) + noise


def _inside(shape: str, x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    radius = random.uniform(0.28, 0.4) * SIZE
    centre = random.uniform(radius, SIZE - radius, 2)
    angle = random.uniform(-0.4, 0.4)
    u = ((x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)) / radius
    v = ((y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)) / radius
    far = np.hypot(u, v)
    return {
        "disc": far < 0.9,
        "square": np.maximum(abs(u), abs(v)) < 0.8,
        "triangle": (v < 0.7) & (v > 2 * abs(u) - 0.9),
        "ring": (far < 1) & (far > 0.55),
        "cross": (np.minimum(abs(u), abs(v)) < 0.3) & (np.maximum(abs(u), abs(v)) < 1),
    }[shape]


def _pattern(texture: str, x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    angle, period = random.uniform(0, np.pi), random.uniform(3.5, 6)
    u = (x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period
    v = (y * np.cos(angle) - x * np.sin(angle)) * 2 * np.pi / period
    return np.sign(np.sin(u)) if texture == "stripes" else np.sign(np.sin(u) * np.sin(v) - 0.2)


def data(count: int, seed: int) -> TensorDataset:
    """Return pictures and labels, as many of each class."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % (len(SHAPES) * len(TEXTURES))
    images = np.stack([picture(int(label), random) for label in labels]).astype(np.float32)
    return TensorDataset(torch.from_numpy(images) * 2 - 1, torch.from_numpy(labels))


def make_model(name: str, seed: int) -> nn.Module:
    """Return a network with random weights, the same for a seed; all γ begin at 1."""
    torch.manual_seed(seed)
    return timm.create_model(name, num_classes=len(SHAPES) * len(TEXTURES), zero_init_last=False)


@torch.no_grad()
def accuracy(model: nn.Module, validation: TensorDataset) -> float:
    """Return the share of pictures whose class is found."""
    model.eval()
    images, labels = validation.tensors
    found = torch.cat([model(part).argmax(1) for part in images.split(100)])
    return float((found == labels).double().mean())


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Return Adam, with a higher learning rate for γ, which has a way to go."""
    gammas = [module.weight for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    others = [parameter for parameter in model.parameters() if all(parameter is not gamma for gamma in gammas)]
    groups = [{"params": others}, {"params": gammas, "lr": SCALE_LEARNING_RATE, "betas": SCALE_BETAS}]
    return torch.optim.Adam(groups, LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY)


def learned(name: str, seed: int, train: DataLoader[Any], validation: TensorDataset) -> dict[str, Any]:
    """Learn the channels of a network; channels that can only go together fade alike."""
    model = make_model(name, seed)
    example = torch.zeros(1, 3, SIZE, SIZE)
    config = TrainingConfig(
        epochs=EPOCHS,
        finetune_epochs=FINETUNE_EPOCHS,
        weight_decay=DYNAMIC_WEIGHT_DECAY,
        threshold=THRESHOLD,
        decay_options={"transform": channel_groups(model, example).mean},
        pruning_options={"groups": True},
        seed=seed,
        keep_unpruned=True,
    )
    result = learn_channels(
        model, train, F.cross_entropy, config, optimizer=make_optimizer, callbacks=[ProgressBar(sys.stdout)]
    )
    whole = make_model(name, seed)
    whole.load_state_dict(result.unpruned or {})
    masked = result.plan.mask(copy.deepcopy(whole))
    before, after = result.report.parameters
    return {
        "accuracy": accuracy(result.model, validation),
        "accuracy before pruning": accuracy(whole, validation),
        "accuracy masked": accuracy(masked, validation),
        "parameters": [before, after],
        "parameters gone": 1 - after / before,
        "macs": list(result.report.macs),
        "channels": [result.report.channels, result.report.channels - result.report.removed],
        "masked": result.report.masked,
        "difference": max(result.report.difference.values()),
        "quantiles": result.history.epochs[EPOCHS - 1].quantiles,
        "losses": result.history.series("loss"),
    }


def ordinary(name: str, seed: int, train: DataLoader[Any], validation: TensorDataset) -> dict[str, Any]:
    """Train the same network equally long, with ordinary weight decay, and the schedules of both phases."""
    model = make_model(name, seed).train()
    optimizer = make_optimizer(model)
    losses: list[float] = []
    for phase in (EPOCHS, FINETUNE_EPOCHS):
        for group in optimizer.param_groups:
            group["lr"] = group.pop("initial_lr", group["lr"])
        schedule = create_schedule(optimizer, phase)
        for _ in range(phase):
            begin_epoch(train, seed, len(losses), 0)
            total: Tensor = torch.zeros(())
            for images, labels in train:
                loss = F.cross_entropy(model(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.detach()
            schedule.step()
            losses.append(float(total) / len(train))
    return {"accuracy": accuracy(model, validation), "losses": losses}


def main() -> None:
    """Run all arms and say whether the aims are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of those that belong to the benchmark")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train = DataLoader(data(TRAINING, DATA_SEED), BATCH, shuffle=True)
    validation = data(VALIDATION, DATA_SEED + 1)
    results: dict[str, Any] = {}
    for seed in options.seeds:
        for arm in (learned, ordinary):
            start, used = time.perf_counter(), time.process_time()
            found = arm(MODEL, seed, train, validation)
            found["seconds"] = time.perf_counter() - start
            found["processor seconds"] = time.process_time() - used
            results[f"{arm.__name__}:{seed}"] = found
            print(
                f"{arm.__name__}, seed {seed}: accuracy {found['accuracy']:.3f}, {found['processor seconds']:.0f} s",
                flush=True,
            )
        ours, theirs = results[f"learned:{seed}"], results[f"ordinary:{seed}"]
        gone, lost = ours["parameters gone"], theirs["accuracy"] - ours["accuracy"]
        print(f"seed {seed}: {gone:.1%} of the parameters went (aim {AIM_PARAMETERS:.0%}): {gone >= AIM_PARAMETERS}")
        print(f"seed {seed}: {lost * 100:+.1f} points lost (aim {AIM_ACCURACY * 100:.0f}): {lost <= AIM_ACCURACY}")
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
