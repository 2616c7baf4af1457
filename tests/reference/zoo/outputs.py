"""Networks that are asked for their outputs: predictions, several outputs at once, and none that can be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Brightness(nn.Module):
    """Logits that follow the input's brightness, with layers whose mode matters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 3, padding=1, padding_mode="replicate", bias=True)
        self.norm = nn.BatchNorm2d(1)
        self.dropout = nn.Dropout(0.5)
        nn.init.constant_(self.conv.weight, 1 / 27)
        nn.init.constant_(self.conv.bias, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.norm(self.conv(x)))


class Constant(nn.Module):
    """One logit everywhere."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(float(logit)))

    def forward(self, x: Tensor) -> Tensor:
        return self.logit.expand(x.shape[0], 1, *x.shape[2:])


class Upsampling(nn.Module):
    """A convolution, BatchNorm, PReLU, pooling, and upsampling to the image's size."""

    def __init__(self, slope: float = 0.25) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.PReLU(4, init=slope)
        self.last = nn.Conv2d(4, 1, 1)
        with torch.no_grad():
            self.norm.running_mean.uniform_(-0.2, 0.2)
            self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool2d(self.act(self.norm(self.conv(x))), 2)
        return F.interpolate(self.last(y), x.shape[2:], mode="bilinear", align_corners=False)


class Returning(nn.Module):
    """Layers whose inputs come in one of several ways, and whose maps are returned in one.

    ``make``: gets the output and the features behind the first two layers.
    """

    def __init__(self, body: nn.Sequential, make: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.body, self.make = body, make

    def forward(self, x: Tensor, scale: Tensor | None = None, *, flip: bool = False) -> Any:
        x = x if scale is None else x * scale
        features = self.body[:2](x.flip(2) if flip else x)
        return self.make(self.body[2:](features), features)


class TwoOutputs(nn.Module):
    """Returns its input twice."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Raises(nn.Module):
    """Takes no image."""

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError(x.shape)


class OneSize(nn.Module):
    """Takes images of 48 x 39 pixels alone, as transformers with windows may."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 3, 48, 39)


class DiffersWhenExported(nn.Module):
    """Computes something else while it is exported than when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y if torch.compiler.is_exporting() else 2 * y


class Amplifier(nn.Module):
    """Makes much of the rounding of a sum."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.mean((1, 2, 3), keepdim=True) * 1e6 + x[:, :1] * 1e-3).sin()


class Difference(nn.Module):
    """Rounds nearly everything away."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 2e7) - 2e7
