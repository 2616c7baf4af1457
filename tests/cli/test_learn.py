"""``goctconv learn``: what a run writes, how it is configured, how it ends and goes on."""

import argparse
import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

import goctconv
from goctconv.cli import main
from goctconv.cli._command import CommandError
from goctconv.cli._learn import KIND, LEARN, LearnConfig, make_task
from goctconv.cli._training_options import add_options, make_config
from goctconv.cli._training_run import run_training
from goctconv.options import FREE, number, option, options_of, read_toml
from goctconv.pruning import PruningError, load_plan
from goctconv.saliency import synthetic_images
from goctconv.training import TrainingError

OPTIONS = {option.spelling: option for option in options_of(LearnConfig).values() if option.is_spelled}
TINY = ["--model", "test_csnet", "--size", "32", "--batch-size", "2", "--workers", "0", "--lr", "1e-3", "--val", "2"]
SHORT = ["--epochs", "2", "--finetune-epochs", "1", "--weight-decay", "0.02", "--threshold", "0.999"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "Shapes"
    for index, (photograph, mask) in enumerate(synthetic_images(8)):
        for part, image in (("images", photograph), ("masks", mask)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            image.resize((44, 36)).save(folder / part / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def finished(shapes, tmp_path_factory):
    """The folder of a run that has ended; tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["learn", str(shapes), *TINY, *SHORT, "--quiet", "--seed", "3", "-o", str(folder)]) == 0
    return folder


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def table(folder):
    return list(csv.DictReader((folder / "history.csv").read_text().splitlines()))


def error_of(capsys, *arguments):
    assert main(["learn", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_a_run_writes_everything(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["pairs"] == {"train": 6, "validation": 2}
    assert summary["epochs"] == {"train": 2, "finetune": 1}
    assert set(summary["channels"]) == {"before", "masked", "removed"}
    assert summary["channels"]["removed"] > 0
    slim = goctconv.create_model(f"local-dir:{finished / 'model'}").eval()
    assert summary["parameters"][0] == sum(p.numel() for p in goctconv.create_model("test_csnet").parameters())
    assert summary["parameters"][1] == sum(p.numel() for p in slim.parameters())
    assert summary["macs"][1] == goctconv.models.count_macs(slim, 32) < summary["macs"][0]
    assert set(summary["scores"]) == {"before", "pruned", "finetuned"}
    assert all({"mae", "max_f"} == set(scores) for scores in summary["scores"].values())
    plain = timm.create_model(f"local-dir:{finished / 'model'}", pretrained=True).eval()
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(slim(images), plain(images))
    plan = load_plan(finished / "plan.json")
    assert sum(map(len, plan.removed.values())) > 0
    assert "Channels removed from test_csnet" in (finished / "pruning.html").read_text()
    rows = table(finished)
    assert [row["phase"] for row in rows] == ["train", "train", "finetune"]
    assert float(rows[-1]["validation_mae"]) == summary["scores"]["finetuned"]["mae"]
    kinds = [json.loads(line)["kind"] for line in (finished / "history.jsonl").read_text().splitlines()]
    assert kinds == ["step", "step", "step", "epoch"] * 3
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["00001", "00002", "00003"]


def test_the_page_shows_all_of_it_and_needs_nothing_else(finished):
    page = (finished / "report.html").read_text()
    assert "Training of test_csnet" in page
    assert len(page.encode()) < 400_000
    assert "<script" not in page
    assert not re.search(r"""(?:href|src)="https?:|url\((?!#)|@import|<link""", page)
    assert page.count("<svg") == 4  # γ over time and before pruning, curves, widths
    assert page.count("<img ") == 2 * 4  # pairs to compare with; photograph, mask, two maps
    for text in ("abs(γ) over time", "MACs", "max F", "map before pruning", "seed 3", "pruning.html"):
        assert text in page
    (exact,) = re.findall(r"these pictures, float64</th><td>(.*?)</td>", page)
    assert float(exact) < 1e-12


def test_a_run_without_pairs_to_compare_with_has_a_page_too(shapes, tmp_path):
    options = ["--val", 0, "--epochs", 1, "--finetune-epochs", 0, "--threshold", "1e-20", "--quiet"]
    assert main(["learn", str(shapes), *TINY, *map(str, options), "-o", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert 'class="note warning"' in page
    assert "Nothing was removed" in page
    assert "photographs that it was trained on" in page


@pytest.mark.parametrize("amp", ["bf16", pytest.param("fp16", marks=pytest.mark.slow)])
def test_mixed_precision_goes_on_bit_for_bit(amp, shapes, finished, tmp_path, monkeypatch):
    command = ["learn", str(shapes), *TINY, *SHORT, "--quiet", "--seed", "3", "--amp", amp, "--channels-last"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main([*command, "-o", str(whole)]) == 0
    with monkeypatch.context() as patch:
        patch.setattr("goctconv.cli._training_folder.JSONLog", Terminates)
        with pytest.raises(SystemExit):
            main([*command, "-o", str(broken)])
    assert main(["learn", "--resume", "-o", str(broken)]) == 0
    assert_equal_weights(weights(broken), weights(whole))
    first, other = (load_file(run / "checkpoints" / "00002" / "tensors.safetensors") for run in (whole, finished))
    learned = [name for name in first if name.startswith("model.") and name.endswith("weight")]
    assert not any(torch.equal(first[name], other[name]) for name in learned)
    assert all(torch.allclose(first[name], other[name], atol=0.1) for name in learned)


@pytest.mark.slow
def test_a_compiled_run_learns_the_same_and_goes_on(shapes, finished, tmp_path, monkeypatch):
    """With a backend that needs no compiler: the default one takes minutes."""
    compile_, asked = torch.compile, []

    def quickly(model, backend):
        asked.append(backend)
        return compile_(model, backend="aot_eager")

    monkeypatch.setattr("goctconv.training._network.torch.compile", quickly)
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("goctconv.cli._training_folder.JSONLog", Terminates)
        with pytest.raises(SystemExit):
            main(["learn", str(shapes), *TINY, *SHORT, "--quiet", "--seed", "3", "--compile", "-o", str(run)])
    assert main(["learn", "--resume", "-o", str(run)]) == 0
    assert asked == ["inductor"] * 3  # to begin, to go on, and the slim network
    ours, theirs = (load_file(one / "checkpoints" / "00002" / "tensors.safetensors") for one in (run, finished))
    learned = [name for name in theirs if name.startswith("model.") and name.endswith(("weight", "bias"))]
    apart = torch.cat([(ours[name] - theirs[name]).abs().flatten() for name in learned])
    assert apart.mean() < 2e-4  # but for rounding, which Adam's first steps enlarge; a step is 1e-3
    assert weights(run)


def test_a_finished_run_tells_its_summary_again(finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "moved")
    for name in ("model", "summary.json", "report.html", "pruning.html"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert main(["learn", "--resume", "--no-quiet", "-o", str(folder)]) == 0
    output = capsys.readouterr()
    rows = {line.split()[0]: line.split() for line in output.out.splitlines()}
    summary = json.loads((folder / "summary.json").read_text())
    assert rows["parameters"][1:] == [f"{summary['parameters'][index]:,}" for index in (0, 1, 1)]
    assert rows["MAE"][1:] == [f"{scores['mae']:.4f}" for scores in summary["scores"].values()]
    assert "going on from" in output.err
    assert (folder / "report.html").read_text() == (finished / "report.html").read_text()
    assert_equal_weights(weights(folder), weights(finished))
    assert main(["learn", "--resume", "--json", "-o", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out) == summary


def test_dynamic_decay_is_for_the_blocks_only(finished):
    state = json.loads((finished / "checkpoints" / "00002" / "state.json").read_text())
    channels = state["history"]["epochs"][0]["channels"]
    model = goctconv.create_model("test_csnet")
    modules = dict(model.named_modules())
    assert channels == sum(modules[name].num_features for name in model.dynamic_decay_names())


def test_options_follow_the_published_ones(tmp_path):
    config = configured("photos", "-o", tmp_path)
    assert (config.epochs, config.finetune_epochs, config.sizes, config.batch_size) == (300, 20, (224,), 24)
    assert (config.lr, config.weight_decay, config.ordinary_weight_decay) == (1e-4, 3.0, 5e-3)
    assert (config.threshold, config.loss, config.model) == (1e-20, "bce", "csnet_x2")


def configured(*arguments):
    parser = argparse.ArgumentParser()
    LEARN.add_arguments(parser)
    return make_config(parser.parse_args(list(map(str, arguments))), KIND)


OTHER_VALUES = {
    "data": ["a", "b.lst"],
    "output": "elsewhere",
    "preset": "csnet",
    "seed": 7,
    "tensorboard": True,
    "quiet": True,
    "json": True,
    "val": 0.25,
    "size": [64, "96x128"],
    "crop": 0,
    "flip": "horizontal",
    "color": [0.4, 0.2, 0.0],
    "blur": 0.5,
    "shrink": 300,
    "cache": 'a "folder"\n\x7f',
    "workers": 3,
    "model": "csnet_x1",
    "model-args": "norm=batch levels=[1,2]",
    "weights": "trained.pth",
    "backbone-weights": "backbone.pth",
    "freeze-batch-norm": True,
    "epochs": 5,
    "finetune-epochs": 0,
    "finetune-optimizer": "fresh",
    "finetune-factor": 0.5,
    "batch-size": 4,
    "foreground": [1, 2],
    "accumulate": 2,
    "optimizer": "adamw",
    "betas": [0.8, 0.9],
    "gamma-rate": 2.0,
    "gamma-beta2": 0.95,
    "lr": 0.5,
    "backbone-rate": 0.1,
    "schedule": "cosine",
    "milestones": ["1/3", 0.5],
    "warmup": 2,
    "cooldown": 3,
    "native": True,
    "checkpoint-steps": 50,
    "clip-grad": 2.0,
    "weight-decay": 0.0,
    "ordinary-weight-decay": 1e-3,
    "loss": "bce + iou",
    "reduction": "sum",
    "threshold": "valley",
    "target-macs": 0.5,
    "criterion": "gamma",
    "device": "cpu",
    "threads": 2,
    "amp": "bf16",
    "channels-last": True,
    "compile": True,
}


def test_every_option_comes_back_from_toml(tmp_path):
    assert set(OTHER_VALUES) == set(OPTIONS) - {"target-parameters"}  # which excludes target-macs
    given = tmp_path / "given.toml"
    lines = [f"{name} = {json.dumps(value)}".replace("\x7f", "\\u007f") for name, value in OTHER_VALUES.items()]
    given.write_text("\n".join(lines))
    config = configured("--config", given)
    assert (config.sizes, config.val, config.cache.name) == ((64, (96, 128)), 0.25, 'a "folder"\n\x7f')
    plain = configured("photos", "-o", tmp_path)
    same = {name for name, option in OPTIONS.items() if getattr(config, option.name) == getattr(plain, option.name)}
    assert same == {"preset", "target-parameters"}
    written = tmp_path / "written.toml"
    for made in (config, plain):
        written.write_text(made.to_toml())
        assert configured("--config", written) == made
        assert all(name in written.read_text() for name in OPTIONS)


@dataclass(frozen=True, kw_only=True)
class MoreConfig(LearnConfig):
    """With a field that no other line of the package knows."""

    mixup_share: float = option(0.25, "share of the batches that are mixed", number(0, 1))
    plain: int = 3


def test_an_option_is_one_field(shapes, tmp_path, capsys):
    """Of a subclass: the field is in the help, in files, in checkpoints, in what may change, and in the summary."""
    kind = replace(KIND, config=MoreConfig)
    parser = argparse.ArgumentParser(prog="more")
    add_options(parser, kind)
    assert re.search(r"--mixup-share X\s+share of the batches that are mixed \(default: 0.25\)", parser.format_help())
    assert re.search(r"--plain N\s", parser.format_help())
    with pytest.raises(SystemExit):
        parser.parse_args(["--mixup-share", "1.5"])
    assert "argument --mixup-share: 1.5 must be a number from 0 to 1" in capsys.readouterr().err
    file, run = tmp_path / "more.toml", tmp_path / "run"
    file.write_text("mixup_share = 0.75")
    names = {"parser": parser, "names": {}}
    command = [str(shapes), *TINY, *SHORT, "--epochs", "1", "--quiet", "--json", "-o", str(run), "--config", str(file)]
    args = parser.parse_args(command, argparse.Namespace(**names))
    assert run_training(args, kind, make_task) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["options"]["mixup-share"], summary["options"]["plain"]) == ("0.75", "3")
    assert "mixup-share = 0.75\nplain = 3" in (run / "config.toml").read_text()
    state = json.loads((run / "checkpoints" / "00002" / "state.json").read_text())
    assert state["config"]["mixup_share"] == "0.75"
    args = parser.parse_args(["--resume", "-o", str(run), "--no-json"], argparse.Namespace(**names))
    assert run_training(args, kind, make_task) == 0
    assert "mixup-share 0.75" in capsys.readouterr().out.splitlines()[-1]
    args = parser.parse_args(["--resume", "-o", str(run), "--mixup-share", "0.5"], argparse.Namespace(**names))
    with pytest.raises(CommandError) as refused:
        run_training(args, kind, make_task)
    assert "  mixup-share is 0.75 there, 0.5 here" in refused.value.args


def test_the_command_line_beats_the_file_which_beats_the_defaults(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('batch_size = 8\nlr = 1e-2\nchannels-last = true\nval = "masks"\nsize = "64,96"')
    config = configured("photos", "--config", file, "--lr", "0.1", "--no-channels-last", "-o", tmp_path)
    assert (config.batch_size, config.lr, config.channels_last, config.epochs) == (8, 0.1, False, 300)
    assert (config.val, config.sizes) == (Path("masks").absolute(), (64, 96))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch-sise = 3", "batch-sise = 3 is no option; did you mean 'batch-size'?"),
        ("[learning]\nlr = 1", "learning = {'lr': 1} is no option"),
        ("lr = -1", "lr = -1.0 must be a number above 0"),
        ("epochs = 1.5", "epochs = '1.5' must be an integer of at least 1"),
        ('epochs = "²"', "epochs = '²' must be an integer of at least 1"),
        ("epochs = 9999999999999999999", "epochs = 9999999999999999999 must be an integer from 1 to 1e+18"),
        ("epochs = true", "epochs = True must be an integer of at least 1"),
        ("epochs = [3]", "epochs = [3] must be a text or a number"),
        ("compile = 1", "compile = 1 must be True, False or the name of a backend"),
        ("quiet = 1", "quiet = 1 must be True or False"),
        ("val = 1.5", "val = 1.5 must be a share"),
        ("val = true", "val = True must be a share"),
        ("val = false", "val = False must be a share"),
        ("threshold = -1", "threshold = -1.0 must be a number of at least 0, or 'valley': 1e-20 is published"),
        ('amp = "fp8"', "amp = 'fp8' must be one of 'bf16', 'fp16'"),
        ('loss = "bcee"', "loss = 'bcee' names 'bcee', expected a sum of"),
        ("lr = 1\nlr = 2", "this is not TOML"),
        ('size = "own,64"', "size = ('own', 64) must be sizes of at least 32 pixels, or 'own' alone"),
        ("milestones = [0.5, 1]", "milestones = (0.5, 1.0) must be rising shares between 0 and 1"),
        ("milestones = [0.5, 0.3]", "milestones = (0.5, 0.3) must be rising shares"),
        ("betas = 0.9", "betas = (0.9,) must be two numbers"),
        ('model-args = "batch"', "model-args = 'batch' is no list of arguments: 'batch' in 'batch' is no argument"),
        ("batch-size = 2\nbatch_size = 3", "batch-size = 3 is given twice"),
    ],
)
def test_mistakes_in_files(text, message, tmp_path, capsys):
    file = tmp_path / "run.toml"
    file.write_text(text)
    error = error_of(capsys, "photos", "--config", file, "-o", tmp_path / "run")
    assert f"{file}: {message}" in error
    assert not (tmp_path / "run").exists()


def test_mistakes_in_arguments(shapes, tmp_path, capsys):
    run = tmp_path / "run"
    assert "say what to learn from" in error_of(capsys, "-o", run)
    assert "say where the run is to be written: -o DIR" in error_of(capsys, shapes)
    assert "cannot be read" in error_of(capsys, shapes, "--config", tmp_path / "none.toml")
    assert "there is no such folder" in error_of(capsys, tmp_path / "nowhere", "-o", run)
    assert "lower --batch-size or --accumulate" in error_of(capsys, shapes, *TINY, "--batch-size", 24, "-o", run)
    assert "tset_csnet is no known model" in error_of(capsys, shapes, *TINY, "--model", "tset_csnet", "-o", run)
    assert "--val 8 takes 8 of 8 pairs" in error_of(capsys, shapes, *TINY, "--val", 8, "-o", run)
    assert "there is no such file" in error_of(capsys, shapes, *TINY, "--weights", tmp_path / "none", "-o", run)
    assert "--device cuda:77: this device cannot be used" in error_of(capsys, shapes, "--device", "cuda:77", "-o", run)
    assert "there is no run in" in error_of(capsys, "--resume", "-o", run)
    assert not run.exists()
    run.write_text("")
    assert "this is a file" in error_of(capsys, shapes, *TINY, "-o", run)
    (tmp_path / "full" / "things").mkdir(parents=True)
    assert "this folder holds other things (things)" in error_of(capsys, shapes, "-o", tmp_path / "full")


def test_a_run_is_resumed_by_its_whole_command(shapes, finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "run")
    command = ["learn", str(shapes), *TINY, *SHORT, "--quiet", "--seed", "3", "-o", str(folder)]
    assert main([*command, "--resume"]) == 0
    assert_equal_weights(weights(folder), weights(finished))
    error = error_of(capsys, shapes, tmp_path / "more", "--resume", "-o", folder)
    assert f"data is {shapes} there, {shapes},{tmp_path / 'more'} here" in error


def test_a_run_that_has_ended_goes_on_with_more_epochs(shapes, finished, tmp_path, capsys):
    folder, whole = shutil.copytree(finished, tmp_path / "run"), tmp_path / "whole"
    more = ["--epochs", "4", "--threshold", "0.9985", "--quiet"]
    assert main(["learn", "--resume", *more, "-o", str(folder)]) == 0
    assert main(["learn", str(shapes), *TINY, *SHORT, "--seed", "3", *more, "-o", str(whole)]) == 0
    assert_equal_weights(weights(folder), weights(whole))
    assert [row["loss"] for row in table(folder)] == [row["loss"] for row in table(whole)]
    assert (folder / "config.toml").read_text() == (whole / "config.toml").read_text().replace(str(whole), str(folder))
    assert "epochs is 4 there, 1 here" in error_of(capsys, "--resume", "-o", folder, "--epochs", "1")
    assert "finetune_epochs=1 there, 0 here" in error_of(capsys, "--resume", "-o", folder, "--finetune-epochs", "0")


def test_none_is_named_by_its_word(shapes, tmp_path, capsys):
    (tmp_path / "run.toml").write_text('threshold = "gap"')
    error = error_of(capsys, shapes, "--config", tmp_path / "run.toml", "-o", tmp_path / "run")
    assert 'threshold = "none" keeps all channels' in error
    with pytest.raises(SystemExit):
        main(["learn", str(shapes), "--threshold", "gap", "-o", "run"])
    assert "--threshold none keeps all channels" in capsys.readouterr().err


def test_a_run_is_resumed_as_it_was_only(shapes, finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "run")
    assert "add --resume to go on with it" in error_of(capsys, shapes, "-o", folder)
    error = error_of(capsys, "--resume", "-o", folder, "--lr", "0.5", "--size", "64,32x48", "--threads", "1")
    assert [line.split(" is ")[0].strip() for line in error.splitlines()[1:]] == ["threads", "lr", "size"]
    assert "lr is 0.001 there, 0.5 here" in error
    assert "size is 32 there, 64,32x48 here" in error
    options = (folder / "config.toml").read_text()
    assert "threshold=0.999 there, 0.5 here" in error_of(capsys, "--resume", "-o", folder, "--threshold", "0.5")
    assert (folder / "config.toml").read_text() == options
    (folder / "pairs.json").write_text(json.dumps({"train": ["0", "old"], "validation": []}))
    error = error_of(capsys, "--resume", "-o", folder)
    assert "pairs gone (0, old), 6 pairs new (1, " in error


def test_options_that_change_no_number_may_change():
    assert {name for name, option in OPTIONS.items() if option.resume == FREE} == {
        "output", "tensorboard", "quiet", "json", "cache", "workers", "device", "checkpoint-steps"
    }  # fmt: skip


def test_corrupt_pairs_are_named_and_counted(shapes, tmp_path, capsys):
    data = shutil.copytree(shapes, tmp_path / "Shapes")
    (data / "images" / "3.png").write_bytes(b"")
    cut = data / "masks" / "5.png"
    cut.write_bytes(cut.read_bytes()[:-60])
    run = tmp_path / "run"
    short = ["--epochs", "1", "--finetune-epochs", "0", "--val", "0", "--threshold", "0.9999", "--tensorboard"]
    assert main(["learn", str(data), *TINY, *short, "-o", str(run)]) == 0
    output = capsys.readouterr()
    assert "goctconv: note:   3: " in output.err
    assert "5 is skipped" in output.err
    (line,) = [line for line in output.err.splitlines() if "2 pairs skipped" in line]
    assert "3 (" in line
    assert "5 (" in line
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary["skipped"]) == {"3", "5"}
    assert summary["pairs"] == {"train": 6, "validation": 0}  # of eight
    note = "masked as a whole"  # what pruning notes stands on the terminal too
    assert sum(note in line for line in output.err.splitlines() if line.startswith("goctconv: note: ")) == 1
    assert summary["scores"] == {"before": {}, "pruned": {}, "finetuned": {}}
    assert "MAE" not in output.out
    assert list((run / "tensorboard").glob("events*"))


def test_quiet_runs_name_skipped_pairs_in_the_end(shapes, tmp_path, capsys):
    data = shutil.copytree(shapes, tmp_path / "Shapes")
    (data / "images" / "3.png").write_bytes(b"")
    short = ["--epochs", "1", "--finetune-epochs", "0", "--threshold", "1e-20", "--quiet"]
    assert main(["learn", str(data), *TINY, *short, "-o", str(tmp_path / "run")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("goctconv: 1 pair skipped: 3 (")


def test_no_pair_to_compare_with_can_be_read(shapes, tmp_path, capsys):
    held_out = shutil.copytree(shapes, tmp_path / "Held out")
    for mask in (held_out / "masks").iterdir():
        mask.write_bytes(mask.read_bytes()[:-60])
    error = error_of(capsys, shapes, *TINY, "--val", held_out, "--epochs", 1, "-o", tmp_path / "run")
    assert "none of the 8 pairs to compare with can be read: " in error
    assert "the image data ends too early" in error


def test_a_loss_that_is_no_number(shapes, tmp_path, capsys):
    run = tmp_path / "run"
    error = error_of(capsys, shapes, *TINY, "--epochs", 1, "--lr", "1e30", "-o", run)
    assert "epoch 1 of 21, step 2: the loss is nan for the batch" in error
    assert str(shapes / "images") in error
    assert "lower --lr" in error
    assert error.count("checkpoint") == 1
    # it came to nothing, so that another may begin in its place
    assert "the loss is nan" in error_of(capsys, shapes, *TINY, "--lr", "1e29", "-o", run)


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (
            TrainingError("step 2: the loss is nan", diverged=True),
            ["step 2: the loss is nan", "to go on would come to the same: lower --lr"],
        ),
        (
            TrainingError("no room, go on with {resume=True}", can_resume=True),
            ["no room, go on with --resume", "go on with: goctconv learn --resume -o"],
        ),
        (TrainingError("step= did not call the model"), ["step= did not call the model"]),
        (PruningError("it fails: pass {threshold=None}"), ["it fails: pass --threshold none"]),
    ],
)
def test_only_what_may_end_otherwise_is_resumed(failure, told, shapes, tmp_path, capsys, monkeypatch):
    def failing(*_, **__):
        raise failure

    monkeypatch.setattr("goctconv.cli._training_run.learn_channels", failing)
    lines = error_of(capsys, shapes, *TINY, "--quiet", "-o", tmp_path / "run").splitlines()
    assert len(lines) == len(told)
    assert all(text in line for text, line in zip(told, lines, strict=True))


def test_no_valley(shapes, tmp_path, capsys):
    run = tmp_path / "run"
    error = error_of(capsys, shapes, *TINY, "--epochs", 1, "--threshold", "valley", "--val", 0, "-o", run)
    assert "there is no valley" in error
    assert f"goctconv learn --resume -o {run} --threshold X" in error
    assert main(["learn", "--resume", "-o", str(run), "--threshold", "0.9999", "--finetune-epochs", "0"]) == 0
    assert read_toml(run / "config.toml", options_of(LearnConfig))["threshold"] == 0.9999
    assert "channels went" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["history.csv", "checkpoints"])
def test_what_cannot_be_written(name, shapes, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"

    def full(*_, **__):
        raise OSError(28, "No space left on device", str(run / name))

    target = "TrainingHistory.to_csv" if name == "history.csv" else "_checkpoint_files._write"
    monkeypatch.setattr(f"goctconv.training.{target}", full)
    error = error_of(capsys, shapes, *TINY, *SHORT, "--quiet", "--val", 0, "-o", run)
    assert "No space left on device" in error
    assert f"go on with: goctconv learn --resume -o {run}" in error


def test_ctrl_c_says_how_to_go_on(shapes, tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("goctconv.training.CSVLog.on_epoch_end", interrupted)
    assert main(["learn", str(shapes), *TINY, "--quiet", "--val", "0", "-o", str(tmp_path / "a run")]) == 130
    assert f"interrupted: go on with: goctconv learn --resume -o '{tmp_path / 'a run'}'" in capsys.readouterr().err


def test_sigterm_in_the_middle_of_an_epoch(shapes, finished, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    command = ["learn", str(shapes), *TINY, *SHORT, "--quiet", "--seed", "3"]
    with monkeypatch.context() as patch:
        patch.setattr("goctconv.cli._training_folder.JSONLog", Terminates)
        with pytest.raises(SystemExit) as caught:
            main([*command, "-o", str(run)])
    assert caught.value.code == 143
    assert f"terminated: go on with: goctconv learn --resume -o {run}" in capsys.readouterr().err
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["00000-0000002"]
    assert main(["learn", "--resume", "-o", str(run)]) == 0
    assert_equal_weights(weights(run), weights(finished))


class Terminates(goctconv.training.Callback):
    def __init__(self, path):
        self.path = path

    def on_step_end(self, run, record):
        if (run.epoch, record.step) == (1, 1):
            os.kill(os.getpid(), signal.SIGTERM)


def start(*arguments, module=("-m", "goctconv")):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *module, "learn", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    """Return the exit status of a process and what it printed."""
    with process:
        text, _ = process.communicate(timeout=300)
    return process.returncode, text


@pytest.mark.slow
def test_killed_at_random_moments(shapes, tmp_path):
    options = [shapes, *TINY, *SHORT, "--epochs", 5, "--finetune-epochs", 8, "--workers", 1]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert finish(start(*options, "-o", whole))[0] == 0
    rng = random.Random(5)  # noqa: S311
    killed = []
    resume = []
    for wanted in ("train", "finetune"):
        process = start(*(resume or options), "-o", broken)
        wait_for(broken / "history.csv", wanted, process)
        time.sleep(rng.uniform(0, 0.2))
        if process.poll() is None:
            killed.append(table(broken)[-1]["phase"])
        process.kill()
        finish(process)
        resume = ["--resume"]
    status, text = finish(start("--resume", "-o", broken))
    assert status == 0, text
    assert killed == ["train", "finetune"]
    assert_equal_weights(weights(broken), weights(whole))


def wait_for(file, phase, process):
    """Wait until an epoch more of a phase is in the table of a run."""
    before = file.read_text().count(phase) if file.exists() else 0
    while process.poll() is None and (not file.exists() or file.read_text().count(f"{phase},") <= before):
        time.sleep(0.02)


@pytest.mark.slow
def test_sigterm_to_a_process_and_its_workers(shapes, tmp_path):
    run = tmp_path / "run"
    command = [shapes, *TINY, *SHORT, "--seed", 3, "--epochs", 200, "--workers", 2, "-o", run]
    process = subprocess.Popen(
        [sys.executable, "-m", "goctconv", "learn", *map(str, command)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(run / "history.csv", "train", process)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "terminated: go on with" in errors


@pytest.mark.slow
def test_two_processes_equal_one_that_accumulates(shapes, tmp_path):
    options = [shapes, *TINY, *SHORT, "--quiet", "--threshold", "1e-20", "--json", "--epochs", 1]
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "goctconv")
    status, text = finish(start(*options, "-o", tmp_path / "both", module=torchrun))
    assert status == 0, text
    assert text.count('"parameters"') == 1
    assert finish(start(*options, "--accumulate", 2, "-o", tmp_path / "one"))[0] == 0
    assert finish(start(*options, "-o", tmp_path / "other"))[0] == 0
    ours, theirs, others = (weights(tmp_path / name) for name in ("both", "one", "other"))

    def distance(one, other):
        learned = [name for name in one if "running" not in name and "num_batches" not in name]
        return max(float((one[name] - other[name]).abs().max()) for name in learned)

    assert distance(ours, theirs) < 2e-4
    assert distance(ours, others) > 1e-3


@pytest.mark.slow
def test_errors_of_several_processes_are_told_once(shapes, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "goctconv")
    status, text = finish(start(shapes, *TINY, "--batch-size", 24, "-o", tmp_path / "run", module=torchrun))
    assert status != 0
    assert text.count("goctconv: error:") == 1
    assert "2 processes" in text
