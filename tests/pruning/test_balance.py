"""Balanced choice: equally many channels of every group, every piece of a chunk, and whatever must stay equal."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from torch import Tensor, nn

from goctconv.pruning import PruningResult, plan_pruning, prune_channels
from reference.masking import largest_difference, mask_
from reference.random_networks import Drawn, networks
from reference.zoo.blocks import Activated, Chunked, Shuffled

EXAMPLE = torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


class Halves(nn.Module):
    """Two halves, cut by a length that is computed from the channels."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        return torch.cat([x[:, half:].relu(), x[:, :half]], 1)


def _grouped(groups: int) -> nn.Module:
    return Activated(nn.Conv2d(24, 24, 1, groups=groups, bias=False), nn.ReLU())


def _activated_half() -> nn.Module:
    return Activated(nn.Conv2d(12, 12, 1), nn.ReLU())


MIDDLES = {
    "grouped": lambda: [_grouped(4)],
    "grouped in other ways": lambda: [_grouped(4), _grouped(6), _grouped(2)],
    "chunk": lambda: [Chunked(Activated(nn.Conv2d(12, 12, 1, groups=3), nn.ReLU()))],
    "shuffle": lambda: [_grouped(4), Shuffled(4), _grouped(4)],
    "shuffled halves": lambda: [
        nn.ChannelShuffle(2),
        Chunked(_activated_half()),
        Shuffled(2),
        Chunked(_activated_half()),
    ],
    "halves": lambda: [Halves()],
    "chunk of halves": lambda: [Halves(), Chunked(Activated(nn.Conv2d(12, 12, 1), nn.ReLU())), _grouped(3)],
}


def _randomised(model: nn.Module) -> Any:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.05, 1.35)
            nn.init.normal_(module.bias, 0, 0.3)
    return model.double().eval()


def _network(middle: str) -> nn.Sequential:
    torch.manual_seed(5)
    body = [Activated(nn.Conv2d(3, 24, 1), nn.ReLU()), *MIDDLES[middle]()]
    model = nn.Sequential(*body, Activated(nn.Conv2d(24, 16, 1, bias=False), nn.ReLU()), nn.Conv2d(16, 5, 1))
    return _randomised(model)


def _assert_exact(model: nn.Module, result: PruningResult, example: Tensor) -> None:
    masked = result.plan.mask(copy.deepcopy(model))
    with torch.no_grad():
        assert largest_difference(result.model.eval()(example), masked(example)) < 1e-10


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("middle", MIDDLES)
def test_what_is_masked_goes(middle: str, groups: bool) -> None:
    model = _network(middle)
    channels = sum(module.num_features for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    result = prune_channels(model, EXAMPLE, ratio=0.3, groups=groups, balance=True)
    assert result.report.share == 1
    assert abs(result.report.masked - 0.3 * channels) <= 8
    _assert_exact(model, result, torch.randn(2, 3, 7, 12, dtype=torch.float64))


def test_every_group_loses_its_lowest() -> None:
    model = _network("grouped")
    masks = plan_pruning(model, EXAMPLE, ratio=0.3, balance=True).masked
    for norm in ("0.norm", "1.norm"):
        gamma = model.get_submodule(norm).weight.detach().reshape(4, 6)
        counts = [sum(channel // 6 == group for channel in masks[norm]) for group in range(4)]
        assert len(set(counts)) == 1
        lowest = [6 * group + int(i) for group in range(4) for i in gamma[group].argsort()[: counts[0]]]
        assert masks[norm] == sorted(lowest)


def test_a_threshold_masks_as_many_as_every_group_has_below_it() -> None:
    model = _network("grouped")
    with torch.no_grad():
        model[0].norm.weight.copy_(torch.linspace(1, 2, 24))
        model[0].norm.weight[torch.tensor([1, 2, 3, 7, 8, 12, 13, 14, 20, 23])] = 1e-3
        model[0].norm.weight[[2, 13]] = torch.tensor([2e-4, 1e-4], dtype=torch.float64)
    assert plan_pruning(model, EXAMPLE, threshold=1e-2).masked == {"0.norm": [1, 2, 3, 7, 8, 12, 13, 14, 20, 23]}
    plan = plan_pruning(model, EXAMPLE, threshold=1e-2, balance=True)
    assert len(plan.masked["0.norm"]) == 2 * 4
    assert plan.removed == plan.masked
    assert {2, 7, 8, 13, 20, 23} < set(plan.masked["0.norm"]) < {1, 2, 3, 7, 8, 12, 13, 14, 20, 23}


def test_a_group_without_channels_below_the_threshold_holds_the_others() -> None:
    model = _network("grouped")
    with torch.no_grad():
        model[0].norm.weight.fill_(1.0)[:18] = 1e-3
        model[2].norm.weight.fill_(1.0)[:3] = 1e-3
    assert plan_pruning(model, EXAMPLE, threshold=1e-2, balance=True).masked == {"2.norm": [0, 1, 2]}


@pytest.mark.parametrize(
    ("options", "most"),
    [({"scope": "layer"}, 0.3), ({"max_ratio": 0.2}, 0.2), ({"scope": "layer", "max_ratio": 0.17}, 0.17)],
)
def test_shares_of_layers(options: dict[str, Any], most: float) -> None:
    layers = plan_pruning(_network("grouped"), EXAMPLE, ratio=0.3, balance=True, **options).report.layers
    shares = {name: layer.masked / layer.channels for name, layer in layers.items()}
    for name, share in shares.items():
        unit = (4 if name != "2.norm" else 1) / layers[name].channels
        assert most - unit <= share <= most + (unit / 2 + 0.02 if options == {"scope": "layer"} else 0), name


def test_equal_scores_leave_no_layer_as_a_whole() -> None:
    model = _network("grouped in other ways")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    report = plan_pruning(model, EXAMPLE, ratio=0.5, balance=True).report
    assert report.share == 1
    assert all(0.25 <= layer.removed / layer.channels <= 0.75 for layer in report.layers.values())


def test_layers_that_are_kept_hold_the_pieces_they_are_in() -> None:
    plan = plan_pruning(_network("grouped"), EXAMPLE, ratio=0.3, balance=True, keep=["1"])
    assert set(plan.masked) == {"0.norm", "2.norm"}
    assert plan.report.share == 1


@given(drawn=networks())
@settings(max_examples=8, deadline=None)
def test_the_result_is_the_masked_network(drawn: Drawn) -> None:
    result = prune_channels(drawn.model, drawn.example, ratio=0.4, groups=True, balance=True)
    model = mask_(
        copy.deepcopy(drawn.model),
        {
            name: torch.isin(
                torch.arange(layer.channels), torch.tensor(result.plan.masked.get(name, []), dtype=torch.long)
            )
            for name, layer in result.report.layers.items()
        },
    )
    with torch.no_grad():
        assert largest_difference(result.model.eval()(drawn.example), model.eval()(drawn.example)) < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["regnetz_b16", "resnext50_32x4d", "regnety_002", "shufflenet_v2_x0_5"])
def test_networks_lose_what_is_masked(name: str) -> None:
    torch.manual_seed(5)
    make = torchvision.models.get_model if name.startswith("shuffle") else timm.create_model
    model, example = _randomised(make(name)), torch.rand(1, 3, 64, 64).double()
    options = {"ratio": 0.3, "groups": True, "bn_bias": "zero"}
    assert plan_pruning(model, example, **options).report.share < 0.9
    result = prune_channels(model, example, **options, balance=True)
    assert result.report.share >= 0.99
    _assert_exact(model, result, torch.rand(2, 3, 96, 64).double())
