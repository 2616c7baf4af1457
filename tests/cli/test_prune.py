"""goctconv prune."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from torch import nn

import goctconv
from goctconv.cli import main
from goctconv.cli._prune import _CRITERIA
from goctconv.models import CSNet
from goctconv.pruning._criteria import CRITERIA
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


def save_slim(folder: Path, weights: Path) -> None:
    """Save a tiny pruned ResNet."""
    saved_resnet(weights)
    arguments = ["--weights", str(weights), "--ratio", "0.3", "--bn-bias", "zero", "--size", "64", "-o", str(folder)]
    assert main(["prune", "test_resnet", *arguments]) == 0


def test_a_csnet_reloads_with_plain_timm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved_csnet(tmp_path / "net")
    slim = tmp_path / "slim"
    assert main(["prune", f"local-dir:{tmp_path / 'net'}", "--threshold", "1e-20", "-o", str(slim)]) == 0
    printed = capsys.readouterr()
    assert "masked channels removed; masking changes the outputs" in printed.out
    assert "equal to the masked network to " in printed.out
    assert f"load it as local-dir:{slim}; in plain timm too" in printed.err
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

    assert (
        f"load it as local-dir:{tmp_path / 'slim'}; in Python goctconv.load_pruned('{tmp_path / 'slim'}')"
        in printed.err
    )
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
    kept = report("--ratio", "0.4", "--keep", "layer1*", "--keep", "layer2*")
    assert plain["layer1.0.bn1"]["removed"] > 0
    assert all(kept[name]["removed"] == 0 for name in kept if name.startswith(("layer1", "layer2")))
    for layer in report("--ratio", "0.4", "--round-to", "8").values():
        assert (layer["channels"] - layer["removed"]) % 8 == 0
    least = report("--threshold", "10", "--min-channels", "5")
    assert min(layer["channels"] - layer["removed"] for layer in least.values()) == 5
    zeroed = report("--ratio", "0.4", "--bn-bias", "zero")
    assert sum(one["removed"] for one in zeroed.values()) > sum(one["removed"] for one in plain.values())
    groups = report("--ratio", "0.4", "--groups")
    assert sum(one["removed"] for one in groups.values()) > sum(one["removed"] for one in plain.values())
    filters = report("--ratio", "0.4", "--criterion", "l1_filter")
    assert filters != plain
    for layer in report("--ratio", "0.5", "--scope", "layer").values():
        assert layer["masked"] == layer["channels"] // 2
    for layer in report("--threshold", "10", "--max-ratio", "0.25").values():
        assert layer["masked"] == layer["channels"] // 4


def test_keep_leaves_the_model_alone(tmp_path: Path) -> None:
    arguments = ["--ratio", "0.1", "--size", "64", "-o", str(tmp_path / "slim")]
    assert main(["prune", *arguments, "--keep", "layer1*", "test_resnet"]) == 0
    assert goctconv.load_plan(tmp_path / "slim" / "plan.json").report.layers["layer1.0.bn1"].removed == 0


def test_time_is_measured_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--ratio", "0.1", "--size", "64", "-o", str(tmp_path / "slim")]
    assert main(["prune", "test_resnet", *arguments]) == 0
    assert "milliseconds" not in capsys.readouterr().out
    assert main(["prune", "test_resnet", *arguments, "--latency"]) == 0
    assert "milliseconds" in capsys.readouterr().out


def test_the_report_names_options_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved_resnet(tmp_path / "weights.pt")
    arguments = ["--weights", str(tmp_path / "weights.pt"), "--ratio", "0.4", "--size", "64"]
    assert main(["prune", "test_resnet", *arguments, "-o", str(tmp_path / "slim")]) == 0
    printed = capsys.readouterr().out
    assert "--groups masks channels together" in printed
    assert "groups=True" not in printed


def test_criteria_are_those_of_the_library() -> None:
    assert _CRITERIA == CRITERIA


def test_a_pruned_resnet_in_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slim, slimmer = tmp_path / "slim", tmp_path / "slimmer"
    size = ["--size", "64"]
    save_slim(slim, tmp_path / "weights.pt")
    assert main(["prune", f"local-dir:{slim}", "--ratio", "0.3", "--bn-bias", "zero", *size, "-o", str(slimmer)]) == 0
    assert "untrained" not in capsys.readouterr().err
    counts = [sum(p.numel() for p in goctconv.load_pruned(folder).parameters()) for folder in (slim, slimmer)]
    assert counts[1] < counts[0]
    for folder, count in zip((slim, slimmer), counts, strict=True):
        assert main(["info", f"local-dir:{folder}", *size]) == 0
        assert f"{count:,}" in capsys.readouterr().out

    picture = tmp_path / "picture.png"
    Image.new("RGB", (40, 30)).save(picture)
    assert main(["predict", str(picture), "-o", str(tmp_path), "--model", f"local-dir:{slim}"]) == 2
    assert "size mismatch" not in capsys.readouterr().err
    main(["export", f"local-dir:{slim}", "--onnx", str(tmp_path / "slim.onnx")])
    assert "size mismatch" not in capsys.readouterr().err


def test_other_weights_for_a_pruned_resnet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slim = tmp_path / "slim"
    save_slim(slim, tmp_path / "weights.pt")
    zeros = {name: value * 0 for name, value in goctconv.load_pruned(slim).state_dict().items()}
    torch.save(zeros, tmp_path / "zeros.pt")
    model = goctconv.create_model(f"local-dir:{slim}", checkpoint_path=tmp_path / "zeros.pt")
    assert not any(value.any() for value in model.state_dict().values())
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "whole.pt")
    capsys.readouterr()
    assert main(["info", f"local-dir:{slim}", "--weights", str(tmp_path / "whole.pt")]) == 2
    printed = capsys.readouterr().err
    assert "tensors of the wrong shape" in printed
    assert len(printed) < 1500


def test_damaged_folders_are_told_in_a_few_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slim = tmp_path / "slim"
    save_slim(slim, tmp_path / "weights.pt")
    (slim / "plan.json").unlink()
    capsys.readouterr()
    assert main(["info", f"local-dir:{slim}"]) == 2
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 7
    assert printed[-1].endswith("lines more")


def test_weights_that_are_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.pth").write_text("hi: this is no checkpoint")
    arguments = ["--weights", str(tmp_path / "bad.pth"), "--ratio", "0.1", "-o", str(tmp_path / "slim")]
    assert main(["prune", "test_resnet", *arguments]) == 2
    assert "bad.pth is no file of torch.save or safetensors, or a truncated one" in capsys.readouterr().err


def test_what_cannot_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("conv1.weight differs")

    monkeypatch.setattr("goctconv.cli._prune_run.save_pruned", refuse)
    assert main(["prune", "test_resnet", "--ratio", "0.1", "--size", "64", "-o", str(tmp_path / "slim")]) == 2
    assert "nothing was written, for conv1.weight differs" in capsys.readouterr().err


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
        (["csnet_y", "--ratio", "0.1"], "csnet_y is no known model"),
        (["test_resnet", "--ratio", "0.1", "--weights", "none.pt"], "there is no such file"),
        (["test_resnet", "--ratio", "0.1", "--keep", "nothing"], "--keep nothing matches no BatchNorm"),
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
        ["test_resnet", "-o", "slim", "--ratio", "0.1", "--bn-bias", "half"],
        ["test_resnet", "-o", "slim", "--ratio", "0.1", "--scope", "local"],
        ["test_resnet", "-o", "slim", "--ratio", "0.1", "--max-ratio", "1.1"],
        ["test_resnet", "-o", "slim", "--ratio", "0.1", "--max-ratio", "half"],
    ],
)
def test_arguments_that_do_not_parse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["prune", *arguments])
    assert caught.value.code == 2
    assert "goctconv prune: error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--criterion", "bn_scales"], "gamma_first"),
        (["--report", "removed.pdf"], "'removed.pdf' does not end in .html or .htm"),
        (["--report", "removed"], "'removed' does not end in .html or .htm"),
        (["--plot", "channels.txt"], "'channels.txt' does not end in .png"),
    ],
)
def test_what_would_do_is_said(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prune", "test_resnet", "-o", "slim", "--ratio", "0.1", *arguments])
    assert expected in capsys.readouterr().err


def test_endings_of_pages(tmp_path: Path) -> None:
    for name in ("page.HTM", "page.html"):
        arguments = ["--ratio", "0.1", "--size", "64", "-o", str(tmp_path / "slim"), "--report", str(tmp_path / name)]
        assert main(["prune", "test_resnet", *arguments]) == 0
        assert (tmp_path / name).read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "slim"
    saved_csnet(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    arguments = ["prune", "test_resnet", "--ratio", "0.1", "--size", "64", "-o", str(folder)]
    assert main(arguments) == 2
    assert "this folder holds other things (README.md, config.json, model.safetensors)" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert main([*arguments, "--overwrite"]) == 0
    assert type(goctconv.load_pruned(folder)).__name__ == "ResNet"
    assert main(arguments) == 0  # its own results are replaced
    (tmp_path / "empty").mkdir()
    assert main([*arguments[:-1], str(tmp_path / "empty")]) == 0


def test_a_network_is_not_replaced_by_what_is_left_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "slim"
    save_slim(folder, tmp_path / "weights.pt")
    again = ["prune", f"local-dir:{folder}", "--ratio", "0.4", "--groups", "--size", "64", "-o", f"{folder}/../slim"]
    assert main(again) == 2
    assert "this folder holds the network that is to be pruned" in capsys.readouterr().err
    assert main([*again, "--overwrite"]) == 0
    assert len(goctconv.load_plan(folder / "plan.json").steps) == 2


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
    code = "import sys; from goctconv.cli._prune import PRUNE; print({'timm', 'PIL'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
