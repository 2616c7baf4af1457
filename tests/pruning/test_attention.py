"""Attention: channels of values beside heads, whose matrices other layers mix, as in EfficientFormerV2."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from goctconv.pruning import prune_channels
from reference.random_networks import difference

EXAMPLE = torch.randn(2, 3, 6, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Attention(nn.Module):
    """Attention over pixels, whose heads a convolution may mix before and after the softmax."""

    def __init__(self, *, mixes: bool, heads: int = 3, width: int = 4) -> None:
        super().__init__()
        self.heads = heads
        wide = heads * width
        self.stem = nn.Sequential(nn.Conv2d(3, wide, 1), nn.BatchNorm2d(wide), nn.ReLU())
        self.query, self.key = (nn.Conv2d(wide, wide, 1) for _ in range(2))
        self.value = nn.Sequential(nn.Conv2d(wide, wide, 1), nn.BatchNorm2d(wide))
        self.local = nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1, groups=wide), nn.BatchNorm2d(wide))
        self.mix = nn.ModuleList(nn.Conv2d(heads, heads, 1) if mixes else nn.Identity() for _ in range(2))
        self.out = nn.Conv2d(wide, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        values = self.value(x)
        local = self.local(values)
        query, key, value = (
            part.flatten(2).unflatten(1, (self.heads, -1)).mT for part in (self.query(x), self.key(x), values)
        )
        weights = self.mix[1](self.mix[0](query @ key.mT).softmax(-1))
        return self.out((weights @ value).mT.reshape(local.shape) + local)


@pytest.mark.parametrize("mixes", [False, True])
@torch.no_grad()
def test_channels_of_values_go_equally_from_every_head(mixes: bool) -> None:
    torch.manual_seed(0)
    model = Attention(mixes=mixes).double().eval()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.weight.uniform_(0.3, 1.3)
        norm.bias.normal_(0, 0.3)
    for norm in (model.value[1], model.local[1]):
        norm.weight.view(3, 4)[:, 1:3] = 0  # two of each head
    model.stem[1].weight[:5] = 0
    result = prune_channels(model, EXAMPLE, threshold=1e-20, bn_bias="zero")
    removed = {name: layer.removed for name, layer in result.report.layers.items()}
    assert removed == {"stem.1": 5, "value.1": 6, "local.1": 6}
    masked = result.plan.mask(copy.deepcopy(model))
    assert difference(masked(EXAMPLE), result.model(EXAMPLE)) <= 1e-12
