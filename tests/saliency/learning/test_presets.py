"""Presets: KD-SCFNet's schedule, rates and band of the loss, in Python and on the command line."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

import goctconv
from goctconv import saliency
from goctconv.cli import main
from goctconv.saliency import DistillationConfig, SaliencyConfig, find_pairs, get_preset
from goctconv.saliency.learning import SaliencyStep
from goctconv.training import create_optimizer, create_schedule
from saliency.data_sets import make_data_set


def rates(epochs, **options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.064)
    schedule = create_schedule(optimizer, epochs, "warmup-cosine", **options)
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_schedule_is_the_published_one():
    expected = [6.4e-4 + (0.064 - 6.4e-4) * epoch / 5 for epoch in range(5)]
    expected += [6.4e-4 + (0.064 - 6.4e-4) * (1 + math.cos(math.pi * epoch / 63)) / 2 for epoch in range(64)]
    assert rates(69) == pytest.approx(expected, rel=1e-12)
    assert rates(1) == [0.064]
    assert rates(2) == pytest.approx([6.4e-4, 0.064])
    assert rates(3, warmup=0) == pytest.approx([0.064, (0.064 + 6.4e-4) / 2, 6.4e-4])


@pytest.mark.parametrize("options", [{"warmup": -1}, {"start": 0}, {"end": 0}], ids=str)
def test_schedules_that_are_none(options):
    with pytest.raises(ValueError, match=r"must be a(n integer of at least 0| number above 0)"):
        rates(3, **options)


def test_the_backbone_learns_a_tenth_as_fast():
    model = goctconv.create_model("test_scfnet")
    optimizer = get_preset("scfnet", lr=0.5).make_optimizer(model)
    head, backbone = optimizer.param_groups
    assert (head["lr"], backbone["lr"], head["momentum"], head["weight_decay"]) == (0.5, 0.05, 0.9, 5e-4)
    assert (type(optimizer), head["nesterov"]) == (torch.optim.SGD, False)
    assert create_optimizer(model, "nesterov").defaults["nesterov"]
    assert {id(p) for p in backbone["params"]} == {id(p) for p in model.backbone.parameters()}
    assert len(head["params"]) + len(backbone["params"]) == len(list(model.parameters()))
    assert (
        len(get_preset("scfnet", backbone_rate=1).make_optimizer(goctconv.create_model("test_csnet")).param_groups) == 1
    )


def test_a_run_by_the_preset_narrows_the_band(tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(
        "goctconv.saliency.learning._config.SaliencyStep", lambda *args: steps.append(SaliencyStep(*args)) or steps[0]
    )
    seen = []
    monkeypatch.setattr(SaliencyStep, "set_epoch", lambda self, epoch: seen.append(epoch) or self.loss.set_epoch(epoch))
    config = get_preset("scfnet", epochs=10, sizes=32, batch_size=4, workers=0, checkpoints=tmp_path / "run")
    result = saliency.learn(goctconv.create_model("test_scfnet"), make_data_set(tmp_path / "set", 4), config=config)
    assert seen == list(range(10))
    assert steps[0].loss.losses[1].width == 11
    found = result.history.series("learning_rate")
    assert found[0] == pytest.approx(0.00064)
    assert max(found) == pytest.approx(0.064)
    assert result.report.removed == 0


def test_preset_of_the_command_line_is_that_of_python(tmp_path, capsys):
    make_data_set(tmp_path / "set", 4)
    tiny = ["--model", "test_scfnet", "--size", "32,64", "--batch-size", "2", "--workers", "0", "--epochs", "3"]
    command = ["learn", str(tmp_path / "set"), "--preset", "scfnet", *tiny, "--val", "0", "--json", "--quiet"]
    assert main([*command, "-o", str(tmp_path / "run")]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["channels"]["removed"] == 0
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    column = rows[0].split(",").index("learning_rate")
    assert [float(row.split(",")[column]) for row in rows[1:]] == pytest.approx([0.00064, 0.064, 0.00064], rel=1e-6)
    state = json.loads(next((tmp_path / "run" / "checkpoints").glob("00003/state.json")).read_text())
    assert "SGD" in state["config"]["optimizer"]
    assert 'loss = "dice+boundary_dice"' in (tmp_path / "run" / "config.toml").read_text()
    torch.manual_seed(0)
    config = get_preset("scfnet", epochs=3, sizes=(32, 64), batch_size=2, workers=0)
    result = saliency.learn(goctconv.create_model("test_scfnet"), find_pairs(tmp_path / "set"), config=config)
    learned = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert learned.keys() == result.model.state_dict().keys()
    assert all(torch.equal(tensor, learned[name]) for name, tensor in result.model.state_dict().items())


def test_presets_of_distillation_keep_its_loss():
    config = get_preset("scfnet", DistillationConfig, batch_size=8)
    assert (config.loss, config.reduction, config.optimizer, config.batch_size) == ("dice", "mean", "sgd", 8)
    assert get_preset("csf", DistillationConfig).reduction == "mean"
    assert get_preset("csnet") == SaliencyConfig()
    assert get_preset("csnet", DistillationConfig) == DistillationConfig()
    with pytest.raises(ValueError, match=r"name='scfnett' must be one of .*; did you mean 'scfnet'\?"):
        get_preset("scfnett")
    with pytest.raises(TypeError, match=r"'epoch' is none of SaliencyConfig\(\); did you mean 'epochs'\?"):
        get_preset("csf", epoch=3)
