"""Weights that come with the package: as they were packed, loaded without consent or network, told from all others."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import timm
import torch

import goctconv
from goctconv.cli import main
from goctconv.models.hub import FOLDER, pack, size_of_weights
from goctconv.models.hub._packed import unpack

MOST_BYTES = 700_000
PACKED = [name for name in timm.list_pretrained("csnet*") if (FOLDER / f"{name}.safetensors").is_file()]


def test_what_is_packed_comes_back(tmp_path: Path) -> None:
    model = goctconv.create_model("test_csnet")
    file = tmp_path / "packed.safetensors"
    halved = {name for name, _ in model.named_parameters()}
    pack(model.state_dict(), file, halved)
    found = unpack(file)
    assert found.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        expected = tensor.half().float() if name in halved else tensor
        assert torch.equal(found[name], expected), name
        assert found[name].dtype == tensor.dtype


@pytest.mark.parametrize("name", PACKED)
def test_needs_no_network_and_no_consent(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GOCTCONV_ACCEPT_LICENSES", raising=False)
    architecture = name.partition(".")[0]
    by_default, by_tag = (goctconv.create_model(given, pretrained=True) for given in (architecture, name))
    by_timm = timm.create_model(architecture, pretrained=True)
    for model in (by_tag, by_timm):
        assert all(map(torch.equal, model.state_dict().values(), by_default.state_dict().values()))
    assert by_default.weights_license == "apache-2.0"
    assert size_of_weights(by_default) == by_default.pretrained_cfg["input_size"][1:]
    by_default.save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["pretrained_cfg"]["license"] == "apache-2.0"
    again = goctconv.create_model(f"local-dir:{tmp_path / 'saved'}")
    assert all(map(torch.equal, again.state_dict().values(), by_default.state_dict().values()))
    assert size_of_weights(again) == size_of_weights(by_default)


def test_other_weights_keep_the_published_size() -> None:
    model = goctconv.create_model("csnet_x1_l")
    assert size_of_weights(model) is None
    assert model.pretrained_cfg["input_size"] == (3, 224, 224)


def test_they_are_small_and_have_a_card() -> None:
    assert PACKED
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= MOST_BYTES
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(name in card for name in PACKED)


@pytest.mark.slow
def test_scores_of_the_model_card(shared: Path, tmp_path: Path) -> None:
    assert main(["evaluate", str(shared / "data" / "ecssd_200"), "--json", str(tmp_path / "scores.json")]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())["data_sets"][0]["scores"]
    assert scores["max_f"] == pytest.approx(0.872, abs=1e-3)
    assert scores["mae"] == pytest.approx(0.080, abs=1e-3)
