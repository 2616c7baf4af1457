"""Multiply-accumulate operations against the published tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import goctconv
from goctconv import GOctConv
from goctconv.models import count_macs
from reference.zoo.wiring import OnTwoScales

ROWS = json.loads((Path(__file__).parent / "macs.json").read_text())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['model']}-{row['arguments']}")
def test_published_operations(row: dict[str, Any]) -> None:
    model = goctconv.create_model(row["model"], **row["arguments"])
    assert round(count_macs(model, convention="paper") / 1e9, 4) == row["paper"]
    if row["conv"] is not None:
        assert round(count_macs(model) / 1e9, 4) == row["conv"]


def test_each_rule_of_the_paper_by_hand() -> None:
    conv = GOctConv((2, 3), (5, 7), 3, stride=2)
    # 12x20 and 6x10 come in, are pooled to 6x10 and 3x5
    products = 9 * (2 * 5 * 60 + 2 * 7 * 15 + 3 * 5 * 15 + 3 * 7 * 15)
    biases = 5 * 60 + 7 * 15
    stride = 5 * (2 * 240 + 3 * 60)
    down, up = 9 * 2 * 15, 9 * 5 * 60

    net = OnTwoScales(conv)
    assert count_macs(net, (12, 20), in_chans=5) == products
    elements = 5 * 60
    assert count_macs(net, (12, 20), "paper", in_chans=5) == products + biases + stride + down + up + 7 * elements


def test_the_network_is_left_alone() -> None:
    model = goctconv.create_model("test_csnet").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    count_macs(model, convention="paper")
    assert model.training
    assert next(model.parameters()).device.type == "cpu"
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_any_network_and_image() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 8 * 8, 10))
    assert count_macs(net, 8, in_chans=1) == 4 * 9 * 64 + 4 * 64 * 10
    model = goctconv.create_model("test_csnet", in_chans=1)
    assert count_macs(model, (64, 96)) < count_macs(model, (96, 96))


@pytest.mark.parametrize("size", [(224,), (3, 224, 224)])
def test_a_size_is_height_and_width(size: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be one integer, or height and width"):
        count_macs(nn.Identity(), size)


def test_unknown_convention() -> None:
    with pytest.raises(ValueError, match="convention='thop'"):
        count_macs(nn.Identity(), convention="thop")
