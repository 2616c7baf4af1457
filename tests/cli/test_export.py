"""goctconv export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import goctconv
from goctconv.cli import main
from reference.conditioning import calibrated

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:torch")
def test_writes_a_checked_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    calibrated(goctconv.create_model("test_csnet"), torch.randn(4, 3, 64, 64)).save_pretrained(tmp_path / "net")
    assert main(["export", f"local-dir:{tmp_path / 'net'}", "--onnx", str(tmp_path / "net.onnx")]) == 0
    assert (tmp_path / "net.onnx").stat().st_size > 0
    assert "equal to the original" in capsys.readouterr().err


def test_untrained_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "csnet_x1", "--onnx", str(tmp_path / "net.onnx")]) == 2
    assert "--weights" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
