"""``goctconv learn``: presets, and the options that they set."""

import json
import os
import signal

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

import goctconv
from goctconv import saliency
from goctconv.cli import main
from goctconv.cli._learn import LearnConfig
from goctconv.saliency import find_pairs, get_preset, split_pairs, synthetic_images
from goctconv.saliency.learning import PRESETS
from goctconv.training import Callback

from .test_learn import configured, error_of

SIZES = [(44, 36), (40, 52), (61, 47), (38, 38)]
TINY = ["--model", "test_csf_resnet", "--workers", "0", "--val", "2", "--quiet"]
STEPS = {"csf": ["--accumulate", "2", "--lr", "1e-3"], "modern": ["--size", "32", "--batch-size", "2", "--lr", "1e-3"]}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Photographs of several sizes."""
    folder = tmp_path_factory.mktemp("data") / "Shapes"
    for index, (photograph, mask) in enumerate(synthetic_images(6)):
        for part, image in (("images", photograph), ("masks", mask)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            image.resize(SIZES[index % len(SIZES)]).save(folder / part / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A file of a backbone whose BatchNorms have statistics and scales of their own."""
    torch.manual_seed(5)
    model = timm.create_model("test_resnet")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
    path = tmp_path_factory.mktemp("weights") / "resnet.pth"
    torch.save(model.state_dict(), path)
    return path


class Terminates(Callback):
    def __init__(self, path):
        self.path = path

    def on_step_end(self, run, record):
        if (run.epoch, record.step) == (2, 1):
            os.kill(os.getpid(), signal.SIGTERM)


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("preset", ["csf", "modern"])
def test_a_preset_trains_goes_on_bit_for_bit_and_is_that_of_python(
    preset, shapes, backbone, tmp_path, monkeypatch, capsys
):
    command = ["learn", str(shapes), *TINY, *STEPS[preset], "--preset", preset, "--epochs", "3"]
    command += ["--backbone-weights", str(backbone)]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main([*command, "-o", str(whole)]) == 0
    assert "learned from 4 pairs in 3 epochs; all channels stay" in capsys.readouterr().out
    summary = json.loads((whole / "summary.json").read_text())
    assert (summary["threshold"], summary["epochs"]) == (None, {"train": 3, "finetune": 0})
    assert not (whole / "report.html").exists()

    with monkeypatch.context() as patch:
        patch.setattr("goctconv.cli._training_folder.JSONLog", Terminates)
        with pytest.raises(SystemExit):
            main([*command, "-o", str(broken)])
    assert main(["learn", "--resume", "-o", str(broken)]) == 0
    assert_equal_weights(weights(broken), weights(whole))

    split = split_pairs(find_pairs(shapes), 2, seed=0)
    torch.manual_seed(0)
    model = goctconv.create_model("test_csf_resnet", pretrained_backbone=backbone)
    changes = {"accumulate": 2} if preset == "csf" else {"sizes": 32, "batch_size": 2}
    config = get_preset(preset, lr=1e-3, epochs=3, workers=0, **changes)
    result = saliency.learn(model, split.train, split.validation, config)
    assert_equal_weights({k: v.contiguous() for k, v in result.model.state_dict().items()}, weights(whole))
    assert all(one.requires_grad for one in result.model.parameters())

    fresh, learned = goctconv.create_model("test_csf_resnet", pretrained_backbone=backbone), weights(whole)
    same = {name for name, one in fresh.state_dict().items() if torch.equal(one, learned[name])}
    norms = {name for name, module in fresh.backbone.named_modules() if isinstance(module, nn.BatchNorm2d)}
    frozen = {name for name in learned if name.removeprefix("backbone.").rpartition(".")[0] in norms}
    assert len(frozen) == 5 * len(norms) > 20
    assert same == (frozen if preset == "csf" else set())


def test_values_of_presets(tmp_path):
    csf = configured("photos", "--preset", "csf", "-o", tmp_path)
    assert (csf.model, csf.epochs, csf.lr, csf.milestones, csf.ordinary_weight_decay) == (
        "csf_res2net50", 24, 5e-5, (15 / 24,), 5e-4
    )  # fmt: skip
    assert (csf.sizes, csf.batch_size, csf.accumulate, csf.reduction) == (("own",), 1, 10, "sum")
    assert (csf.freeze_batch_norm, csf.backbone_rate, csf.backbone_weights) == (True, 1.0, "timm")
    modern = configured("photos", "--preset", "modern", "--backbone-rate", "0.2", "-o", tmp_path)
    assert (modern.optimizer, modern.schedule, modern.amp, modern.backbone_rate) == ("adamw", "cosine", "bf16", 0.2)
    scfnet = configured("photos", "--preset", "scfnet", "--warmup", 3, "-o", tmp_path)
    assert (scfnet.optimizer, scfnet.schedule, scfnet.warmup) == ("sgd", "warmup-cosine", 3)
    assert (scfnet.epochs, scfnet.batch_size, scfnet.lr, scfnet.backbone_rate) == (69, 128, 0.064, 0.1)
    assert (scfnet.sizes, scfnet.loss, scfnet.threshold) == ((224, 256, 288, 320, 352), "dice+boundary_dice", None)
    for name, preset in PRESETS.items():
        made = configured("photos", "--preset", name, "-o", tmp_path)
        assert {key: getattr(made, key) for key in preset.values_for(LearnConfig)} == preset.values_for(LearnConfig)
        assert made.model == preset.model


