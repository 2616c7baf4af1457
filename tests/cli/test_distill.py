"""``goctconv distill``: what a run writes, how it goes on, what it refuses."""

import argparse
import json

import pytest
import torch
from safetensors.torch import load_file

import goctconv
from goctconv.cli import main
from goctconv.cli._distill import DISTILL, KIND, DistillConfig
from goctconv.cli._training_options import make_config
from goctconv.options import options_of, read_toml
from goctconv.saliency import synthetic_images

TINY = ["test_csnet", "--size", "32", "--batch-size", "2", "--workers", "0", "--lr", "1e-3", "--val", "2", "--quiet"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "photographs"
    folder.mkdir()
    for index, (photograph, _) in enumerate(synthetic_images(6, sides=(36, 48))):
        photograph.save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(2)
    model = goctconv.create_model("test_scfnet")
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.save(model.state_dict(), path)
    return ["--teacher", "test_scfnet", "--teacher-weights", str(path)]


@pytest.fixture(scope="module")
def finished(photographs, teacher, tmp_path_factory):
    """The folder of a run that has ended; tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    images = ["--images", str(photographs), "--maps", str(folder.parent / "maps")]
    assert main(["distill", *TINY, *teacher, *images, "--epochs", "2", "-o", str(folder)]) == 0
    return folder


def error_of(capsys, *arguments):
    assert main(["distill", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_a_run_writes_everything(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert (summary["model"], summary["teacher"]) == ("test_csnet", "test_scfnet")
    assert summary["pairs"] == {"train": 4, "validation": 2}
    assert summary["epochs"] == {"train": 2, "finetune": 0}
    assert summary["channels"]["removed"] == 0
    assert list(summary["scores"]["before"]) == ["teacher_mae"]
    student = goctconv.create_model(f"local-dir:{finished / 'model'}")
    assert sum(p.numel() for p in student.parameters()) == summary["parameters"][0]
    assert len(list((finished.parent / "maps").rglob("*.png"))) == 6
    options = read_toml(finished / "config.toml", options_of(DistillConfig))
    assert (options["student"], options["loss"], options["teacher_amp"]) == ("test_csnet", "dice", None)


def test_a_run_goes_on_with_its_teacher_alone(finished, capsys):
    before = load_file(finished / "model" / "model.safetensors")
    assert main(["distill", "--resume", "-o", str(finished)]) == 0
    assert (
        "test_csnet learned from test_scfnet on 4 photographs in 2 epochs; all channels stay" in capsys.readouterr().out
    )
    after = load_file(finished / "model" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert "teacher is test_scfnet there, csnet_x1 here" in error_of(
        capsys, "--resume", "--teacher", "csnet_x1", "-o", finished
    )


def test_a_run_goes_on_by_its_whole_command(photographs, teacher, finished):
    before = load_file(finished / "model" / "model.safetensors")
    images = ["--images", str(photographs), "--maps", str(finished.parent / "maps")]
    assert main(["distill", *TINY, *teacher, *images, "--epochs", "2", "-o", str(finished), "--resume"]) == 0
    after = load_file(finished / "model" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_masks_and_pruning(photographs, teacher, tmp_path, capsys):
    for index, (photograph, mask) in enumerate(synthetic_images(2, sides=(36, 48))):
        for part, image in (("images", photograph), ("masks", mask)):
            (tmp_path / "set" / part).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "set" / part / f"{index}.png")
    more = ["--weight-decay", "0.02", "--threshold", "0.999", "--epochs", "1", "--finetune-epochs", "1", "--json"]
    images = ["--images", str(photographs), str(tmp_path / "set"), "--val", str(tmp_path / "set")]
    assert main(["distill", *TINY, *teacher, *more, *images, "-o", str(tmp_path / "run")]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["pairs"] == {"train": 8, "validation": 2}
    assert summary["channels"]["removed"] > 0
    assert sorted(summary["scores"]["finetuned"]) == ["mae", "max_f"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "true mask" in page
    assert "of fine-tuning on 8 photographs at 32, taught by test_scfnet, compared on 2 others" in page


def test_the_page_shows_the_teachers_maps_where_there_are_no_masks(photographs, teacher, tmp_path, capsys):
    more = ["--threshold", "0.9999", "--epochs", "1", "--finetune-epochs", "1", "--flip", "none", "--crop", "0"]
    more += ["--optimizer", "sgd", "--schedule", "warmup-cosine", "--reduction", "sum", "--lr", "1e-5"]
    assert main(["distill", *TINY, *teacher, *more, "--images", str(photographs), "-o", str(tmp_path)]) == 0
    assert "test_csnet learned from test_scfnet on 4 photographs in 1 + 1 epochs" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert "teacher's map" in page.replace("&#x27;", "'")
    assert "distance to the teacher's maps" in page.replace("&#x27;", "'")
    assert "true mask" not in page
    state = json.loads(next((tmp_path / "checkpoints").glob("00002/state.json")).read_text())
    assert ", sum" in state["config"]["step"]
    assert "nesterov: False" in state["config"]["optimizer"]


def test_a_teacher_can_be_a_folder_of_its_maps(photographs, tmp_path, capsys):
    maps, run = tmp_path / "maps", tmp_path / "run"
    maps.mkdir()
    for index, (_, mask) in enumerate(synthetic_images(6, sides=(36, 48))):
        mask.convert("L").point(lambda level: 200 if level else 20).save(maps / f"{index}.png")
    images = ["--images", str(photographs), "--teacher", str(maps), "--epochs", "1", "--threshold", "0.9999"]
    assert main(["distill", *TINY, *images, "-o", str(run)]) == 0
    assert f"test_csnet learned from {maps} on 4 photographs" in capsys.readouterr().out
    assert "teacher's map" in (run / "report.html").read_text().replace("&#x27;", "'")
    assert "--teacher-size" in error_of(capsys, *TINY, *images, "--teacher-size", "64", "-o", str(tmp_path / "other"))
    assert main(["distill", "--resume", "--finetune-epochs", "1", "--quiet", "-o", str(run)]) == 0


def test_the_published_way_with_the_loss_of_distillation(photographs, teacher, tmp_path):
    parser = argparse.ArgumentParser()
    DISTILL.add_arguments(parser)
    command = ["scfnet_mobilenetv3_050", *teacher, "--images", str(photographs), "-o", str(tmp_path)]
    config = make_config(parser.parse_args([*command, "--preset", "scfnet"]), KIND)
    assert (config.model, config.loss, config.reduction) == ("scfnet_mobilenetv3_050", "dice", "mean")
    assert (config.optimizer, config.schedule, config.backbone_rate) == ("sgd", "warmup-cosine", 0.1)
    assert (config.sizes, config.epochs) == ((224, 256, 288, 320, 352), 69)
    assert make_config(parser.parse_args([*command, "--preset", "csf"]), KIND).reduction == "mean"


def test_what_is_missing_is_named(photographs, teacher, tmp_path, capsys):
    images, output = ["--images", str(photographs)], ["-o", str(tmp_path / "run")]
    assert "goctconv distill STUDENT --teacher" in error_of(capsys, *teacher, *images, *output)
    assert "--teacher MODEL" in error_of(capsys, "test_csnet", *images, *output)
    assert "--teacher DIR of maps" in error_of(capsys, "test_csnet", "--teacher", "none", *images, *output)
    assert "--images DIR" in error_of(capsys, "test_csnet", *teacher, *output)
    assert "say where the run" in error_of(capsys, "test_csnet", *teacher, *images)
    untrained = ["test_csnet", "--teacher", "csnet_x1", *images, *output]
    assert "an untrained csnet_x1 teaches nothing" in error_of(capsys, *untrained)
    assert "no such folder" in error_of(capsys, "test_csnet", *teacher, "--images", tmp_path / "none", *output)
    few = ["test_csnet", *teacher, *images, *output, "--workers", "0"]
    assert "needs 24 pairs for an optimizer step" in error_of(capsys, *few)
    assert not (tmp_path / "run").exists()


def test_networks_are_refused_before_the_teacher_makes_maps(photographs, teacher, tmp_path, capsys):
    more = ["--images", str(photographs), "--maps", str(tmp_path / "maps"), "-o", str(tmp_path / "run")]
    assert "test_csnett is no known model (did you mean test_csnet" in error_of(
        capsys, "test_csnett", *TINY[1:], *teacher, *more
    )
    missing = ["--teacher", "test_scfnet", "--teacher-weights", str(tmp_path / "none.pth")]
    assert f"error: --teacher-weights {tmp_path / 'none.pth'}: there is no such file" in error_of(
        capsys, *TINY, *missing, *more
    )
    assert not list(tmp_path.iterdir())


def test_its_own_options_and_those_of_learn():
    spelled = {option.spelling for option in options_of(DistillConfig).values() if option.is_spelled}
    assert {"student", "images", "teacher", "teacher-weights", "teacher-size", "teacher-amp", "maps"} <= spelled
    assert not {"data", "model"} & spelled
    assert "student" in DISTILL.description


def test_the_help_begins_with_the_main_inputs_and_speaks_of_no_python(capsys):
    for command in ("learn", "distill"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        text = capsys.readouterr().out
        assert "Python" not in text
    for title, first in (
        ("teacher", "--teacher MODEL"),
        ("data", "--images DIR"),
        ("run", "-o"),
    ):  # Python 3.13 writes "-o, --output DIR"
        assert f"\n{title}:\n  {first}" in text
