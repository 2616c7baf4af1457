"""Networks that are plain sequences of layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import Activated, Chunked, Gated, Residual, Shuffled


def two_convolutions() -> nn.Sequential:
    """Two convolutions, and BatchNorm and ReLU between them; the same weights each time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))


def nested() -> nn.Sequential:
    """Two convolutions with BatchNorm, the second pair in a Sequential of its own."""
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Sequential(nn.Conv2d(5, 7, 1), nn.BatchNorm2d(7))
    )


def two_norms() -> nn.Sequential:
    """A convolution and two BatchNorms, a ReLU between them."""
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Sequential(nn.BatchNorm2d(5)))


def signals() -> nn.Sequential:
    """Layers of (B, 3, L) signals."""
    return nn.Sequential(
        *(nn.Conv1d(3, 5, 3), nn.BatchNorm1d(5), nn.ELU(inplace=True)),
        *(nn.Conv1d(5, 7, 3), nn.BatchNorm1d(7), nn.AdaptiveAvgPool1d(1)),
        *(nn.Sequential(nn.Flatten(), nn.Linear(7, 11)), nn.BatchNorm1d(11), nn.Tanh()),
    )


def volumes() -> nn.Sequential:
    """Layers of (B, 3, D, H, W) volumes."""
    return nn.Sequential(
        *(nn.Conv3d(3, 5, 3), nn.BatchNorm3d(5), nn.LeakyReLU()),
        *(nn.Conv3d(5, 7, 3), nn.BatchNorm3d(7), nn.MaxPool3d(2)),
        *(nn.Conv3d(7, 11, 1), nn.BatchNorm3d(11), nn.GELU()),
    )


def batch_norms(*gammas: Tensor) -> nn.Sequential:
    """BatchNorms alone, with the given γ."""
    model = nn.Sequential(*(nn.BatchNorm2d(len(gamma)) for gamma in gammas))
    with torch.no_grad():
        for norm, gamma in zip(model, gammas, strict=True):
            norm.weight.copy_(gamma)  # type: ignore[operator,union-attr]
    return model


def dense() -> nn.Sequential:
    """Three convolutions with BatchNorm and a plain one, in float64; the same weights each time."""
    torch.manual_seed(2)
    return nn.Sequential(
        Activated(nn.Conv2d(3, 8, 1), nn.ReLU()),
        Activated(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        Activated(nn.Conv2d(8, 12, 1, bias=False), nn.ReLU()),
        nn.Conv2d(12, 5, 1),
    ).double()


def depthwise() -> nn.Sequential:
    """A convolution and two depthwise ones, a sum, and a plain convolution; in float64 and eval mode."""
    torch.manual_seed(4)
    model = nn.Sequential(
        Activated(nn.Conv2d(3, 10, 1, bias=False), nn.ReLU()),
        Activated(nn.Conv2d(10, 10, 3, padding=1, groups=10, bias=False), nn.ReLU()),
        Activated(nn.Conv2d(10, 10, 3, padding=1, groups=10, bias=False), nn.ReLU()),
        Activated(nn.Conv2d(10, 10, 1, bias=False), nn.ReLU()),
        Residual(Activated(nn.Conv2d(10, 10, 1, bias=False), nn.ReLU())),
        nn.Conv2d(10, 2, 1),
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 1.0)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.double().eval()


def residual() -> nn.Sequential:
    """A depthwise convolution and a sum between pointwise ones, in float64; the same weights each time."""
    torch.manual_seed(3)
    return nn.Sequential(
        Activated(nn.Conv2d(3, 8, 1, bias=False), nn.ReLU()),
        Activated(nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.ReLU()),
        Residual(Activated(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.ReLU())),
        Activated(nn.Conv2d(8, 12, 1, bias=False), nn.ReLU()),
        nn.Conv2d(12, 5, 1),
    ).double()


def mixed(width: int = 8, *, in_pieces: bool = False) -> nn.Sequential:
    """A depthwise convolution, a sum and a gate, in float64.

    ``in_pieces``: also layers that cut channels into equal pieces.
    """
    pieces = [Chunked(Activated(nn.Conv2d(4, 4, 1, groups=2), nn.ReLU())), Shuffled(2)] if in_pieces else []
    return nn.Sequential(
        Activated(nn.Conv2d(3, width, 1), nn.ReLU()),
        Activated(nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False), nn.SiLU()),
        Residual(Activated(nn.Conv2d(width, width, 3, padding=1), nn.Identity())),
        Gated(width),
        *pieces,
        Activated(nn.Conv2d(width, 12, 1, bias=False), nn.ReLU()),
        nn.Conv2d(12, 5, 1, bias=False),
    ).double()
