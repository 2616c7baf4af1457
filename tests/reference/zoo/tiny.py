"""Tiny networks with two BatchNorms that return what follows each of them, so that none needs to be found."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class TinyNetwork(nn.Module):
    """Two BatchNorms: an activation follows one, a pooling the other.

    `read` runs the forward pass and returns the activations too, so that none needs to be found.
    """

    def __init__(self, activation: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(5)
        self.activation = nn.ReLU() if activation is None else activation
        self.conv2 = nn.Conv2d(5, 7, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(7)
        self.head = nn.Linear(7, 2)

    def read(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the output, and the activation behind every BatchNorm."""
        first = self.activation(self.bn1(self.conv1(images)))
        second = self.bn2(self.conv2(first))
        return self.head(second.mean((2, 3))), {"bn1": first, "bn2": second}

    def forward(self, images: Tensor) -> Tensor:
        return self.read(images)[0]


class OfDimension(TinyNetwork):
    """The same in 0 (linear), 1, 2 or 3 dimensions."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        convolution = (lambda i, o, _: nn.Linear(i, o)) if dimensions == 0 else getattr(nn, f"Conv{dimensions}d")
        norm = getattr(nn, f"BatchNorm{max(dimensions, 1)}d")
        self.conv1, self.conv2 = convolution(3, 5, 2), convolution(5, 7, 2)
        self.bn1, self.bn2 = norm(5), norm(7)

    def read(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        first = self.activation(self.bn1(self.conv1(images)))
        second = self.bn2(self.conv2(first))
        pooled = second.flatten(2).mean(2) if second.dim() > 2 else second
        return self.head(pooled), {"bn1": first, "bn2": second}


class CalledTwice(TinyNetwork):
    """One BatchNorm is called twice; what follows may differ."""

    def __init__(self, second: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        self.conv3 = nn.Conv2d(5, 5, 3, padding=1)
        self.then = second

    def read(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        first = F.relu(self.bn1(self.conv1(images)))
        second = self.then(self.bn1(self.conv3(first)))
        third = self.bn2(self.conv2(second))
        return self.head(third.mean((2, 3))), {"bn1": torch.cat([first, second]), "bn2": third}


class Checkpointed(TinyNetwork):
    """Both halves are run again in the backward pass."""

    def __init__(self, activation: Callable[[Tensor], Tensor] | None = None, *, use_reentrant: bool) -> None:
        super().__init__(activation)
        self.again = partial(checkpoint, use_reentrant=use_reentrant)

    def forward(self, images: Tensor) -> Tensor:
        first = self.again(lambda x: self.activation(self.bn1(self.conv1(x))), images)
        second = self.again(lambda x: self.bn2(self.conv2(x)), first)
        return self.head(second.mean((2, 3)))


class Halves(TinyNetwork):
    """The first half is a Sequential of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(self.conv1, self.bn1, nn.ReLU())
        del self.conv1, self.bn1

    def read(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        first = self.body(images)
        second = self.bn2(self.conv2(first))
        return self.head(second.mean((2, 3))), {"body.1": first, "bn2": second}


class Fork(TinyNetwork):
    """Images with a positive mean go through another BatchNorm, which some processes may never do."""

    def __init__(self) -> None:
        super().__init__()
        self.bn3 = nn.BatchNorm2d(7)

    def read(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        first = self.activation(self.bn1(self.conv1(images)))
        norm = "bn3" if images.mean() > 0 else "bn2"
        second = self.get_submodule(norm)(self.conv2(first))
        return self.head(second.mean((2, 3))), {"bn1": first, norm: second}
