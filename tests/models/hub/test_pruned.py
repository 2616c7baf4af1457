"""Folders of pruned networks that timm made: configuration, weights and plan, which must belong together."""

from __future__ import annotations

import copy
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import goctconv
from goctconv.models import CheckpointError, CSNet, save_pruned
from goctconv.pruning import PruningError, PruningPlan, PruningResult, prune_channels
from reference.conditioning import calibrated
from reference.zoo.chains import two_convolutions

FILES = ["config.json", "model.safetensors", "plan.json"]


def image() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def network(name: str = "test_resnet", **arguments: Any) -> nn.Module:
    torch.manual_seed(5)
    model = timm.create_model(name, **{"num_classes": 7, "zero_init_last": False, **arguments})
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.05, 1.35)
            nn.init.normal_(module.bias, 0, 0.3)
    return model.eval()


def pruned(model: nn.Module, ratio: float = 0.3, **options: Any) -> PruningResult:
    return prune_channels(model, image()[:1], ratio=ratio, **{"groups": True, **options})


@torch.no_grad()
def csnet(name: str = "test_csnet", **arguments: Any) -> nn.Module:
    """Return a CSNet with shifts."""
    torch.manual_seed(5)
    model = goctconv.create_model(name, **arguments)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.bias.normal_(0, 0.3)
    return calibrated(model, torch.randn(4, 3, 64, 64))


def same(first: nn.Module, second: nn.Module) -> bool:
    with torch.inference_mode():
        return torch.equal(first.eval()(image()), second.eval()(image()))


def loaded(folder: Path) -> list[nn.Module]:
    """Return the network by every door of this package."""
    name = f"local-dir:{folder}"
    return [goctconv.load_pruned(folder), goctconv.create_model(name), goctconv.create_model(name, pretrained=True)]


def test_a_network_of_timm(tmp_path: Path) -> None:
    result = pruned(network())
    save_pruned(result, tmp_path, license="apache-2.0")
    assert sorted(one.name for one in tmp_path.iterdir()) == FILES
    for again in loaded(tmp_path):
        assert same(again, result.model)
        assert again.conv1[0].out_channels == result.model.conv1[0].out_channels < 16
        assert again.pretrained_cfg["license"] == "apache-2.0"
    with pytest.raises(RuntimeError, match="size mismatch"):
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "regnety_002", "densenet121", "mobilenetv3_small_050"])
def test_networks_of_timm(name: str, tmp_path: Path) -> None:
    options = {"zero_init_last": False} if name == "resnet18" else {"zero_init_last": None}
    result = pruned(network(name, in_chans=3, **options), bn_bias="zero")
    assert result.report.removed > 0
    save_pruned(result, tmp_path)
    assert same(goctconv.load_pruned(tmp_path), result.model)


@pytest.mark.parametrize("bn_bias", ["keep", "zero"])
def test_a_csnet_that_plain_timm_reads(bn_bias: str, tmp_path: Path) -> None:
    result = pruned(csnet("csnet_x1"), bn_bias=bn_bias, groups=bn_bias == "zero")
    assert result.report.removed > 0
    save_pruned(result.model, tmp_path, result.plan, license="mit")
    for again in (*loaded(tmp_path), timm.create_model(f"local-dir:{tmp_path}", pretrained=True)):
        assert again.channels == result.model.channels
        assert same(again, result.model)
        assert again.weights_license == "mit"


def test_twice_pruned(tmp_path: Path) -> None:
    first = pruned(network())
    second = pruned(first.model)
    assert second.report.removed > 0
    with pytest.raises(ValueError, match=r"does not fit a fresh ResNet: .*first\.plan\.then\(second\.plan\)"):
        save_pruned(second, tmp_path)
    save_pruned(second.model, tmp_path, first.plan.then(second.plan))
    assert same(goctconv.load_pruned(tmp_path), second.model)


def test_a_csnet_pruned_twice(tmp_path: Path) -> None:
    first = pruned(csnet(), bn_bias="zero")
    second = pruned(first.model, bn_bias="zero")
    assert second.report.removed > 0
    save_pruned(second, tmp_path)
    assert same(goctconv.load_pruned(tmp_path), second.model)


