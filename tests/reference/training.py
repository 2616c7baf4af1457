"""A tiny network whose channels fade in a few steps, and its data, for tests of learning."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from goctconv import learn_channels
from goctconv.training import TrainingConfig, TrainingResult

EPOCHS, FINETUNE_EPOCHS = 3, 2
IMAGES, BATCH = 13, 4  # the last batch has one image
STEPS = 4  # of an epoch


class Pictures(Dataset[tuple[Tensor, int]]):
    """Noise on two kinds of pictures, with augmentation from torch's global generator."""

    def __init__(self, count: int = IMAGES, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(5)
        self.labels = torch.arange(count) % 2
        self.images = torch.rand(count, 3, 7, 5, generator=generator, dtype=dtype) + self.labels.view(-1, 1, 1, 1) / 2

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        return image + 0.1 * torch.rand(image.shape, dtype=image.dtype), int(self.labels[index])


def network(dropout: float = 0.2) -> nn.Module:
    """Return the network, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(3, 13, 3, padding=1),
            nn.BatchNorm2d(13),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(13, 11, 3, padding=1),
            nn.BatchNorm2d(11),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(11, 2),
        )


def loader(**options: Any) -> DataLoader[Any]:
    """Return batches in a random order."""
    return DataLoader(Pictures(), BATCH, shuffle=True, **options)


OPTIONS: dict[str, Any] = {
    "epochs": EPOCHS,
    "finetune_epochs": FINETUNE_EPOCHS,
    "optimizer": functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=5e-3),
    "threshold": 0.06,
}
"""With them, some channels of both layers go, and others stay."""


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of all weights and buffers."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def check_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """All weights and buffers have the same bits."""
    assert set(found) == set(expected)
    different = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert different == [], different


def split(options: dict[str, Any], *functions: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return which options are parameters of functions, and which are fields of a configuration."""
    own = {name for function in functions for name in inspect.signature(function).parameters} - {"config"}
    passed = {
        name: value
        for name, value in options.items()
        if name in own and not (name == "optimizer" and isinstance(value, str))
    }
    return passed, {name: value for name, value in options.items() if name not in passed}


def learn(model: Any, train_loader: Any, loss_fn: Any = None, **options: Any) -> TrainingResult:
    """Call `learn_channels` with options of all kinds."""
    passed, config = split(options, learn_channels)
    return learn_channels(model, train_loader, loss_fn, TrainingConfig(**config), **passed)
