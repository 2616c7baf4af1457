"""M can be changed before it is used: channels that can only be removed together fade alike."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from goctconv import DynamicWeightDecay
from goctconv.pruning import channel_groups


class Residual(nn.Module):
    """Two BatchNorms that are summed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.conv2, self.norm2 = nn.Conv2d(5, 5, 3, padding=1), nn.BatchNorm2d(5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(x)).relu()
        return x + self.norm2(self.conv2(x))


def test_classes_share_their_mean() -> None:
    model = Residual().double()
    plain_model = copy.deepcopy(model)
    inputs = torch.rand(4, 3, 8, 8, dtype=torch.float64)
    classes = channel_groups(model, inputs)
    plain = DynamicWeightDecay(torch.optim.SGD(plain_model.parameters(), 0.1), plain_model)
    shared = DynamicWeightDecay(torch.optim.SGD(model.parameters(), 0.1), model, transform=classes.mean)
    for optimizer, network in ((plain, plain_model), (shared, model)):
        network(inputs).square().mean().backward()
        optimizer.step()
    own = {name: one.metric for name, one in plain.metrics().items()}
    expected = (own["norm1"] + own["norm2"]) / 2
    for name in ("norm1", "norm2"):
        torch.testing.assert_close(shared.metrics()[name].metric, expected)
        change = model.get_submodule(name).weight - plain_model.get_submodule(name).weight
        torch.testing.assert_close(change, -0.1 * 3.0 * (expected - own[name]) * torch.ones(5, dtype=torch.float64))
    assert (own["norm1"] - own["norm2"]).abs().min() > 1e-3


def test_copies_keep_it() -> None:
    model = Residual()
    optimizer = DynamicWeightDecay(
        torch.optim.SGD(model.parameters(), 0.1), model, transform=channel_groups(model, torch.rand(1, 3, 8, 8)).mean
    )
    twin, other = copy.deepcopy((model, optimizer))
    for network, its in ((model, optimizer), (twin, other)):
        network.zero_grad()
        network(torch.ones(2, 3, 8, 8)).mean().backward()
        its.step()
    assert torch.equal(other.metrics()["norm1"].metric, other.metrics()["norm2"].metric)
    assert torch.equal(other.metrics()["norm1"].metric, optimizer.metrics()["norm1"].metric)
