"""One PerScale activation at several places of a network, as self.relu in every ResNet, is pruned with it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import goctconv
from goctconv import GOctConv, PerScale

MAKES = {"relu": lambda _: nn.ReLU(), "one slope": lambda _: nn.PReLU(), "dropout": lambda _: nn.Dropout()}


class Residual(nn.Module):
    """Two convolutions of other widths, one activation behind both."""

    def __init__(self, activation: PerScale, widths: tuple[int, int], inner: tuple[int, int]) -> None:
        super().__init__()
        self.a, self.n1 = GOctConv(widths, inner, 3, bias=False), PerScale(nn.BatchNorm2d, inner)
        self.b, self.n2 = GOctConv(inner, widths, 3, bias=False), PerScale(nn.BatchNorm2d, widths)
        self.act = activation

    def forward(self, x: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        y = self.n2(self.b(self.act(self.n1(self.a(x)))))
        return self.act(tuple(a + b for a, b in zip(x, y, strict=True)))


class Network(nn.Module):
    """Two blocks that share an activation with the stem."""

    def __init__(self, make) -> None:
        super().__init__()
        self.act = PerScale(make, (8, 6))
        self.stem, self.norm = GOctConv(3, (8, 6), 3, bias=False), PerScale(nn.BatchNorm2d, (8, 6))
        self.first, self.second = Residual(self.act, (8, 6), (5, 7)), Residual(self.act, (8, 6), (9, 4))
        self.head = GOctConv((8, 6), 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.second(self.first(self.act(self.norm(self.stem(image))))))


def network(make) -> nn.Module:
    torch.manual_seed(0)
    model = Network(make)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return model.double().eval()


def masked(model: nn.Module, result: goctconv.pruning.PruningResult) -> nn.Module:
    twin = copy.deepcopy(model)
    result.plan.mask(twin)
    return twin


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_pruned_equals_masked(make):
    model, image = network(make), torch.randn(2, 3, 20, 28, dtype=torch.float64)
    result = goctconv.prune_channels(model, image, ratio=0.4)
    assert result.report.removed > 5
    inner = {block.n1.in_widths for block in (result.model.first, result.model.second)}
    assert len({*inner, result.model.norm.in_widths}) == 3
    expected = masked(model, result)(image)
    torch.testing.assert_close(result.model(image), expected, rtol=0, atol=1e-12 * expected.abs().max().item())


@pytest.mark.parametrize("scale", [0, 1])
@pytest.mark.parametrize("block", ["first", "second"])
def test_a_scale_that_goes_at_one_place_stays_at_the_others(block, scale):
    model, image = network(MAKES["one slope"]), torch.randn(2, 3, 20, 28, dtype=torch.float64)
    norm = getattr(model, block).n1.get_submodule(str(scale))
    nn.init.constant_(norm.weight, 1e-6)
    nn.init.zeros_(norm.bias)
    result = goctconv.prune_channels(model, image, threshold=1e-3)
    assert getattr(result.model, block).n1.in_widths[scale] <= 1
    assert set(dict(result.model.act.named_children())) == {"0", "1"}
    expected = masked(model, result)(image)
    torch.testing.assert_close(result.model(image), expected, rtol=0, atol=1e-12 * expected.abs().max().item())
