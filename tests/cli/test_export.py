"""goctconv export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import goctconv
from goctconv.cli import main
from reference.conditioning import calibrated
from saliency.pictures import gradient, save

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:torch")
def test_writes_a_checked_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    calibrated(goctconv.create_model("test_csnet"), torch.randn(4, 3, 64, 64)).save_pretrained(tmp_path / "net")
    assert main(["export", f"local-dir:{tmp_path / 'net'}", "--onnx", str(tmp_path / "net.onnx")]) == 0
    assert (tmp_path / "net.onnx").stat().st_size > 0
    assert "equal to the original" in capsys.readouterr().err
    photographs, maps = tmp_path / "photographs", tmp_path / "maps"
    save(photographs / "a.png", gradient(20, 30))
    net = ["--model", str(tmp_path / "net.onnx"), "--size", "32"]
    assert main(["predict", str(photographs), "-o", str(maps), *net]) == 0
    assert [path.name for path in maps.iterdir()] == ["a.png"]
    assert "exporting" not in capsys.readouterr().err
    assert main(["predict", str(photographs), "-o", str(maps), *net, "--pretrained"]) == 2
    assert "has its weights in it" in capsys.readouterr().err
    again = ["--model", f"local-dir:{tmp_path / 'net'}", "--size", "32", "--backend", "onnx"]
    assert main(["predict", str(photographs), "-o", str(tmp_path / "again"), *again]) == 0
    assert "exporting the network first" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:torch")
def test_one_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    calibrated(goctconv.create_model("test_csnet"), torch.randn(4, 3, 64, 64)).save_pretrained(tmp_path / "net")
    file = str(tmp_path / "net.onnx")
    assert main(["export", f"local-dir:{tmp_path / 'net'}", "--size", "48x64", "--onnx", file]) == 0
    assert "equal to the original at this size" in capsys.readouterr().err
    save(tmp_path / "a.png", gradient(20, 30))
    options = ["predict", str(tmp_path / "a.png"), "-o", str(tmp_path / "maps"), "--model", file]
    assert main([*options, "--size", "48x64"]) == 0
    assert main([*options, "--size", "own"]) == 2
    assert "takes images of 48x64 alone, not of any size" in capsys.readouterr().err


def test_c(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    goctconv.create_model("test_csnet").save_pretrained(tmp_path / "net")
    network = f"local-dir:{tmp_path / 'net'}"
    assert main(["export", network, "--c", str(tmp_path / "net.c"), "--main"]) == 0
    assert "KB of C" in capsys.readouterr().err
    assert "int main(" in (tmp_path / "net.c").read_text(encoding="utf-8")
    assert main(["export", network, "--onnx", str(tmp_path / "net.onnx"), "--main"]) == 2
    assert "--main belongs to --c FILE.c" in capsys.readouterr().err


def test_say_what_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "csnet_x1"]) == 2
    assert "--openvino FILE.xml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("csnet_x9", "did you mean"),
        ("net.onnx", "is an exported network: name the one that it was made from"),
        ("FILE", "is a file: name the network that it holds weights of, and add --weights"),
        ("resnet18", "the maps of an untrained resnet18 mean nothing"),
    ],
)
def test_names_are_read_before_weights(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"")
    assert main(["export", str(file) if name == "FILE" else name, "--onnx", str(tmp_path / "a.onnx")]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "--pretrained" not in told


def test_suffixes_are_those_of_the_engine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "csnet_x1_l", "--onnx", "a.xml"]) == 2
    assert "--onnx a.xml: .xml is OpenVINO's" in capsys.readouterr().err


def test_untrained_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "csnet_x1", "--onnx", str(tmp_path / "net.onnx")]) == 2
    assert "--weights" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
