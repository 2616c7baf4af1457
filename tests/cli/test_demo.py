"""``goctconv demo`` learns; that it shows maps of given networks stands in test_demo_shows.py."""

import csv
import json
import re
import shlex

import numpy as np
import pytest
import timm
import torch

import goctconv
from goctconv.cli import main
from goctconv.cli._model import create_model
from goctconv.cli.demo import _learn as demo_learn
from goctconv.cli.demo._outcome import Baselines
from goctconv.pruning import PruningError, load_plan
from saliency.pictures import gradient, save

TINY = ["--model", "test_csnet", "--images", "10", "--size", "32", "--epochs", "2", "--finetune-epochs", "1"]


def learn(folder, *options):
    """Run a demo in which every third channel counts as faded: in so few steps, none does by itself."""

    def make(name, **arguments):
        model = create_model(name, **arguments)
        for layer in model.dynamic_decay_names():
            torch.nn.init.constant_(model.get_submodule(layer).weight[::3], 0.1)
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_learn, "create_model", make)
        patch.setattr(demo_learn, "_THRESHOLD", 0.5)
        return main(["demo", "-o", str(folder), *TINY, *options])


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A folder that a tiny demo has written, and its exit status."""
    folder = tmp_path_factory.mktemp("demo") / "out put"
    state = torch.get_rng_state()
    status = learn(folder)
    assert torch.equal(torch.get_rng_state(), state)
    return folder, status


def test_one_map_for_all_is_not_beaten_after_two_epochs(learned):
    folder, status = learned
    assert status == 1
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert 'class="note warning"' in page
    assert "not clearly better" in page
    assert "the best constant map has" in page


def test_beaten_is_clearly_beaten():
    assert Baselines(constant=0.2, fixed=0.15).are_beaten_by(0.12)
    assert not Baselines(constant=0.2, fixed=0.15).are_beaten_by(0.13)
    assert not Baselines(constant=0.1, fixed=0.15).are_beaten_by(0.09)


def test_the_page_shows_all_of_it_and_needs_nothing_else(learned):
    page = (learned[0] / "report.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 1_000_000
    assert "<script" not in page
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'src="([^"]*)', page))
    assert not re.search(r"""(?:href|src)="https?:|url\((?!#)|@import|<link""", page)
    assert page.count("<svg") == 4
    assert page.count("<img ") == 2 * 4  # pictures to compare with; photograph, mask, two maps
    for text in ("parameters", "MACs", "milliseconds per picture", "MAE", "float64", "random input", "map after"):
        assert text in page


def test_the_slim_network_comes_back_through_goctconv_and_timm(learned):
    folder, _ = learned
    report = load_plan(folder / "plan.json").report
    assert report.removed > 0
    assert max(report.difference.values()) < 1e-4
    images = torch.randn(2, 3, 40, 33)
    outputs = []
    for make in (goctconv.create_model, lambda name: timm.create_model(name, pretrained=True)):
        model = make(f"local-dir:{folder / 'model'}").eval()
        assert sum(parameter.numel() for parameter in model.parameters()) == report.parameters[1] < 6395
        with torch.no_grad():
            outputs.append(model(images))
    assert torch.equal(*outputs)


def test_the_proof_can_be_repeated(learned, capsys):
    folder, _ = learned
    page = (folder / "report.html").read_text(encoding="utf-8")
    (command,) = re.findall(r'<p class="command"><code>(.*?)</code>', page)
    program, *arguments = shlex.split(re.sub("</?span>", "", command).replace("&#x27;", "'"))
    assert program == "goctconv"
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    first = load_plan(folder / "plan.json").report
    assert again["parameters"] == list(first.parameters)
    assert again["removed"] == first.removed


def test_the_network_before_pruning_is_kept_as_it_was(learned):
    model = goctconv.create_model(f"local-dir:{learned[0] / 'unpruned'}")
    assert all((model.get_submodule(name).weight != 0).all() for name in model.dynamic_decay_names())
    page = (learned[0] / "report.html").read_text(encoding="utf-8")
    (cost,) = re.findall(
        r"maps with and without channels below the threshold: mean difference</th><td>(.*?)</td>", page
    )
    assert 0 < float(cost) < 1


def test_the_history_has_both_phases(learned):
    with (learned[0] / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["phase"] for row in rows] == ["train", "train", "finetune"]
    assert all(float(row["validation_mae"]) > 0 for row in rows)


def test_the_seed_decides(learned, tmp_path):
    learn(tmp_path)
    first, again = ((folder / "model" / "model.safetensors").read_bytes() for folder in (learned[0], tmp_path))
    assert first == again


def test_own_photographs_with_masks(tmp_path, capsys):
    for name in "abcdef":
        save(tmp_path / "Birds" / "images" / f"{name}.png", gradient(50, 61))
        mask = (np.indices((50, 61))[0] < 20).astype(np.uint8) * 255
        save(tmp_path / "Birds" / "GT" / f"{name}.png", mask)
    (tmp_path / "Birds" / "images" / "a.png").write_bytes(b"no image")
    learn(tmp_path / "out", "--data", str(tmp_path / "Birds"))
    said = capsys.readouterr()
    assert "5 photographs with masks" in said.out
    assert said.err.count("a.png") == 1
    assert not (tmp_path / "out" / "data").exists()
    assert "photograph" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_nothing_has_faded(tmp_path, capsys):
    assert main(["demo", "-o", str(tmp_path), *TINY, "--images", "5", "--epochs", "1"]) == 1
    error = capsys.readouterr().err
    assert "no γ is below the threshold 0.001" in error
    assert error.count("threshold") == 1  # the outcome says it, the warning need not


def test_errors_of_pruning_are_in_its_words(tmp_path, monkeypatch, capsys):
    def failing(*_, **__):
        raise PruningError("it fails: pass another {seed=1}")

    monkeypatch.setattr(demo_learn, "learn", failing)
    assert main(["demo", "-o", str(tmp_path), *TINY]) == 2
    assert "learning has failed: it fails: pass another --seed 1" in capsys.readouterr().err


def test_what_cannot_be(tmp_path, photographs, weights, capsys):
    for arguments, message in (
        (["--data", tmp_path / "none"], "no such folder"),
        (["--data", photographs], "--no-learn"),
        (["--images", "3"], "at least 4"),
        (["-o", photographs / "notes.txt"], "this is a file"),
        (["--model", "csnet_x9"], "csnet_x1"),
        (["--model", "test_resnet"], "CSNet"),
        (["--accept-license", "cc-by-nc-sa-4.0"], "--pretrained"),
        (["--no-learn", "--epochs", "3"], "--epochs"),
        (["--model", "test_csnet", "--weights", weights, "--finetune-epochs", "3"], "--finetune-epochs"),
    ):
        assert main(["demo", "-o", str(tmp_path / "out"), *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0"])
def test_the_demo_as_it_is(tmp_path, seed, capsys):
    assert main(["demo", "-o", str(tmp_path), "--seed", seed]) == 0
    report = load_plan(tmp_path / "plan.json").report
    assert report.parameters[1] < 0.8 * report.parameters[0]
    assert max(report.difference.values()) < 1e-4
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 1_000_000
    assert 'class="note"' in page
    said = capsys.readouterr().out
    mae, constant = (
        float(re.search(pattern, said)[1]) for pattern in (r"an MAE of ([\d.]+) \(before", r"constant map has ([\d.]+)")
    )
    assert mae < 0.5 * constant
