"""Networks whose layers are shared, tied, skipped, or called in unusual ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import Activated


class InvertedResidual(nn.Module):
    """A dense layer, a depthwise one behind it, and a shortcut around both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm0 = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.expand, self.norm1 = nn.Conv2d(5, 7, 1), nn.BatchNorm2d(7)
        self.depthwise, self.norm2 = nn.Conv2d(7, 7, 3, padding=1, groups=7), nn.BatchNorm2d(7)
        self.project, self.norm3 = nn.Conv2d(7, 5, 1), nn.BatchNorm2d(5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm0(self.stem(x)).relu()
        y = self.norm1(self.expand(x)).relu()
        y = self.norm2(self.depthwise(y)).relu()
        return self.head((x + self.norm3(self.project(y))).mean((2, 3)))


class Between(nn.Module):
    """Two convolutions with BatchNorm, a function of both, and one more convolution.

    ``between``: called with the network, the two activations, and what else the network is called with.
    """

    def __init__(self, between: Callable[..., Tensor], dimensions: int = 2) -> None:
        super().__init__()
        torch.manual_seed(3)
        conv = (nn.Conv1d, nn.Conv2d)[dimensions - 1]
        norm = (nn.BatchNorm1d, nn.BatchNorm2d)[dimensions - 1]
        self.first, self.norm = conv(3, 8, 3), norm(8)
        self.second, self.norm2 = conv(8, 8, 1), norm(8)
        self.last = conv(8, 4, 3, padding=1)
        self.between = between

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        y = self.norm(self.first(x)).relu()
        y = self.norm2(self.second(y)).relu()
        return self.last(self.between(self, x, y, *others))


class Followed(nn.Module):
    """A BatchNorm of five channels, and a function of its output."""

    def __init__(self, behind: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(5)
        self.behind = behind

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self.norm(1 * x))


class ThreeActivations(nn.Module):
    """Activations as a module and as an in-place function, and none before a sum.

    ``activations`` runs the forward pass and returns what follows each BatchNorm.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.first, self.second, self.third = (nn.BatchNorm2d(5) for _ in range(3))
        self.act = nn.PReLU(5)

    def activations(self, x: Tensor) -> dict[str, Tensor]:
        first = self.act(self.first(self.conv(x)))
        second = F.relu(self.second(first))
        return {"first": first, "second": second, "third": self.third(second)}

    def forward(self, x: Tensor) -> Tensor:
        first = self.act(self.first(self.conv(x)))
        return first + self.third(F.relu_(self.second(first)))


class SharedBlock(nn.Module):
    """A block that is called twice, and has two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Activated(nn.Conv2d(3, 8, 1), nn.ReLU())
        self.shared = Activated(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.alias = self.shared
        self.last = Activated(nn.Conv2d(8, 6, 1), nn.ReLU())
        self.end = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.last(self.alias(self.shared(self.first(x)))))


class SharedParts(nn.Module):
    """A BatchNorm behind two convolutions, and a bias of two other ones."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.norm = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)
        self.a, self.b = nn.Conv2d(8, 6, 1, bias=False), nn.Conv2d(8, 6, 1, bias=False)
        self.shared = nn.BatchNorm2d(6)
        self.c, self.d = nn.Conv2d(6, 4, 1), nn.Conv2d(3, 4, 1)
        self.d.bias = self.c.bias

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x)).relu()
        y = self.shared(self.a(y)).relu() + self.shared(self.b(y.tanh())).relu()
        return torch.cat([self.c(y), self.d(x).relu()], dim=1)


class Tapped(nn.Module):
    """A convolution whose output is used twice, one that is called twice, and one that a BatchNorm alone uses."""

    def __init__(self) -> None:
        super().__init__()
        self.tapped, self.norm1 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.twice, self.norm2 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.alone, self.norm3 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.linear, self.norm4 = nn.Linear(4, 5), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        tapped = self.tapped(x)
        y = self.norm1(tapped) + tapped
        y = self.norm2(self.twice(self.twice(y)))
        return self.norm4(self.linear(self.norm3(self.alone(y)).mean((2, 3))))


class TiedEmbedding(nn.Module):
    """Words in, scores of words out, by one table."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table, self.norm = nn.Embedding(11, 8), nn.BatchNorm1d(8)

    def forward(self, words: Tensor) -> Tensor:
        return F.linear(self.norm(self.table(words).mean(1)), self.table.weight)


class MeanOfWords(nn.Module):
    """The mean over words that are not padding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table, self.mix = nn.Embedding(11, 8), nn.Linear(8, 8)
        self.norm, self.out = nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, words: Tensor) -> Tensor:
        features = self.norm(self.mix(self.table(words)).transpose(1, 2)).sum(2)
        return self.out(features / (words != 0).sum(1, keepdim=True).clamp(min=1))


class SortedChannels(nn.Module):
    """A BatchNorm of the image, and one behind an operation over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.of_image, self.behind = nn.BatchNorm2d(3), nn.BatchNorm2d(4)
        self.mix = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(torch.einsum("oc,bchw->bohw", self.mix, self.of_image(x)).sort(1).values)


class AuxiliaryHead(nn.Module):
    """An auxiliary head that runs in train mode only, as in GoogLeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Activated(nn.Conv2d(3, 8, 1, bias=False), nn.ReLU())
        self.head = nn.Sequential(
            Activated(nn.Conv2d(8, 6, 1, bias=False), nn.ReLU()), nn.Dropout(0.5), nn.Conv2d(6, 2, 1)
        )
        self.second = Activated(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.end = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.first(x)
        main = self.end(self.second(x))
        return (main, self.head(x)) if self.training else main


class NeedsTargets(AuxiliaryHead):
    """The same, but in train mode it wants targets, which nobody gives."""

    def forward(self, x: Tensor) -> Any:
        if self.training:
            raise ValueError("in train mode, targets must be given")
        return super().forward(x)


class Buffered(nn.Sequential):
    """Layers behind a factor for each channel, which changes the input in place; counts its calls in a buffer."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.register_buffer("factor", torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).view(3, 1, 1))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x *= self.factor
        return super().forward(x)


class Remembering(nn.Module):
    """Keeps a tensor, as networks with grids or anchors do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
        self.grid: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        images = self.body(images)
        if self.grid is None:
            self.grid = torch.ones(images.shape[-2:])
        return F.silu(images) * self.grid


class Chain(nn.Module):
    """Layers in a row, called by hand: they may pass on tuples."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x


class ByName(nn.Module):
    """Two inputs, of any name; calls its layer by the argument's name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1)

    def forward(self, mask: Tensor, x: Tensor) -> Tensor:
        return self.conv(input=x) * mask


class OnTwoScales(nn.Module):
    """A layer of two scales, which are cut out of one image of five channels; BatchNorm and PReLU of the first."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm, self.act = nn.BatchNorm2d(5), nn.PReLU(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv((x[:, :2], x[:, 2:, ::2, ::2]))[0]))
