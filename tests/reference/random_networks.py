"""Small random networks with BatchNorm, drawn by hypothesis, and the oracle of pruning: the masked network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

FADED = 1e-25
ACTIVATIONS: list[Callable[[], nn.Module]] = [
    nn.ReLU, lambda: nn.ReLU(inplace=True), nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.GELU, nn.Identity,
    lambda: nn.LeakyReLU(0.2),
]  # fmt: skip


class Activated(nn.Module):
    """A convolution, BatchNorm and an activation."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
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
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Gated(nn.Module):
    """Channels are multiplied by what their means say."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.expand = nn.Conv2d(4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.expand(self.norm(self.reduce(x.mean((2, 3), keepdim=True))).relu()).sigmoid()


class Product(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x * self.body(x)


class Joined(nn.Module):
    """Channels and what a branch makes of them, side by side."""

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
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class Padded(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (1, 0, 1, 1), mode=self.mode)


class Upsampled(nn.Module):
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


class Drawn(NamedTuple):
    """A network, an example, and whether it takes other sizes."""

    model: nn.Sequential
    example: Tensor
    is_free: bool

    def __repr__(self) -> str:
        return f"{self.model} on {tuple(self.example.shape)}"


WIDTHS = st.sampled_from([4, 6, 8, 12])
KINDS = (
    "conv", "conv", "grouped", "depthwise", "prelu", "residual", "gate", "product", "cat", "chunk", "shuffle",
    "max_pool", "avg_pool", "pad", "upsample",
)  # fmt: skip


@st.composite
def networks(draw: st.DrawFn, *, in_pieces: bool = True) -> Drawn:
    """Return a random network in float64 and eval mode, some of whose scales have faded.

    ``in_pieces``: whether there are layers that cut channels into equal pieces.
    """
    torch.manual_seed(draw(st.integers(0, 10_000)))
    kinds = [kind for kind in KINDS if in_pieces or kind not in {"grouped", "chunk", "shuffle"}]
    width = draw(WIDTHS)
    layers: list[nn.Module] = [_activated(draw, 3, width, is_first=True)]
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=6)):
        layer, width = _layer(draw, kind, width)
        layers.append(layer)
    example = torch.randn(2, 3, draw(st.sampled_from([7, 8])), 9, dtype=torch.float64)
    model = nn.Sequential(*layers).double()
    with torch.no_grad():
        size = tuple(model.eval()(example).shape[2:])
    end = draw(st.sampled_from(["conv", "mean", "flatten"]))
    if end == "conv":
        model.append(nn.Conv2d(width, 2, 3, padding=draw(st.integers(0, 1)) if min(size) > 2 else 1))
    else:
        model.append(Head(width, (size[0], size[1]) if end == "flatten" else None, 5))
    randomize(model.double(), share=draw(st.sampled_from([0.3, 0.6, 0.9])))
    return Drawn(model.eval(), example, is_free=end != "flatten")


def _activated(draw: st.DrawFn, before: int, after: int, groups: int = 1, *, is_first: bool = False) -> Activated:
    kernel = draw(st.sampled_from([1, 3]))
    padding = draw(st.integers(0, 1)) if kernel == 3 and is_first else kernel // 2
    bias = draw(st.booleans())
    conv = nn.Conv2d(before, after, kernel, padding=padding, groups=groups, bias=bias)
    return Activated(conv, draw(st.sampled_from(ACTIVATIONS))())


def _layer(draw: st.DrawFn, kind: str, width: int) -> tuple[nn.Module, int]:
    if kind == "conv":
        after = draw(WIDTHS)
        return _activated(draw, width, after), after
    if kind == "grouped":
        return _activated(draw, width, width, groups=2), width
    if kind == "depthwise":
        return _activated(draw, width, width, groups=width), width
    if kind == "prelu":
        return PReLUActivated(nn.Conv2d(width, width, 1)), width
    if kind == "cat":
        after = draw(WIDTHS)
        return Joined(_activated(draw, width, after)), width + after
    simple: dict[str, Callable[[], nn.Module]] = {
        "residual": lambda: Residual(_activated(draw, width, width)),
        "gate": lambda: Gated(width),
        "product": lambda: Product(_activated(draw, width, width)),
        "chunk": lambda: Chunked(_activated(draw, width // 2, width // 2)),
        "shuffle": lambda: Shuffled(2),
        "max_pool": lambda: nn.MaxPool2d(3, 2, 1),
        "avg_pool": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=draw(st.booleans())),
        "pad": lambda: Padded(draw(st.sampled_from(["constant", "replicate"]))),
        "upsample": lambda: Upsampled(draw(st.sampled_from(["nearest", "bilinear"]))),
    }
    return simple[kind](), width


def norms_of(model: nn.Module) -> dict[str, nn.BatchNorm2d | nn.BatchNorm1d]:
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)}


@torch.no_grad()
def randomize(model: nn.Module, *, share: float, seed: int | None = None) -> nn.Module:
    """Draw statistics, scales and shifts of every BatchNorm; a share of the scales has faded."""
    generator = torch.Generator().manual_seed(torch.initial_seed() if seed is None else seed)
    for norm in norms_of(model).values():
        count = norm.num_features

        def drawn(count: int = count) -> Tensor:
            return torch.rand(count, generator=generator, dtype=torch.float64)

        norm.running_mean.copy_(drawn() - 0.5)
        norm.running_var.copy_(drawn() + 0.5)
        scale = (drawn() + 0.3) * torch.where(drawn() < 0.5, -1.0, 1.0)
        norm.weight.copy_(torch.where(drawn() < share, FADED * scale.sign(), scale))
        norm.bias.copy_(drawn() - 0.4)
    return model


@torch.no_grad()
def masked(model: nn.Module, *, bn_bias: str = "keep", threshold: float = 1e-20) -> nn.Module:
    """Return a copy with γ := 0 where it has faded, and β := 0 there if ``beta`` is "zero": the oracle."""
    copied = copy.deepcopy(model)
    for norm in norms_of(copied).values():
        faded = norm.weight.abs() < threshold
        norm.weight[faded] = 0
        if bn_bias == "zero":
            norm.bias[faded] = 0
    return copied


def difference(a: Tensor, b: Tensor) -> float:
    """Return the largest difference relative to the largest value."""
    assert a.shape == b.shape
    a, b = a.detach(), b.detach()
    return float((a - b).abs().amax() / a.abs().amax().clamp(min=1e-300))
