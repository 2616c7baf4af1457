"""Small random networks with BatchNorm, drawn by hypothesis, and the oracle of pruning: the masked network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from .zoo.blocks import (
    FUNCTIONS,
    Activated,
    Chunked,
    Function,
    Gated,
    Head,
    Joined,
    Padded,
    PaddedToMultiple,
    Permuted,
    PReLUActivated,
    Product,
    Residual,
    Shuffled,
    Upsampled,
)

FADED = 1e-25
ACTIVATIONS: list[Callable[[], nn.Module]] = [
    nn.ReLU, lambda: nn.ReLU(inplace=True), nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.GELU, nn.Identity,
    lambda: nn.LeakyReLU(0.2),
]  # fmt: skip


class Drawn(NamedTuple):
    """A network, an example, and whether it takes other sizes."""

    model: nn.Sequential
    example: Tensor
    is_free: bool

    def __repr__(self) -> str:
        return f"{self.model} on {tuple(self.example.shape)}"


WIDTHS = st.sampled_from([4, 6, 8, 12])
KINDS = (
    "conv", "conv", "grouped", "regrouped", "depthwise", "prelu", "residual", "gate", "product", "cat", "chunk",
    "shuffle", "max_pool", "avg_pool", "pad", "upsample", "pad_to_multiple", "permuted", "transposed",
    "transposed_grouped", "instance_norm", *FUNCTIONS,
)  # fmt: skip
IN_PIECES = {"grouped", "regrouped", "chunk", "shuffle", "maxout", "transposed_grouped"}


@st.composite
def networks(draw: st.DrawFn, *, in_pieces: bool = True) -> Drawn:
    """Return a random network in float64 and eval mode, some of whose channels have faded.

    ``in_pieces``: whether there are layers that cut channels into equal pieces.
    """
    torch.manual_seed(draw(st.integers(0, 10_000)))
    kinds = [kind for kind in KINDS if in_pieces or kind not in IN_PIECES]
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
    if kind in {"conv", "cat", "transposed", "maxout", "glu"}:
        return _of_other_width(draw, kind, width)
    simple: dict[str, Callable[[], nn.Module]] = {
        "grouped": lambda: _activated(draw, width, width, groups=2),
        "regrouped": lambda: _regrouped(draw, width),
        "depthwise": lambda: _activated(draw, width, width, groups=width),
        "prelu": lambda: PReLUActivated(nn.Conv2d(width, width, 1)),
        "transposed_grouped": lambda: _transposed(draw, width, width, groups=2),
        "residual": lambda: Residual(_activated(draw, width, width)),
        "gate": lambda: Gated(width),
        "product": lambda: Product(_activated(draw, width, width)),
        "chunk": lambda: Chunked(_activated(draw, width // 2, width // 2)),
        "shuffle": lambda: Shuffled(2),
        "max_pool": lambda: nn.MaxPool2d(3, 2, 1),
        "avg_pool": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=draw(st.booleans())),
        "pad": lambda: Padded(draw(st.sampled_from(["constant", "replicate"]))),
        "pad_to_multiple": PaddedToMultiple,
        "permuted": lambda: Permuted(width),
        "instance_norm": lambda: nn.InstanceNorm2d(width, affine=draw(st.booleans())),
        "upsample": lambda: Upsampled(draw(st.sampled_from(["nearest", "bilinear"]))),
    }
    return simple.get(kind, lambda: Function(kind))(), width


def _regrouped(draw: st.DrawFn, width: int) -> nn.Sequential:
    """Return grouped convolutions with different numbers of groups, one after the other."""
    numbers = [groups for groups in (2, 3, 4) if width % groups == 0]
    groups = draw(st.permutations(numbers))[:2]
    return nn.Sequential(*(_activated(draw, width, width, groups=number) for number in groups))


def _of_other_width(draw: st.DrawFn, kind: str, width: int) -> tuple[nn.Module, int]:
    if kind in {"maxout", "glu"}:
        return (Function(kind), width // 2) if width % 4 == 0 else (Function("where"), width)
    after = draw(WIDTHS)
    if kind == "transposed":
        return _transposed(draw, width, after, groups=1), after
    layer = _activated(draw, width, after)
    return (layer, after) if kind == "conv" else (Joined(layer), width + after)


def _transposed(draw: st.DrawFn, before: int, after: int, *, groups: int) -> Activated:
    kernel, stride, padding = draw(st.sampled_from([(2, 2, 0), (3, 1, 1), (4, 2, 1)]))
    bias = draw(st.booleans())
    conv = nn.ConvTranspose2d(before, after, kernel, stride, padding, groups=groups, bias=bias)
    return Activated(conv, draw(st.sampled_from(ACTIVATIONS))())


def norms_of(model: nn.Module) -> dict[str, nn.BatchNorm2d | nn.BatchNorm1d]:
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)}


@torch.no_grad()
def randomize(model: nn.Module, *, share: float, seed: int | None = None) -> nn.Module:
    """Draw statistics, γ and β of every BatchNorm; a share of the channels has faded."""
    generator = torch.Generator().manual_seed(torch.initial_seed() if seed is None else seed)
    for norm in norms_of(model).values():
        count = norm.num_features

        def drawn(count: int = count) -> Tensor:
            return torch.rand(count, generator=generator, dtype=torch.float64)

        norm.running_mean.copy_(drawn() - 0.5)
        norm.running_var.copy_(drawn() + 0.5)
        gamma = (drawn() + 0.3) * torch.where(drawn() < 0.5, -1.0, 1.0)
        norm.weight.copy_(torch.where(drawn() < share, FADED * gamma.sign(), gamma))
        norm.bias.copy_(drawn() - 0.4)
    return model


@torch.no_grad()
def masked(model: nn.Module, *, bn_bias: str = "keep", threshold: float = 1e-20) -> nn.Module:
    """Return a copy with γ := 0 where it has faded, and β := 0 there if ``bn_bias`` is "zero": the oracle."""
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
