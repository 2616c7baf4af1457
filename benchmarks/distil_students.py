"""What is a teacher worth? A small CSNet distilled on photographs without masks, against the same one with 20 masks.

The teacher is the released CSNet-×1-L, whose weights (CC BY-NC-SA 4.0) have to be there. Both students see as many
steps of equal batches; BatchNorm is calibrated on the photographs that each has learned from. Both are evaluated on
photographs that neither has seen: by their distance to the teacher's maps, and to the masks. With two seeds:

    python benchmarks/distil_students.py FOLDER --teacher csnet-L-x1.pth.tar --setting second --json distil.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import nn

import goctconv
from goctconv.saliency import (
    DistillationConfig,
    SaliencyConfig,
    calibrate_batch_norm,
    distill,
    find_pairs,
    grey_map,
    learn,
    predict,
    split_pairs,
    validation_loader,
)
from goctconv.saliency.data import ImagePair
from goctconv.saliency.learning import SaliencyValidation

TEACHER, TEACHER_SIZE = "csnet_x1_l", 224
STUDENT: dict[str, Any] = {"base_width": 12}  # of csnet_x1, whose is 20
SEEDS = (0, 1)
HELD_OUT = 40  # photographs, drawn with seed 0
MASKS = 20  # of the others, drawn with the seed of the run
LEARNING_RATE = 3e-3  # a tenth after 2/3 of the epochs, and again after 5/6
BETAS = (0.9, 0.99)
WEIGHT_DECAY = 5e-3
LOSS = "bce"
SHRINK = 160


class Setting(NamedTuple):
    """What differs between the settings."""

    size: int
    batch: int
    steps: int
    channels_last: bool


# The first was chosen before its run on photographs, after trials on made-up ones, and not changed after it. In 704
# steps, its students had learned too little to tell them apart. So the second, smaller images and more steps in the
# same time, was written down after that run, and before its own, of which there is one. Its steps are what fits into
# half an hour, by a trial of 240 of them on made-up photographs.
SETTINGS = {
    "first": Setting(size=96, batch=10, steps=704, channels_last=False),
    "second": Setting(size=64, batch=8, steps=2000, channels_last=True),
}


def main() -> None:
    """Run both sides with every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="photographs and masks")
    parser.add_argument("--teacher", type=Path, required=True, help="the teacher's checkpoint")
    parser.add_argument("--setting", choices=SETTINGS, default="second")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--trial", type=int, metavar="STEPS", help="fewer steps, to try the script out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    setting = SETTINGS[options.setting]
    if options.trial:
        setting = setting._replace(steps=options.trial)
    teacher = goctconv.create_model(TEACHER, checkpoint_path=options.teacher).eval()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        run = Run(options.folder, teacher, Path(name), setting)
        found["teacher"] = run.evaluate_teacher()
        print("teacher", found["teacher"], flush=True)
        for seed in SEEDS:
            for side in (run.distilled, run.with_masks):
                start, process = time.perf_counter(), time.process_time()
                key = f"{side.__name__}:{seed}"
                found[key] = side(seed)
                found[key]["minutes"] = (time.perf_counter() - start) / 60
                found[key]["cpu_minutes"] = (time.process_time() - process) / 60
                print(key, {what: round(value, 4) for what, value in found[key].items()}, flush=True)
                if options.json:
                    options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    summarise(found, setting)


