"""A tiny student of two outputs, its teacher, and photographs, for tests of distillation."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from goctconv.saliency import synthetic_images
from goctconv.saliency.data import Batch

EPOCHS, FINETUNE_EPOCHS = 2, 1


class Student(nn.Module):
    """Two convolutions, with a prediction behind each; `forward` gives the last one alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 7, 3, padding=1), nn.BatchNorm2d(7)
        self.conv2, self.norm2 = nn.Conv2d(7, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.early, self.late = nn.Conv2d(7, 1, 1), nn.Conv2d(5, 1, 1)

    def _maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.norm1(self.conv1(x)).relu()
        return self.late(self.norm2(self.conv2(first)).relu()), self.early(first)

    def forward(self, x: Tensor) -> Tensor:
        return self._maps(x)[0]

    def forward_multi(self, x: Tensor) -> tuple[Tensor, ...]:
        return self._maps(x)


class Trainer(nn.Module):
    """A teacher that tells how often it was called, and how."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 5, padding=2)
        self.drop = nn.Dropout(0.5)  # so that its maps are random unless it is in eval mode
        self.images = 0
        self.seen: set[Any] = set()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.drop(4 * self.conv(x))
        self.images += len(x)
        self.seen.add((self.training, torch.is_grad_enabled(), found.dtype))
        return found


def seeded(make: Any, seed: int = 3) -> Any:
    """Return a network, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def photographs(folder: Path, count: int = 6) -> Path:
    """Write photographs without masks."""
    folder.mkdir(parents=True)
    for index, (photograph, _) in enumerate(synthetic_images(count, seed=0, sides=(36, 48))):
        photograph.save(folder / f"{index}.png")
    return folder


def batches(count: int, size: int = 9) -> list[Batch]:
    """Batches of two images in float64."""
    images = torch.rand(2 * count, 3, size, size, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    empty = torch.zeros(2, 1, size, size, dtype=torch.float64)
    return [Batch(part, empty, (f"{number}", "other")) for number, part in enumerate(images.split(2))]


OPTIONS: dict[str, Any] = {
    "epochs": EPOCHS,
    "finetune_epochs": FINETUNE_EPOCHS,
    "optimizer": functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9),
    "weight_decay": 3.0,
    "threshold": 0.97,
    "seed": 4,
}
