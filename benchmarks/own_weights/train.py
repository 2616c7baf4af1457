"""Train the weights that come with the package, from a configuration in this folder.

DATA holds ``images/``, 8-bit maps of a teacher of the same names in ``teacher/``, and ``licences.tsv`` and
``sources.tsv``; `data.tsv` lists the sets with their licences. Photographs to compare with are drawn by seed. A run
writes a checkpoint after each epoch and at SIGTERM, and goes on from the last one bit for bit when the same command is
given again:

    python benchmarks/own_weights/train.py control DATA -o RUN

``control_finish --start RUN`` goes on with the network of a run of ``control`` that has ended, and
``decay_finish --start RUN --parameters 150000`` with that of ``decay``, pruned so that no more stay. ``--stop-after``
ends a run in the middle, as an interruption does; ``--first 200`` trains so many steps and no more, whose losses must
be those of the committed log.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from bisect import bisect_left
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import goctconv
from goctconv import prune_channels
from goctconv.options import options_of, read_toml
from goctconv.pruning import PruningResult
from goctconv.saliency import DistillationConfig, distill, split_pairs
from goctconv.saliency.data import find_taught
from goctconv.training import Callback, JSONLog, TrainingRun

HERE = Path(__file__).parent
MODELS = {"control": "csnet_x1_l", "control_finish": "csnet_x1_l", "decay": "csnet_x1", "decay_finish": "csnet_x1"}
HELD_OUT = 400  # photographs, drawn with SEED
SEED = 0


def main() -> None:
    """Train, or go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=MODELS, help="of the configuration")
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, metavar="RUN", help="that begins with the network of another run")
    parser.add_argument("--parameters", type=int, metavar="N", help="prune the network of --start to no more than N")
    parser.add_argument("--cache", type=Path, help="folder for decoded copies of the photographs")
    parser.add_argument("--stop-after", type=float, metavar="MINUTES")
    parser.add_argument("--first", type=int, metavar="STEPS")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    config = configuration(
        options.name, cache=options.cache, checkpoints=options.out / "checkpoints", checkpoint_steps=100
    )
    train, validation = split_pairs(find_taught(options.data / "images", options.data / "teacher"), HELD_OUT, seed=SEED)
    photographs = find_taught(options.data / "images", options.data / "teacher")
    options.out.mkdir(parents=True, exist_ok=True)
    start = None if options.start is None else options.start / "model" / "model.safetensors"
    network = goctconv.create_model(MODELS[options.name], checkpoint_path=start)
    result = distill(
        network if options.parameters is None else smaller(network, options.parameters),
        options.data / "teacher",
        replace(photographs, pairs=train),
        replace(photographs, pairs=validation),
        config,
        callbacks=[JSONLog(options.out / "log.jsonl"), Clock(options.out, options.stop_after, options.first)],
        resume=True,
    )
    model: Any = result.model
    model.save_pretrained(options.out / "model", license="apache-2.0")


def smaller(network: nn.Module, most: int) -> nn.Module:
    """Return the network without the channels of the smallest γ, so many that no more than ``most`` parameters stay."""
    example = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(SEED))
    ratios = [thousandths / 1000 for thousandths in range(1, 1000)]

    def pruned(ratio: float) -> PruningResult:
        return prune_channels(network.eval(), example, ratio=ratio, criterion="gamma_first")

    chosen = bisect_left(ratios, True, key=lambda ratio: pruned(ratio).report.parameters[1] <= most)
    result = pruned(ratios[chosen])
    print(result.report)
    return result.model


def configuration(name: str, **changes: object) -> DistillationConfig:
    """Return the committed options of a run."""
    values = read_toml(HERE / f"{name}.toml", options_of(DistillationConfig))
    return DistillationConfig(**{**values, **changes})


class Clock(Callback):
    """Notes losses and processor time as the run goes, and ends the run."""

    def __init__(self, folder: Path, minutes: float | None, steps: int | None) -> None:
        self.file = folder / "progress.jsonl"
        self.ends = None if minutes is None else time.monotonic() + 60 * minutes
        self.steps = steps
        self.losses: list[float] = []

    def on_step_end(self, run: TrainingRun, record: Any) -> None:
        """Write a line every 20 steps."""
        self.losses.append(record.loss)
        is_over = self.ends is not None and time.monotonic() > self.ends
        if len(self.losses) == 20 or is_over:
            line = {"epoch": record.epoch, "step": record.step, "loss": sum(self.losses) / len(self.losses)}
            line |= {"lr": record.learning_rate, "cpu": time.process_time(), "of": run.steps}
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
            self.losses = []
        if is_over or record.step == self.steps:
            os.kill(os.getpid(), signal.SIGTERM)  # which ends the run after the next step, with a checkpoint


if __name__ == "__main__":
    main()
