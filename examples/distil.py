"""Distil a small network from a large one on photographs without masks; prune it in the same run.

Both networks are tiny here, and the photographs are made up, so that this takes seconds: a teacher first learns from
masks, then a student learns from the teacher alone. With your own photographs and a network that is trained:

    python examples/distil.py --images photos --teacher csnet_x2_l --weights csnet-L-x2.pth.tar \
        --student csnet_x1 --size 224 --epochs 100
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

import goctconv
from goctconv import saliency
from goctconv.saliency import DistillationConfig, SaliencyConfig, distill, find_images, synthetic_images

ADAM: dict[str, Any] = {"lr": 5e-3, "betas": (0.9, 0.999), "ordinary_weight_decay": 0.0}


def make_photographs(folder: Path, count: int) -> None:
    """Write photographs and masks."""
    for index, (photograph, mask) in enumerate(synthetic_images(count, sides=(48, 64))):
        for kind, image in (("images", photograph), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            image.save(folder / kind / f"{index:03}.png")


def trained_teacher(name: str, folder: Path, size: int) -> nn.Module:
    """Return a teacher that has learned from masks."""
    teacher = goctconv.create_model(name)
    config = SaliencyConfig(
        epochs=10,
        finetune_epochs=0,
        sizes=size,
        batch_size=8,
        workers=0,
        **ADAM,
        weight_decay=0.0,
        threshold=None,
    )
    return saliency.learn(teacher, folder, config=config).model


def main() -> None:
    """Train a teacher, distil a student, and remove channels of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder of photographs (default: made up)")
    parser.add_argument("--teacher", default="test_scfnet", help="a large network (default: %(default)s)")
    parser.add_argument("--weights", type=Path, help="its checkpoint (default: it learns from made-up masks first)")
    parser.add_argument("--student", default="test_csnet", help="a small network (default: %(default)s)")
    parser.add_argument("--size", type=int, default=48, help="of images (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=10, help="of distillation (default: %(default)s)")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # work this small gains nothing from a second thread

    with TemporaryDirectory() as name:
        folder = Path(name)
        make_photographs(folder / "made-up", 20)
        if args.weights is None:
            teacher = trained_teacher(args.teacher, folder / "made-up", args.size)
        else:
            teacher = goctconv.create_model(args.teacher, checkpoint_path=args.weights)
        photographs = [pair.image for pair in find_images(args.images or folder / "made-up")]
        held_out, images = photographs[:4], photographs[4:]
        print(f"{len(images)} photographs without masks, {len(held_out)} more to compare with the teacher")

        student = goctconv.create_model(args.student)
        config = DistillationConfig(
            epochs=args.epochs,
            finetune_epochs=max(1, args.epochs // 4),
            sizes=args.size,
            batch_size=4,
            workers=0,
            loss="bce+dice",
            maps=folder / "maps",  # the teacher sees every photograph once, not in every epoch
            **ADAM,
            weight_decay=0.02,  # channels fade while the student learns; 3.0 is published, for long runs
            threshold=0.94,
        )
        result = distill(student, teacher, images, config=config, held_out=held_out)
    for record in (result.history.epochs[0], *result.history.epochs[-2:]):
        print(f"{record.phase} epoch {record.epoch}: {record.validation['teacher_mae']:.3f} from the teacher's maps")
    before, after = result.report.parameters
    large = sum(parameter.numel() for parameter in teacher.parameters())
    print(f"{result.report.removed} channels removed: {after:,} of {before:,} parameters; the teacher has {large:,}")


if __name__ == "__main__":
    main()
