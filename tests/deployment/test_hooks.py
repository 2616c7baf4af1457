"""Folding while a model is watched by DynamicWeightDecay, and hooks of others."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import goctconv
from goctconv import DynamicWeightDecay


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU()),
        *(nn.Conv2d(5, 7, 3), nn.BatchNorm2d(7), nn.ReLU(), nn.Conv2d(7, 2, 1)),
    )


def train(model: nn.Module, optimizer: DynamicWeightDecay, steps: int = 1) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.rand(4, 3, 12, 12, generator=generator)).square().mean().backward()
        optimizer.step()


def watched() -> tuple[nn.Sequential, DynamicWeightDecay]:
    model = network()
    return model, DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.1), model)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_watched_model_is_folded(steps: int) -> None:
    """Before the first step, hooks are on every module; later on BatchNorms and the activations behind them."""
    model, optimizer = watched()
    train(model, optimizer, steps)
    deployed = goctconv.deploy(model)
    assert set(deployed.deployment.folded) == {"1", "4"}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in deployed.modules())
    images = torch.rand(2, 3, 13, 9)
    torch.testing.assert_close(deployed(images), model.eval()(images), rtol=1e-4, atol=1e-5)


def test_a_copy_of_a_watched_model_is_folded() -> None:
    model, optimizer = watched()
    train(model, optimizer)
    assert set(goctconv.deploy(copy.deepcopy(model)).deployment.folded) == {"1", "4"}


def test_statistics_of_the_original_continue() -> None:
    """Training goes on to the last bit as if nothing had been deployed in between."""
    model, optimizer = watched()
    alone, plain = watched()
    for _ in range(3):
        train(model, optimizer)
        train(alone, plain)
        goctconv.deploy(model)
    assert optimizer.metrics()["1"].images == 4
    for name, tensor in alone.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


@pytest.mark.parametrize("layer", [0, 1])
def test_hooks_of_others_still_count(layer: int) -> None:
    """Where somebody else's hook is on a convolution or its BatchNorm, the two stay apart, and the hook is called."""
    model, optimizer = watched()
    train(model, optimizer)
    model[layer].register_forward_hook(lambda _module, _args, output: 2 * output)
    deployed = goctconv.deploy(model)
    assert set(deployed.deployment.folded) == {"4"}
    assert len(deployed.network[layer]._forward_hooks) == 1
    images = torch.rand(2, 3, 13, 9)
    torch.testing.assert_close(deployed(images), model.eval()(images), rtol=1e-4, atol=1e-5)
