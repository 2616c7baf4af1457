"""Channels that can only be removed together: classes, their means, and a penalty that makes classes vanish."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from goctconv.pruning import ChannelGroups, PruningError, channel_groups
from reference.zoo.wiring import InvertedResidual, SortedChannels


@pytest.fixture
def classes() -> ChannelGroups:
    return channel_groups(InvertedResidual(), torch.rand(1, 3, 8, 8))


def test_classes(classes: ChannelGroups) -> None:
    assert classes.count == 5 + 7
    for channel in range(5):
        assert classes.members("norm0", channel) == [("norm0", channel), ("norm3", channel)]
        assert classes.members("norm3", channel) == classes.members("norm0", channel)
    for channel in range(7):
        assert classes.members("norm2", channel) == [("norm1", channel), ("norm2", channel)]
    with pytest.raises(KeyError, match=r"no BatchNorm 'norm9'; there are norm0"):
        classes.members("norm9", 0)


def test_every_stage_of_a_resnet_is_one_class() -> None:
    model = timm.create_model("resnet18")
    classes = channel_groups(model, torch.rand(1, 3, 32, 32))
    names = {name for name, _ in classes.members("layer2.0.bn2", 77)}
    assert names == {"layer2.0.bn2", "layer2.0.downsample.1", "layer2.1.bn2"}
    assert classes.count == 2 * (64 + 128 + 256 + 512) + 64 + 128 + 256 + 512


def test_mean(classes: ChannelGroups) -> None:
    values = {"norm0": torch.arange(5.0), "norm3": torch.full((5,), 10.0), "norm1": torch.ones(7)}
    found = classes.mean(values)
    assert found.keys() == values.keys()
    assert found["norm0"].tolist() == found["norm3"].tolist() == [(channel + 10) / 2 for channel in range(5)]
    assert found["norm1"].tolist() == [1.0] * 7  # of the layers that are given
    assert classes.mean({"other": torch.ones(2)})["other"].tolist() == [1.0, 1.0]


def test_group_lasso(classes: ChannelGroups) -> None:
    model = InvertedResidual().double()
    scales = {name: model.get_submodule(name).weight for name in ("norm0", "norm1", "norm2", "norm3")}
    with torch.no_grad():
        for scale in scales.values():
            scale.uniform_(-1, 1)
        scales["norm1"][2] = scales["norm2"][2] = 0  # a class that has vanished
    expected = sum(
        2**0.5 * (scales[a][channel] ** 2 + scales[b][channel] ** 2) ** 0.5
        for a, b, channels in (("norm0", "norm3", 5), ("norm1", "norm2", 7))
        for channel in range(channels)
        if (a, channel) != ("norm1", 2)
    )
    penalty = classes.group_lasso(model)
    torch.testing.assert_close(penalty, expected)
    penalty.backward()
    for scale in scales.values():
        assert scale.grad is not None
        assert torch.isfinite(scale.grad).all()
    assert scales["norm1"].grad[2] == scales["norm2"].grad[2] == 0
    size = (scales["norm0"][0] ** 2 + scales["norm3"][0] ** 2) ** 0.5
    torch.testing.assert_close(scales["norm0"].grad[0], 2**0.5 * scales["norm0"][0] / size)


def test_what_cannot_be_traced_is_an_error() -> None:
    with pytest.raises(PruningError, match="no BatchNorm with γ"):
        channel_groups(nn.Conv2d(3, 5, 3), torch.rand(1, 3, 8, 8))


def test_classes_of_a_pruned_network(classes: ChannelGroups) -> None:
    left = classes.without({"norm0": [1, 4], "norm3": [1, 4], "norm1": [0], "norm2": [0]})
    assert (left.count, repr(left)) == (3 + 6, "ChannelGroups(9 groups of 18 channels in 4 layers)")
    assert left.members("norm0", 2) == [("norm0", 2), ("norm3", 2)]
    assert left.members("norm1", 0) == [("norm1", 0), ("norm2", 0)]
    with pytest.raises(ValueError, match=r"values=5 channels of 'norm0', expected 3: use groups.without"):
        left.mean({"norm0": torch.ones(5)})
    with pytest.raises(ValueError, match="values=5 channels of 'norm0', expected 3"):
        left.group_lasso(InvertedResidual())


def test_a_wrapped_network_has_the_same_penalty(classes: ChannelGroups) -> None:
    model = InvertedResidual()
    assert classes.group_lasso(nn.DataParallel(model)) == classes.group_lasso(model) > 0


def test_channels_that_nobody_knows_are_in_no_class_of_others() -> None:
    classes = channel_groups(SortedChannels(), torch.rand(1, 3, 8, 8))
    assert classes.count == 7
    assert classes.members("behind", 2) == [("behind", 2)]
