"""A hundred and ten networks lose channels: what they compute stays the same, and so does all that is not a width."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from goctconv.pruning import PruningResult, load_plan, prune_channels
from markdown_blocks import ROOT
from reference.masking import largest_difference, mask_, masked_channels, noise, prepared, seed_of
from reference.networks import FIXED_SIZES, NETWORKS, images

QUICK = {
    "timm/cs3darknet_focus_s",  # strided slicing, chunks
    "timm/dla46x_c",
    "timm/dpn48b",  # slices, and tuples between blocks
    "timm/ecaresnet26t",  # a convolution over channels
    "timm/efficientnet_cc_b0_4e",  # weights computed from the images
    "timm/ese_vovnet19b_dw",
    "timm/ghostnet_050",  # slices
    "timm/hrnet_w18_small",  # sums over scales
    "timm/inception_v3",  # averages that count a border
    "timm/lambda_resnet26t",  # sizes read from other tensors
    "timm/lcnet_050",
    "timm/levit_128s",  # attention, cached biases, BatchNorm of tokens
    "timm/mixnet_s",  # splits into unequal parts
    "timm/mobilevitv2_050",
    "timm/regnety_002",
    "timm/repvgg_a0",
    "timm/res2net50_14w_8s",  # splits by a number that becomes a list
    "timm/resnest14d",  # softmax over an axis that is no channel
    "timm/resnet18",
    "timm/resnetblur18",  # a number of groups that is an attribute of another module
    "timm/tiny_vit_5m_224",  # channels last
    "torchvision/googlenet",  # auxiliary heads
    "torchvision/lraspp_mobilenet_v3_large",  # two outputs of a backbone
    "torchvision/shufflenet_v2_x0_5",
}
LARGE = {"timm/nasnetalarge", "timm/pnasnet5large", "timm/convmixer_768_32", "torchvision/wide_resnet50_2"}
SHARES = {
    "timm/resnet50": (0.29, 1.00),
    "timm/vgg11_bn": (1.00, 1.00),
    "timm/densenet121": (0.19, 1.00),
    "timm/inception_v3": (0.98, 0.98),
    "timm/efficientnet_lite0": (0.78, 1.00),
    "timm/mobilenetv4_conv_small_035": (0.80, 1.00),
    "timm/hrnet_w18_small": (0.39, 1.00),
    "timm/dla34": (0.52, 1.00),
    "timm/efficientnet_b0": (0.08, 0.14),
    "torchvision/googlenet": (0.96, 0.96),  # its auxiliary heads keep theirs
}
"""Shares of the masked channels that go: masked each on its own, and all together that can only go together."""
_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4}


def pruned(name: str, *, groups: bool, biases: bool) -> tuple[nn.Module, PruningResult, Tensor]:
    """Return a masked network, the slim one, and what both take."""
    model = prepared(name, smallest=True)
    example = images(name, batch=1, smallest=True).double()
    masks = masked_channels(model, example, groups=groups)
    result = prune_channels(
        mask_(copy.deepcopy(model), masks),
        example,
        threshold=1e-20,
        bn_bias="zero" if biases else "keep",
        verify=False,
    )
    return mask_(model, masks, biases=biases), result, example


@torch.no_grad()
def assert_equal(slim: nn.Module, masked: nn.Module, example: Tensor) -> None:
    """The outputs of two networks differ by no more than rounding does."""
    difference = largest_difference(slim(example), masked(example))
    assert difference <= _TOLERANCE[example.dtype] or difference <= 10 * noise(masked, example)


def inputs(name: str, example: Tensor) -> list[Tensor]:
    """Return the example, and random input of another size, where the network takes one."""
    if name in FIXED_SIZES:
        return [example]
    return [example, torch.randn(2, 3, example.shape[2] + 32, example.shape[3]).double()]


def floor(name: str, *, groups: bool, biases: bool) -> float:
    """Return the share of masked channels that went when the benchmark was last run, on larger images."""
    table = json.loads((ROOT / "benchmarks" / "pruning_networks.json").read_text(encoding="utf-8"))
    share: float = table[name][f"{'groups' if groups else 'independent'}-{'zero' if biases else 'keep'}"]["share"]
    return share


def check(name: str, folder: Path) -> None:
    seed = seed_of(name)
    masked, result, example = pruned(name, groups=bool(seed & 1), biases=bool(seed & 2))
    for one in inputs(name, example):
        assert_equal(result.model, masked, one)
    kinds = [[(path, type(module)) for path, module in model.named_modules()] for model in (masked, result.model)]
    assert kinds[0] == kinds[1]
    assert len(list(result.model.parameters())) >= len(list(masked.parameters()))
    check_saved(result, masked, example, folder)
    assert result.report.removed > 0
    assert result.report.share >= floor(name, groups=bool(seed & 1), biases=bool(seed & 2)) - 0.03
    again = prune_channels(result.model, example, threshold=1e-20, verify=False)
    assert again.report.removed == 0
    if name not in LARGE:
        assert_equal(result.model.float(), masked.float(), example.float())


def check_saved(result: PruningResult, masked: nn.Module, example: Tensor, folder: Path) -> None:
    """A plan turns a fresh network into one that takes the slim one's state dict, and then is equal to it."""
    result.plan.save(folder / "plan.json")
    fresh = copy.deepcopy(masked)
    for parameter in fresh.parameters():
        nn.init.ones_(parameter)
    slim = load_plan(folder / "plan.json").apply(fresh)
    assert set(slim.state_dict()) == set(result.model.state_dict())
    slim.load_state_dict(result.model.state_dict(), strict=True)
    with torch.no_grad():
        assert largest_difference(slim(example), result.model(example)) == 0


@pytest.mark.parametrize("name", sorted(QUICK))
def test_networks_are_as_the_masked_ones(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in QUICK])
def test_all_other_networks_are_as_the_masked_ones(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("groups", [False, True])
def test_as_many_channels_go_as_can(name: str, groups: bool) -> None:
    _, result, _ = pruned(name, groups=groups, biases=False)
    assert result.report.share >= SHARES[name][groups] - 0.03
