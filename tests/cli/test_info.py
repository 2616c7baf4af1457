"""goctconv info."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import goctconv
from goctconv.cli import main


def test_costs_and_widths(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "csnet_x1_l"]) == 0
    shown = capsys.readouterr().out
    for expected in ("93,647", "375 KB", "0.2843 G", "0.4355 G", "19 13 | 19 17 | 20 12 | 34", "12 24 24", "2 2 4 5 4"):
        assert expected in shown


def test_widths_of_a_saved_network_and_another_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    goctconv.create_model("csnet_x1", split=(3, 1), fuse_stages=()).save_pretrained(tmp_path)
    assert main(["info", f"local-dir:{tmp_path}", "--size", "64x96"]) == 0
    shown = capsys.readouterr().out
    assert "15 5" in shown
    assert "64x96" in shown
    assert "fuse" not in shown


def test_head_and_backbone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "test_csf_resnet", "--size", "64"]) == 0
    shown = capsys.readouterr().out
    for expected in ("test_resnet: 372,688 parameters", "48 (1/8) 192 (1/16)", "32 32 96 64", "12 12 12 12 16", "224"):
        assert expected in shown


def test_other_networks_of_timm(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "resnet18"]) == 0
    shown = capsys.readouterr().out
    assert "11,689,512" in shown
    assert "1.81" in shown
    assert "paper" not in shown


def test_arguments_of_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "csnet_x1", "--model-args", "base_width=13"]) == 0
    assert "95,295" in capsys.readouterr().out
    assert main(["info", "csnet_x1", "--model-args", "width=13"]) == 2
    assert "is no argument of csnet_x1: the arguments are those of goctconv.models.CSNet" in capsys.readouterr().err
    for name in ("name", "pretrained", "checkpoint_path"):
        assert main(["info", "csnet_x1", "--model-args", f"{name}=1"]) == 2
        assert f"--model-args: {name} is no argument of the network" in capsys.readouterr().err
    assert main(["info", "csnet_x1", "--model-args", "weights=1"]) == 2
    assert "--model-args weights=1 is no argument of csnet_x1" in capsys.readouterr().err
    assert main(["info", "csnet_x1", "--model-args", "base_width=four"]) == 2
    assert "--model-args base_width='four' must be an integer" in capsys.readouterr().err


def test_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "csnet_x9"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_a_misfit_is_told_briefly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.pth"
    torch.save(goctconv.create_model("test_resnet").state_dict(), file)
    assert main(["info", "csnet_x1", "--weights", str(file)]) == 2
    told = capsys.readouterr().err
    assert "missing: stages.0.0.conv1.paths.0_to_0.weight" in told
    assert " more" in told
    assert len(told) < 2000
    assert main(["info", "csnet_x1", "--weights", str(tmp_path)]) == 2
    assert "this is a folder" in capsys.readouterr().err
