"""goctconv prune."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import goctconv
from goctconv.cli import main
from goctconv.models import CSNet
from reference.conditioning import calibrated


def saved_csnet(folder: Path) -> CSNet:
    """Save a tiny CSNet some of whose channels have γ = 0, and return it."""
    torch.manual_seed(0)
    model = calibrated(goctconv.create_model("test_csnet"), torch.randn(4, 3, 64, 64))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and module.num_features > 2:
                module.weight[:2] = 0
                module.bias[:2] = 0
    model.save_pretrained(folder, license="mit")
    return model.eval()


def saved_resnet(file: Path) -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", zero_init_last=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.05, 1.35)
            nn.init.normal_(module.bias, 0, 0.3)
    torch.save(model.state_dict(), file)
    return model.eval()


def test_a_csnet_reloads_with_plain_timm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved_csnet(tmp_path / "net")
    slim = tmp_path / "slim"
    assert main(["prune", f"local-dir:{tmp_path / 'net'}", "--threshold", "1e-20", "-o", str(slim)]) == 0
    printed = capsys.readouterr()
    assert "masked channels removed\n" in printed.out
    assert "equal to the masked network to " in printed.out
    assert f"local-dir:{slim}" in printed.err
    assert "untrained" not in printed.err
    again = timm.create_model(f"local-dir:{slim}", pretrained=True).eval()
    assert isinstance(again, CSNet)
    assert goctconv.create_model(f"local-dir:{slim}").weights_license == "mit"
    assert sum(p.numel() for p in again.parameters()) < sum(p.numel() for p in model.parameters())
    image = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(again(image), model(image), rtol=1e-4, atol=1e-4)


def test_a_resnet_comes_back_with_its_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved_resnet(tmp_path / "weights.pt")
    arguments = ["--weights", str(tmp_path / "weights.pt"), "--ratio", "0.3", "--size", "64x48"]
    assert main(["prune", "test_resnet", *arguments, "-o", str(tmp_path / "slim"), "--json"]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["model"] == "test_resnet"
    assert report["masked"] == 312
    assert 0 < report["removed"] < 312
    assert set(report["difference"]) == {"the example", "random input", "another size"}

    assert f"goctconv.load_pruned('{tmp_path / 'slim'}')" in printed.err
    again = goctconv.load_pruned(tmp_path / "slim").eval()
    masked = goctconv.load_plan(tmp_path / "slim" / "plan.json").mask(model)
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(again(image), masked(image), rtol=1e-4, atol=1e-4)


def test_options_reach_the_library(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved_resnet(tmp_path / "weights.pt")
    common = ["prune", "test_resnet", "--weights", str(tmp_path / "weights.pt"), "--size", "64", "--json"]

    def report(*options: str) -> dict[str, dict[str, int]]:
        assert main([*common, "-o", str(tmp_path / "slim"), *options]) == 0
        layers: dict[str, dict[str, int]] = json.loads(capsys.readouterr().out)["layers"]
        return layers

    plain = report("--ratio", "0.4")
    kept = report("--ratio", "0.4", "--keep", "layer1*", "layer2*")
    assert plain["layer1.0.bn1"]["removed"] > 0
    assert all(kept[name]["removed"] == 0 for name in kept if name.startswith(("layer1", "layer2")))
    for layer in report("--ratio", "0.4", "--round-to", "8").values():
        assert (layer["channels"] - layer["removed"]) % 8 == 0
    least = report("--threshold", "10", "--min-channels", "5")
    assert min(layer["channels"] - layer["removed"] for layer in least.values()) == 5
    zeroed = report("--ratio", "0.4", "--beta", "zero")
    assert sum(one["removed"] for one in zeroed.values()) > sum(one["removed"] for one in plain.values())
    coupled = report("--ratio", "0.4", "--coupled")
    assert sum(one["removed"] for one in coupled.values()) > sum(one["removed"] for one in plain.values())
    filters = report("--ratio", "0.4", "--criterion", "l1_filter")
    assert filters != plain


def test_page_and_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    saved_resnet(tmp_path / "weights.pt")
    files = ["--report", str(tmp_path / "new" / "page.html"), "--plot", str(tmp_path / "new" / "channels.png")]
    common = ["prune", "test_resnet", "--weights", str(tmp_path / "weights.pt"), "--size", "64", "--ratio", "0.3"]
    assert main([*common, "-o", str(tmp_path / "slim"), *files]) == 0
    assert "Removed channels of test_resnet" in (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert (tmp_path / "new" / "channels.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["channels.png", "page.html"]


def test_untrained_networks_are_pruned_with_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune", "test_resnet", "--threshold", "0", "--size", "64", "-o", str(tmp_path / "slim")]) == 0
    printed = capsys.readouterr()
    assert "test_resnet is untrained" in printed.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["csnet_y", "--ratio", "0.1"], "unknown model 'csnet_y'"),
        (["test_resnet", "--ratio", "0.1", "--weights", "none.pt"], "there is no such file"),
        (["test_resnet", "--ratio", "0.1", "--keep", "nothing"], "--keep 'nothing' matches no BatchNorm"),
        (["test_resnet", "--ratio", "0.1", "--criterion", "bn_scales"], "did you mean 'bn_scale'?"),
        (["test_vit", "--ratio", "0.1"], "has no BatchNorm"),
        (["levit_128s", "--ratio", "0.1", "--size", "64"], "does not run on --size"),
    ],
)
def test_what_cannot_be(
    arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["prune", *arguments, "-o", "slim"]) == 2
    printed = capsys.readouterr()
    assert expected in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["test_resnet", "-o", "slim"],
        ["test_resnet", "--ratio", "0.1"],
        ["test_resnet", "-o", "slim", "--ratio", "1"],
        ["test_resnet", "-o", "slim", "--ratio", "many"],
        ["test_resnet", "-o", "slim", "--threshold", "-1"],
        ["test_resnet", "-o", "slim", "--threshold", "nan"],
        ["test_resnet", "-o", "slim", "--threshold", "1", "--ratio", "0.1"],
        ["test_resnet", "-o", "slim", "--ratio", "0.1", "--round-to", "0"],
        ["test_resnet", "-o", "slim", "--ratio", "0.1", "--beta", "half"],
    ],
)
def test_arguments_that_do_not_parse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["prune", *arguments])
    assert caught.value.code == 2
    assert "goctconv prune: error:" in capsys.readouterr().err


def test_the_folder_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "slim").write_text("mine")
    assert main(["prune", "test_resnet", "--ratio", "0.1", "-o", str(tmp_path / "slim")]) == 2
    assert "this is a file" in capsys.readouterr().err
    assert (tmp_path / "slim").read_text() == "mine"


def test_a_file_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    arguments = ["--threshold", "0", "--size", "64", "-o", str(tmp_path / "slim")]
    assert main(["prune", "test_resnet", *arguments, "--report", str(tmp_path / "file" / "page.html")]) == 2
    assert "page.html: cannot be written" in capsys.readouterr().err


def test_no_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    arguments = ["--ratio", "0.1", "-o", str(tmp_path / "slim"), "--plot", str(tmp_path / "channels.png")]
    assert main(["prune", "test_resnet", *arguments]) == 2
    assert "goctconv[plots]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_help_imports_no_timm() -> None:
    code = "import sys; from goctconv.cli.prune import PRUNE; print({'timm', 'PIL'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
