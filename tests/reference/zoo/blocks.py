"""Blocks that small networks are built of: each joins, splits or rearranges channels in its own way."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Activated(nn.Module):
    """A convolution, BatchNorm and an activation."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, activation: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))


class PReLUActivated(Activated):
    """The same with a slope for every channel."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv, nn.PReLU(conv.out_channels))


class Residual(nn.Module):
    """A body and a shortcut around it, summed."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Gated(nn.Module):
    """Squeeze and excitation, with BatchNorm in between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.expand = nn.Conv2d(4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.expand(self.norm(self.reduce(x.mean((2, 3), keepdim=True))).relu()).sigmoid()


class Product(nn.Module):
    """A body and a shortcut around it, multiplied."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x * self.body(x)


class Joined(nn.Module):
    """The output of a branch and its input, concatenated."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.body(x), x], 1)


class Chunked(nn.Module):
    """One half of the channels takes a detour, then the halves change places."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        return torch.cat([right, self.body(left)], 1)


class Shuffled(nn.Module):
    """A channel shuffle."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class Padded(nn.Module):
    """Padding of unequal sides."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (1, 0, 1, 1), mode=self.mode)


class PaddedToMultiple(nn.Module):
    """Padding to a multiple of 4, whose amount depends on the size."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, -x.shape[3] % 4, 0, -x.shape[2] % 4))


class Permuted(nn.Module):
    """Channels in an order that a buffer holds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(width))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.order]


def _overwritten(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, :, 1:] = x[:, :, :-1]
    return y


def _attended(x: Tensor) -> Tensor:
    y = x.flatten(2)
    return (y @ (y.mT @ y).softmax(-1)).view(x.shape)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "maxout": lambda x: torch.max(*x.chunk(2, 1)),
    "glu": lambda x: F.glu(x, 1),
    "maximum": lambda x: torch.maximum(x, x.flip(3)) + torch.min(x, x.roll(1, 2)),
    "row maximum": lambda x: x + x.max(3, keepdim=True)[0],
    "normalized": lambda x: F.normalize(x, dim=1),
    "sum": lambda x: x * x.sum(1, keepdim=True).tanh(),
    "mean": lambda x: torch.einsum("bchw,bhw->bchw", x, x.mean(1)),
    "cumsum": lambda x: x.cumsum(2),
    "where": lambda x: torch.where(x > 0.2, x, torch.zeros_like(x)),
    "positions": lambda x: x[:, :, :, torch.arange(x.shape[3]).flip(0)],
    "overwritten": _overwritten,
    "attention": _attended,
}


class Function(nn.Module):
    """A function of a name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return FUNCTIONS[self.name](x)

    def extra_repr(self) -> str:
        return self.name


class Upsampled(nn.Module):
    """Twice the height and width."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode=self.mode)


class Head(nn.Module):
    """Flattens maps, or their means, and reads them with a linear layer."""

    def __init__(self, width: int, size: tuple[int, int] | None, hidden: int) -> None:
        super().__init__()
        self.size = size
        self.hidden = nn.Linear(width * (size[0] * size[1] if size else 1), hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.out = nn.Linear(hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1) if self.size else F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.out(self.norm(self.hidden(x)).relu())
