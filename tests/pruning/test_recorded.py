"""Pruning CSNet by the authors' rule gives the channels, the widths and the logits that were recorded from theirs."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import torch

import goctconv
from goctconv.models import CSNet
from goctconv.models.csnet._checkpoint import LAYOUT
from goctconv.pruning import PruningResult

if TYPE_CHECKING:
    from pathlib import Path

TOLERANCE = 1e-10


@pytest.fixture(scope="module")
def recorded(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "reference/prune_csnet.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def channels(shared: Path) -> list[Any]:
    return json.loads((shared / "reference/prune_channels_csnet.json").read_text(encoding="utf-8"))


def network(recorded: dict[str, np.ndarray]) -> CSNet:
    model = goctconv.create_model("csnet_x1").double()
    assert isinstance(model, CSNet)
    full = {key[5:]: torch.from_numpy(array) for key, array in recorded.items() if key.startswith("full/")}
    model.load_state_dict(LAYOUT.converted(full, model))
    return model.eval()


@pytest.fixture(scope="module")
def result(recorded: dict[str, np.ndarray]) -> PruningResult:
    example = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    return goctconv.prune_channels(network(recorded), example, threshold=1e-20, criterion="gamma_first")


def logits(model: torch.nn.Module, recorded: dict[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(recorded["input"])).numpy()


def test_parameters(recorded: dict[str, np.ndarray], result: PruningResult) -> None:
    assert result.report.parameters == (210_985, 94_386)
    assert sum(one.numel() for one in result.model.parameters()) == int(recorded["params_pruned"]) == 94_386


def test_logits(recorded: dict[str, np.ndarray], result: PruningResult) -> None:
    actual, expected = logits(result.model, recorded), recorded["logits_pruned"]
    assert np.abs(actual - expected).max() <= TOLERANCE * np.abs(expected).max()
    assert np.abs(actual - recorded["logits_full"]).max() <= TOLERANCE * np.abs(expected).max()


def test_kept_channels(recorded: dict[str, np.ndarray], result: PruningResult) -> None:
    expected = {key[5:]: array.tolist() for key, array in recorded.items() if key.startswith("kept/")}
    actual = {}
    for place in LAYOUT.places(network(recorded), {}):
        layer, _, attribute = place.name.rpartition(".")
        if layer in result.report.layers and attribute == "weight":
            gone = set(result.plan.removed.get(layer, []))
            kept = [one for one in range(result.report.layers[layer].channels) if one not in gone]
            actual[place.key.removesuffix(".weight")] = kept
    assert len(expected) == 106
    assert actual == expected


def test_channel_lists(channels: list[Any], result: PruningResult) -> None:
    assert isinstance(result.model, CSNet)
    found = result.model.channels
    *blocks, fuse, (_, _, dilated), last = channels
    assert [list(as_list(block)) for stage in found["stages"] for block in stage] == [out for _, out in blocks]
    assert (found["fuse"], found["dilated"], [found["fused"]]) == (fuse[1], dilated, last[1])


def as_list(widths: Any) -> list[int]:
    return [widths] if isinstance(widths, int) else list(widths)


@pytest.mark.parametrize("package", ["goctconv", "timm"])
def test_a_saved_network_is_reloaded(
    package: str, recorded: dict[str, np.ndarray], result: PruningResult, tmp_path: Path
) -> None:
    assert isinstance(result.model, CSNet)
    result.model.save_pretrained(tmp_path)
    name = f"local-dir:{tmp_path}"
    again = goctconv.create_model(name) if package == "goctconv" else timm.create_model(name, pretrained=True)
    state, expected = again.state_dict(), copy.deepcopy(result.model).float().state_dict()
    assert list(state) == list(expected)
    for key, value in expected.items():
        assert torch.equal(state[key], value), key
    difference = np.abs(logits(again.double().eval(), recorded) - recorded["logits_pruned"]).max()
    assert difference <= 1e-4 * np.abs(recorded["logits_pruned"]).max()


def test_a_plan_and_a_state_dict_make_it_again(result: PruningResult, tmp_path: Path) -> None:
    result.plan.save(tmp_path / "plan.json")
    again = goctconv.load_plan(tmp_path / "plan.json").apply(goctconv.create_model("csnet_x1"))
    again.load_state_dict(result.model.state_dict(), strict=True)
    assert isinstance(again, CSNet)
    assert again.channels == result.model.channels