def test_a_head_that_timm_replaces(tmp_path: Path) -> None:
    result = pruned(network())
    result.model.reset_classifier(4)
    save_pruned(result, tmp_path)
    again = goctconv.load_pruned(tmp_path)
    assert again.num_classes == 4
    assert same(again, result.model)


def test_channels_last(tmp_path: Path) -> None:
    for index, model in enumerate((network(), csnet())):
        result = pruned(model.to(memory_format=torch.channels_last), bn_bias="zero")
        save_pruned(result, tmp_path / str(index))
        state = goctconv.load_pruned(tmp_path / str(index)).state_dict()
        assert all(torch.equal(state[name], value) for name, value in result.model.state_dict().items())


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("strict_umask")
@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_all_files_have_the_same_readers(tmp_path: Path) -> None:
    save_pruned(pruned(network()), tmp_path / "resnet")
    csnet().save_pretrained(tmp_path / "csnet")
    for _ in range(2):  # over older files, too
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in tmp_path.glob("*/*")}
        assert set(modes.values()) == {0o640}, modes
        csnet().save_pretrained(tmp_path / "csnet")


def test_folders_that_are_not_whole(tmp_path: Path) -> None:
    result = pruned(network())
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        goctconv.load_pruned(tmp_path)
    save_pruned(result, tmp_path)
    text = (tmp_path / "plan.json").read_text(encoding="utf-8")
    plan = json.loads(text)
    for name in [name for name in plan["steps"][0]["rows"] if name.startswith("conv1.0.")]:
        del plan["steps"][0]["rows"][name]
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"conv1\.0\.weight"):
        goctconv.load_pruned(tmp_path)
    with pytest.raises(CheckpointError, match=r"conv1\.0\.weight"):
        goctconv.create_model(f"local-dir:{tmp_path}")
    (tmp_path / "plan.json").write_text(text.replace("layer1.0.bn1", "layer9.0.bn1"), encoding="utf-8")
    with pytest.raises(PruningError, match=r"layer9\.0\.bn1"):
        goctconv.create_model(f"local-dir:{tmp_path}")
    (tmp_path / "plan.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no plan\.json"):
        goctconv.load_pruned(tmp_path)


def test_arguments_beside_a_plan(tmp_path: Path) -> None:
    result = pruned(network())
    save_pruned(result, tmp_path)
    name = f"local-dir:{tmp_path}"
    assert goctconv.create_model(name, drop_rate=0.5).drop_rate == 0.5
    with pytest.raises(ValueError, match=r"features_only=True.*forward_intermediates"):
        goctconv.create_model(name, features_only=True)
    with pytest.raises(CheckpointError, match=r"fc\.weight"):
        goctconv.create_model(name, num_classes=5)
    other = copy.deepcopy(result.model)
    nn.init.zeros_(other.fc.bias)
    torch.save(other.state_dict(), tmp_path / "other.pt")
    assert same(goctconv.create_model(name, checkpoint_path=tmp_path / "other.pt"), other)
    with pytest.raises(FileNotFoundError, match=r"gone\.pt"):
        goctconv.create_model(name, checkpoint_path=tmp_path / "gone.pt")


def replaced_head() -> tuple[nn.Module, PruningPlan]:
    result = pruned(network())
    result.model.fc = nn.Linear(result.model.fc.in_features, 5)
    return result.model, result.plan


def replaced_prediction() -> tuple[nn.Module, PruningPlan]:
    result = pruned(csnet(), bn_bias="zero")
    result.model.classifier = nn.Conv2d(result.model.classifier.in_channels, 5, 1)
    return result.model, result.plan


