"""What `DynamicWeightDecay.sparsity` counts."""

from __future__ import annotations

import copy

import timm
import torch

from goctconv import DynamicWeightDecay


def test_gammas_that_start_at_zero_are_untrained_and_not_faded() -> None:
    model = timm.create_model("test_resnet", num_classes=2)
    zero = [
        name for name, norm in model.named_modules() if isinstance(norm, torch.nn.BatchNorm2d) and not norm.weight.any()
    ]
    assert zero
    optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.1), model)
    found = optimizer.sparsity()
    assert (found.faded, found.untrained) == (0, zero)
    assert "more are 0 since the start" in str(found)
    with torch.no_grad():
        model.get_submodule(zero[0]).weight[0] = 1.0  # as a step does
        model.bn1.weight[:3] = 0.0
    for own in (optimizer, copy.deepcopy(optimizer)):
        found = own.sparsity()
        channels = model.get_submodule(zero[0]).num_features
        assert found.untrained == zero[1:]
        assert found.layers[zero[0]] == (channels - 1, channels)
        assert found.layers["bn1"][0] == 3
        assert found.faded == channels - 1 + 3


def test_text_without_untrained_layers() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.BatchNorm2d(8))
    optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.1), model)
    assert str(optimizer.sparsity(2.0)) == "8 of 8 channels (100.0%) are below 2"