class Run:
    """The data, and both ways to train on it."""

    def __init__(self, folder: Path, teacher: nn.Module, work: Path, setting: Setting) -> None:
        self.pairs = split_pairs(find_pairs(folder), HELD_OUT, seed=0)
        self.teacher, self.work, self.setting = teacher, work, setting
        self.compared = [pair._replace(mask=work / "held-out" / f"{pair.name}.png") for pair in self.pairs.validation]
        maps = predict(teacher, [pair.image for pair in self.compared], size=TEACHER_SIZE)
        for pair, probabilities in zip(self.compared, maps, strict=True):
            pair.mask.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grey_map(probabilities)).save(pair.mask)

    def evaluate_teacher(self) -> dict[str, float]:
        """Return the teacher's error against the masks, its maps brought to the students' size."""
        with_maps = {pair.name: pair.mask for pair in self.compared}
        total = 0.0
        for mine, masks in zip(self._batches(self.compared), self._batches(self.pairs.validation), strict=True):
            total += float((mine.masks - masks.masks).abs().mean((1, 2, 3)).sum())
        return {"mae_to_masks": total / len(with_maps)}

    def _batches(self, pairs: list[ImagePair] | tuple[ImagePair, ...]) -> Any:
        return validation_loader(
            pairs,
            size=self.setting.size,
            batch_size=self.setting.batch,
            workers=0,
            shrink=SHRINK,
            cache=self.work / "cache",
        )

    def _options(self, images: int, seed: int) -> dict[str, Any]:
        return {
            "epochs": max(1, self.setting.steps // (images // self.setting.batch)),
            "finetune_epochs": 0,
            "sizes": self.setting.size,
            "batch_size": self.setting.batch,
            "channels_last": self.setting.channels_last,
            "workers": 0,
            "loss": LOSS,
            "shrink": SHRINK,
            "cache": self.work / "cache",
            "seed": seed,
            "lr": LEARNING_RATE,
            "betas": BETAS,
            "ordinary_weight_decay": WEIGHT_DECAY,
            "weight_decay": 0.0,
            "threshold": 0.0,
        }

    def distilled(self, seed: int) -> dict[str, float]:
        """Learn from the teacher's maps of all photographs but those held out; no mask is read."""
        images = [pair.image for pair in self.pairs.train]
        config = DistillationConfig(
            maps=self.work / "maps", teacher_size=TEACHER_SIZE, **self._options(len(images), seed)
        )
        model = distill(made(seed), self.teacher, images, config=config).model
        return self._evaluated(model, self.pairs.train)

    def with_masks(self, seed: int) -> dict[str, float]:
        """Learn from a few photographs with masks."""
        few = split_pairs(self.pairs.train, MASKS, seed=seed).validation
        model = learn(made(seed), few, config=SaliencyConfig(**self._options(len(few), seed))).model
        return self._evaluated(model, few)

    def _evaluated(self, model: nn.Module, learned: tuple[ImagePair, ...]) -> dict[str, float]:
        calibrate_batch_norm(model, [batch.images for batch in self._batches(learned)])
        model.eval()
        masks = SaliencyValidation(self._batches(self.pairs.validation))(model)
        return {
            "mae_to_teacher": SaliencyValidation(self._batches(self.compared))(model)["mae"],
            "mae_to_masks": masks["mae"],
            "max_f": masks["max_f"],
        }


def made(seed: int) -> nn.Module:
    """Return a fresh student."""
    torch.manual_seed(seed)
    return goctconv.create_model("csnet_x1", **STUDENT)


def summarise(found: dict[str, Any], setting: Setting) -> None:
    """Print a table."""
    parameters = sum(parameter.numel() for parameter in made(0).parameters())
    print(f"\nstudent: csnet_x1 of base width {STUDENT['base_width']}, {parameters:,} parameters, {setting}")
    print(f"teacher: MAE {found['teacher']['mae_to_masks']:.4f} to the masks\n")
    print("| student | seed | MAE to the teacher's maps | MAE to the masks | max F | CPU minutes |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for key, figures in found.items():
        if key != "teacher":
            side, _, seed = key.partition(":")
            print(
                f"| {side.replace('_', ' ')} | {seed} | {figures['mae_to_teacher']:.4f} "
                f"| {figures['mae_to_masks']:.4f} | {figures['max_f']:.4f} | {figures['cpu_minutes']:.1f} |"
            )


if __name__ == "__main__":
    main()