def with_an_extra_layer() -> tuple[nn.Module, PruningPlan]:
    result = pruned(network())
    result.model.extra = nn.Linear(3, 2)
    return result.model, result.plan


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (
            lambda: (network(), pruned(network()).plan),
            r"conv1\.0\.weight is \(\d+, 3, 3, 3\) in the model, .* makes of a fresh ResNet: the model is not pruned",
        ),
        (
            lambda: (pruned(network()).model, pruned(network(), 0.5).plan),
            r"conv1\.0\.weight is .* in the model, .*: if it was pruned twice.*otherwise the plan is of another model",
        ),
        (
            lambda: (pruned(network()).model, pruned(network("resnet18")).plan),
            r"the plan does not fit a fresh ResNet: the plan cuts .* the plan is of another model",
        ),
        (replaced_head, r"fc\.weight is \(5, \d+\) in the model, and \(7, \d+\) in what .*num_classes="),
        (with_an_extra_layer, r"extra\.weight is \(2, 3\) in the model, and missing in what"),
        (lambda: (csnet(), pruned(csnet(), bn_bias="zero").plan), r"channels in the model, .*the model is not pruned"),
        (
            lambda: (pruned(csnet(), bn_bias="zero").model, pruned(csnet(), 0.5, bn_bias="zero").plan),
            "channels in the model, .*the plan is of another model",
        ),
        (
            replaced_prediction,
            r"classifier\.weight is \(5, .* in the model, and \(1, .* in what the widths of this CSNet",
        ),
    ],
)
def test_what_does_not_belong_together(
    pair: Callable[[], tuple[nn.Module, PruningPlan]], message: str, tmp_path: Path
) -> None:
    model, plan = pair()
    with pytest.raises(ValueError, match=message):
        save_pruned(model, tmp_path / "new", plan)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (two_convolutions, "this Sequential was not made by timm"),
        (
            lambda: network(act_layer=nn.SiLU),
            r"act_layer=<class '.*SiLU'> of this ResNet cannot be written as JSON",
        ),
        (lambda: network(features_only=True), "this FeatureListNet was made with features_only=True"),
        (lambda: csnet(features_only=True), "this FeatureGetterNet was made with features_only=True"),
    ],
)
def test_what_no_folder_holds(make: Callable[[], nn.Module], message: str, tmp_path: Path) -> None:
    result = pruned(make(), bn_bias="zero")
    with pytest.raises(ValueError, match=message) as caught:
        save_pruned(result, tmp_path / "new")
    assert re.search(r"plan\.save\(FILE\)", str(caught.value))
    with pytest.raises(TypeError, match="plan=None must be a PruningPlan: pass what prune_channels gave"):
        save_pruned(result.model, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_an_activation_by_name_is_written(tmp_path: Path) -> None:
    save_pruned(pruned(network(act_layer="silu")), tmp_path)
    assert isinstance(goctconv.load_pruned(tmp_path).act1, nn.SiLU)


def test_saving_changes_nothing(tmp_path: Path) -> None:
    result = pruned(network())
    before = {name: value.clone() for name, value in result.model.state_dict().items()}
    plan, random = result.plan.to_dict(), torch.get_rng_state()
    save_pruned(result, tmp_path)
    assert torch.equal(torch.get_rng_state(), random)
    assert result.plan.to_dict() == plan
    assert all(torch.equal(value, before[name]) for name, value in result.model.state_dict().items())
    assert torch.get_default_device().type == "cpu"


def test_constructors_that_compute_with_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def reading_a_value(name: str, **arguments: Any) -> nn.Module:
        torch.ones(1).item()
        return create(name, **arguments)

    result = pruned(network())
    monkeypatch.setattr(timm, "create_model", reading_a_value)
    random = torch.get_rng_state()
    save_pruned(result, tmp_path)
    assert torch.equal(torch.get_rng_state(), random)
    assert same(goctconv.load_pruned(tmp_path), result.model)


def test_an_empty_plan(tmp_path: Path) -> None:
    for index, model in enumerate((network(), csnet())):
        result = pruned(model, 0)
        assert result.report.removed == 0
        save_pruned(result, tmp_path / str(index))
        again = goctconv.load_pruned(tmp_path / str(index))
        assert same(again, result.model)
        assert isinstance(again, CSNet) == bool(index)