def test_the_head_of_a_frozen_backbone_learns_its_channels(shapes, backbone, tmp_path):
    run = tmp_path / "run"
    command = ["learn", str(shapes), *TINY, *STEPS["csf"], "--preset", "csf", "--epochs", "2", "-o", str(run)]
    command += ["--backbone-weights", str(backbone), "--model-args", "norm=batch fuse_channels=[8,8,16,16]"]
    command += ["--weight-decay", "0.05", "--threshold", "0.999", "--finetune-epochs", "1", "--backbone-rate", "0.1"]
    assert main(command) == 0
    slim = goctconv.create_model(f"local-dir:{run / 'model'}").eval()
    assert slim.norm == "batch"
    assert sum(slim.channels["fuse"]) < 48
    assert not slim.backbone_is_pruned
    summary = json.loads((run / "summary.json").read_text())
    assert summary["channels"]["removed"] > 0
    assert summary["parameters"][1] == sum(one.numel() for one in slim.parameters())
    state = json.loads((run / "checkpoints" / "00002" / "state.json").read_text())
    whole = goctconv.create_model("test_csf_resnet", norm="batch", fuse_channels=[8, 8, 16, 16])
    norms = [module for module in whole.head.modules() if isinstance(module, nn.BatchNorm2d)]
    assert state["history"]["epochs"][0]["channels"] == sum(module.num_features for module in norms)
    again = tmp_path / "again"
    slimmer = ["learn", str(shapes), *STEPS["csf"], "--workers", "0", "--val", "0", "--preset", "csf", "--epochs", "1"]
    assert main([*slimmer, "--model", f"local-dir:{run / 'model'}", "--quiet", "-o", str(again)]) == 0
    assert goctconv.create_model(f"local-dir:{again / 'model'}").channels == slim.channels


def test_mistakes(shapes, tmp_path, capsys):
    run = tmp_path / "run"
    base = [shapes, *TINY, "-o", run]
    assert "--size own gives images" in (error := error_of(capsys, *base, "--size", "own"))
    assert "pass --batch-size 1, and --accumulate 10" in error
    error = error_of(capsys, *base, "--preset", "csf", "--accumulate", 2, "--model", "test_csnet")
    assert "test_csnet has no backbone: add --backbone-weights none" in error
    error = error_of(capsys, *base, "--size", 32, "--batch-size", 2, "--model", "test_csnet", "--freeze-batch-norm")
    assert "--freeze-batch-norm is for a pretrained backbone, and this CSNet has no attribute" in error
    error = error_of(capsys, *base, "--size", 32, "--batch-size", 2, "--model", "test_csnet", "--backbone-rate", 0.1)
    assert "--backbone-rate 0.1 is for a pretrained backbone" in error
    assert "pass --backbone-rate 1" in error
    error = error_of(capsys, *base, "--size", 32, "--batch-size", 2, "--freeze-batch-norm")
    assert "has no BatchNorm that is trained (all are frozen)" in error
    assert "--weight-decay 0, --threshold none and --finetune-epochs 0" in error
    error = error_of(capsys, *base, "--size", 32, "--batch-size", 2, "--threshold", "none")
    assert "--threshold none removes nothing" in error
    error = error_of(capsys, *base, "--preset", "csf", "--accumulate", 2, "--backbone-weights", tmp_path / "nowhere")
    assert "--backbone-weights" in error
    assert "there is no such file" in error
    error = error_of(capsys, *base, "--size", 32, "--batch-size", 2, "--model-args", "nrom=batch")
    assert "nrom" in error


def test_photographs_are_changed_as_options_say(tmp_path) -> None:
    plain = configured("data", "--crop", 0, "--flip", "none", "-o", tmp_path).transforms()
    assert plain == ()
    all_of_them = configured("data", "--color", 0.3, "--blur", 0.5, "-o", tmp_path).transforms()
    assert [type(one).__name__ for one in all_of_them] == ["RandomCrop", "RandomFlip", "ColorJitter", "GaussianBlur"]
    assert "0.3, 0.3, 0.3" in repr(all_of_them[2])
    assert "probability=0.5" in repr(all_of_them[3])
    assert "0.3, 0.0, 1.0" in repr(configured("data", "--color", "0.3,0,1", "-o", tmp_path).transforms()[2])
    published = configured("data", "--preset", "scfnet", "-o", tmp_path).transforms()
    assert list(map(repr, published)) == list(map(repr, get_preset("scfnet").transforms()))
