"""Costs of a forward pass, against PyTorch's own counter."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from goctconv.graph import MacsCounter, measuring_cost, recording

NETWORKS = ["test_vit", "test_resnet", "test_efficientnet", "test_convnext", "levit_128s", "edgenext_xx_small"]


@pytest.mark.parametrize("name", NETWORKS)
def test_operations_are_those_that_torch_counts(name: str) -> None:
    model = timm.create_model(name).to("meta").eval()
    size = 224 if "test_" not in name else 160
    image = torch.empty(1, 3, size, size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as expected:
        model(image)
    counter = MacsCounter()
    with torch.no_grad(), recording(model, counter):
        model(image)
    assert counter.total == expected.get_total_flops() // 2 > 0


@pytest.mark.parametrize(
    "model",
    [
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
        nn.Sequential(nn.Conv2d(4, 2, 1), nn.ConvTranspose2d(2, 3, 2)),
    ],
)
def test_hooks_count_what_the_recording_counts(model: nn.Module) -> None:
    counter = MacsCounter()
    with torch.no_grad(), recording(model, counter), measuring_cost(model) as cost:
        output = model(torch.zeros(2, 4, 7, 5))
    assert cost.macs == counter.total > 0
    assert cost.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert cost.activations >= output.numel() * 4
    assert not any(module._forward_hooks for module in model.modules())
