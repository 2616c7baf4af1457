"""M can be changed before it is used: channels that can only be removed together fade alike."""

from __future__ import annotations

import copy

import torch

from goctconv import DynamicWeightDecay
from goctconv.pruning import channel_groups
from reference.zoo.wiring import InvertedResidual


def test_classes_share_their_mean() -> None:
    model = InvertedResidual().double()
    plain_model = copy.deepcopy(model)
    inputs = torch.rand(4, 3, 8, 8, dtype=torch.float64)
    classes = channel_groups(model, inputs)
    plain = DynamicWeightDecay(torch.optim.SGD(plain_model.parameters(), 0.1), plain_model)
    shared = DynamicWeightDecay(torch.optim.SGD(model.parameters(), 0.1), model, transform=classes.mean)
    for optimizer, network in ((plain, plain_model), (shared, model)):
        network(inputs).square().mean().backward()
        optimizer.step()
    own = {name: one.metric for name, one in plain.metrics().items()}
    expected = (own["norm0"] + own["norm3"]) / 2
    for name in ("norm0", "norm3"):
        torch.testing.assert_close(shared.metrics()[name].metric, expected)
        change = model.get_submodule(name).weight - plain_model.get_submodule(name).weight
        torch.testing.assert_close(change, -0.1 * 3.0 * (expected - own[name]) * torch.ones(5, dtype=torch.float64))
    assert (own["norm0"] - own["norm3"]).abs().min() > 1e-3


def test_copies_keep_it() -> None:
    model = InvertedResidual()
    optimizer = DynamicWeightDecay(
        torch.optim.SGD(model.parameters(), 0.1), model, transform=channel_groups(model, torch.rand(1, 3, 8, 8)).mean
    )
    twin, other = copy.deepcopy((model, optimizer))
    for network, its in ((model, optimizer), (twin, other)):
        network.zero_grad()
        network(torch.ones(2, 3, 8, 8)).mean().backward()
        its.step()
    assert torch.equal(other.metrics()["norm0"].metric, other.metrics()["norm3"].metric)
    assert torch.equal(other.metrics()["norm0"].metric, optimizer.metrics()["norm0"].metric)
