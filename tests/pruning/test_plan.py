"""Plans: JSON that makes the slim model out of a fresh one, and errors where it is for another one."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from goctconv.pruning import PruningError, load_plan, plan_pruning, prune_channels
from reference.random_networks import difference, masked, randomize
from reference.zoo.chains import mixed as network

EXAMPLE = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def faded() -> nn.Module:
    torch.manual_seed(2)
    return randomize(network(), share=0.5, seed=1).eval()


def test_a_plan_and_a_plain_state_dict_are_the_model(tmp_path: Path) -> None:
    model = faded()
    result = prune_channels(model, EXAMPLE, threshold=1e-20)
    result.plan.save(tmp_path / "plan.json")
    torch.save(result.model.state_dict(), tmp_path / "weights.pt")
    again = load_plan(tmp_path / "plan.json").apply(network())
    again.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True), strict=True)
    assert torch.equal(again.eval()(EXAMPLE), result.model(EXAMPLE))
    assert str(again) == str(result.model)
    assert difference(masked(model)(EXAMPLE), again(EXAMPLE)) < 1e-13


def test_a_plan_is_json_and_survives(tmp_path: Path) -> None:
    plan = prune_channels(faded(), EXAMPLE, threshold=1e-20, criterion="gamma_first").plan
    plan.save(tmp_path / "plan.json")
    loaded = load_plan(tmp_path / "plan.json")
    assert loaded.to_dict() == plan.to_dict() == json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    assert (loaded.masks, loaded.removed, loaded.steps, loaded.report) == (
        plan.masks, plan.removed, plan.steps, plan.report,
    )  # fmt: skip
    assert loaded.moves is None
    assert str(loaded) == str(plan.report)


def test_a_plan_turns_the_model_into_an_equal_one() -> None:
    model = faded()
    plan = plan_pruning(model, EXAMPLE, threshold=1e-20)
    slim = plan.apply(model)
    assert difference(masked(model)(EXAMPLE), slim(EXAMPLE)) < 1e-13
    assert torch.equal(plan.mask(copy.deepcopy(model))(EXAMPLE), masked(model)(EXAMPLE))
    assert plan.apply(model, inplace=True) is model
    assert torch.equal(model(EXAMPLE), slim(EXAMPLE))


def test_a_plan_applied_twice() -> None:
    model = faded()
    plan = plan_pruning(model, EXAMPLE, threshold=1e-20)
    slim = plan.apply(model)
    before = {name: one.clone() for name, one in slim.state_dict().items()}
    with pytest.raises(PruningError, match="it is for another model, or has been applied already"):
        plan.apply(slim, inplace=True)
    assert all(torch.equal(one, before[name]) for name, one in slim.state_dict().items())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (network(16), "the plan is for 8 channels of '0.norm', the model has 16: it is for another model"),
        (nn.Sequential(nn.Conv2d(3, 8, 3)), "which the model does not have: it is for another one"),
        (nn.ReLU(), "which the model does not have: it is for another one"),
    ],
)
def test_a_plan_for_another_model(other: nn.Module, message: str) -> None:
    plan = plan_pruning(faded(), EXAMPLE, threshold=1e-20)
    with pytest.raises(PruningError, match=message):
        plan.apply(other)


def damaged(**changes: Any) -> str:
    return json.dumps({**plan_pruning(faded(), EXAMPLE, threshold=1e-20).to_dict(), **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "plan.json is no pruning plan: Expecting property name"),
        ("[1, 2]", "plan.json is no pruning plan: it was not written by PruningPlan.save"),
        ('{"format": "other"}', "it was not written by PruningPlan.save"),
        (damaged(version=3), "it has version 3, this goctconv reads 2: install a newer one"),
        (damaged(version=1), "it has version 1, this goctconv reads 2: plan again"),
        (damaged(version=None), "it has version None"),
        (damaged(steps=[{"rows": 3}]), "it is damaged"),
        (damaged(masks=None), "it is damaged"),
        (damaged(report={}), "this is no pruning report"),
    ],
)
def test_files_that_are_no_plans(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text, encoding="utf-8")
    with pytest.raises(PruningError, match=message):
        load_plan(tmp_path / "plan.json")
    with pytest.raises(FileNotFoundError):
        load_plan(tmp_path / "nowhere.json")


def test_other_weights_than_those_that_were_analysed() -> None:
    model = faded()
    plan = plan_pruning(model, EXAMPLE, threshold=1e-20)
    with torch.no_grad():
        model[0].conv.weight.mul_(1.01)
    with pytest.warns(UserWarning, match="the model has other weights than those that were analysed"):
        slim = plan.apply(model)
    slim.load_state_dict(plan.apply(faded()).state_dict(), strict=True)
    assert difference(masked(faded())(EXAMPLE), slim(EXAMPLE)) < 1e-13


def test_a_loaded_plan_on_the_weights_that_were_analysed(tmp_path: Path) -> None:
    plan_pruning(faded(), EXAMPLE, threshold=1e-20).save(tmp_path / "plan.json")
    with pytest.warns(UserWarning, match="the constants that it moves are not in its file"):
        load_plan(tmp_path / "plan.json").apply(faded())


def test_one_plan_after_another(tmp_path: Path) -> None:
    model = faded()
    first = prune_channels(model, EXAMPLE, threshold=1e-20)
    second = prune_channels(first.model, EXAMPLE, ratio=0.3, bn_bias="zero")
    assert second.report.removed > 0
    plan = first.plan.then(second.plan)
    plan.save(tmp_path / "plan.json")
    again = load_plan(tmp_path / "plan.json").apply(network())
    again.load_state_dict(second.model.state_dict(), strict=True)
    assert torch.equal(again.eval()(EXAMPLE), second.model(EXAMPLE))
    sizes = [one.num_features for one in again.modules() if isinstance(one, nn.BatchNorm2d)]
    assert [layer.left for layer in plan.report.layers.values()] == sizes
    assert plan.report.parameters == (first.report.parameters[0], second.report.parameters[1])
    assert {name: len(channels) for name, channels in plan.removed.items()} == {
        name: layer.removed for name, layer in plan.report.layers.items() if layer.removed
    }


def test_plans_show_themselves_in_one_line() -> None:
    result = prune_channels(faded(), EXAMPLE, threshold=1e-20)
    assert re.fullmatch(r"PruningPlan\(\d+ of \d+ masked channels removed.*\)", repr(result.plan))
    assert re.fullmatch(r"PruningResult\(Sequential: \d+ of \d+ masked channels removed.*\)", repr(result))
