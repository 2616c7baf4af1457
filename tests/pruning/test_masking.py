"""What masking alone does to the outputs, and that nobody can overlook a network that it kills."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from goctconv import plan_pruning, prune_channels
from goctconv.pruning import PruningReport
from goctconv.pruning._masking import effect_of_masking
from goctconv.pruning._reasons import Reason
from goctconv.pruning._report import PrunedLayer


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(block(3, 8), block(8, 8), block(8, 8), nn.Conv2d(8, 2, 1)).eval()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    return model


def norms(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}


EXAMPLE = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def test_effect_is_that_of_the_masked_network() -> None:
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = plan_pruning(model, EXAMPLE, ratio=0.2)
    effect = plan.report.masking
    assert effect is not None
    masked = plan.mask(network()).eval()
    with torch.no_grad():
        before, after = model(EXAMPLE), masked(EXAMPLE)
    assert effect.relative == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-4)
    assert effect.largest == pytest.approx(float((after - before).abs().max() / before.abs().max()), rel=1e-4)
    assert 0.2 < effect.spread < 1.5
    assert not effect.is_collapse
    assert effect.layer == ""
    first, second = str(plan.report).splitlines()[:2]
    assert f"masking changes the outputs on the example by {effect.relative:.2g}" in first
    assert "warning" not in second
    assert PruningReport.from_dict(plan.report.to_dict()) == plan.report


@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_a_network_that_masking_kills_is_named_with_the_layer_that_does_it(culprit: int) -> None:
    model = network()
    name, norm = list(norms(model).items())[culprit]
    with torch.no_grad():
        norm.weight.fill_(0.4)
        list(norms(model).values())[culprit - 1].weight[0] = 0.4  # harmless alone
    with pytest.warns(UserWarning, match="masking leaves the outputs constant") as caught:
        result = prune_channels(model, EXAMPLE, threshold=0.45, bn_bias="zero")
    assert caught[0].filename == __file__
    effect = result.report.masking
    assert effect is not None
    assert effect.is_collapse
    assert effect.layer == name
    assert effect.alone == pytest.approx(effect.relative, rel=0.5)
    assert name in str(result.report).splitlines()[1]


def test_the_effect_is_measured_on_random_input_where_the_example_is_constant() -> None:
    model = network()
    with pytest.warns(UserWarning, match="does most of it, 0.0[1-9].* when masked alone"):
        report = plan_pruning(model, torch.zeros(1, 3, 12, 12), ratio=0.95, bn_bias="zero").report
    effect = report.masking
    assert effect is not None
    assert effect.relative > 0.02
    assert effect.alone > 0.02
    assert "masking changes the outputs on random input by" in str(report).splitlines()[0]
    assert PruningReport.from_dict(report.to_dict()) == report


@pytest.mark.parametrize("example", [EXAMPLE, torch.zeros(1, 3, 12, 12)], ids=["random", "zeros"])
@pytest.mark.parametrize("bias", [0.0, 0.3], ids=["constant", "constant but at borders"])
def test_a_network_that_was_dead_before_is_told_from_one_that_masking_kills(bias: float, example: Tensor) -> None:
    model = network()
    for norm in norms(model).values():
        nn.init.constant_(norm.bias, bias)
    nn.init.constant_(norms(model)["1.1"].weight, 1e-5)
    with pytest.warns(UserWarning, match="the network itself gives nearly the same") as caught:
        report = prune_channels(model, example, threshold=1e-3).report
    assert caught[0].filename == __file__
    assert report.masking is not None
    assert report.masking.was_constant
    text = str(report)
    assert "before masking" in text.splitlines()[1]
    assert "1.1" in text.splitlines()[1]
    assert "too much is masked" not in text


@pytest.mark.parametrize("used", [{}, {"groups": True}, {"bn_bias": "zero"}, {"outputs": lambda out: out}])
def test_options_that_were_used_are_not_suggested(used: dict[str, Any]) -> None:
    report = plan_pruning(network(), EXAMPLE, ratio=0.2, **used).report
    reasons = [Reason(kind, "layer", "by") for kind in ("coupled", "output", "product")]
    layers = {"layer": PrunedLayer(3, 3, 0, dict(enumerate(reasons)))}
    hints = " ".join(replace(report, layers=layers).hints())
    assert {name for name in ("groups", "outputs", "bn_bias") if f"{name}=" not in hints} == set(used)


def test_nothing_is_said_where_nothing_is_masked() -> None:
    report = plan_pruning(network(), EXAMPLE, threshold=1e-20).report
    assert report.masking is None
    assert "masking changes" not in str(report)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], []),
        ([torch.ones(3, dtype=torch.int64)], [torch.ones(3, dtype=torch.int64)]),
        ([torch.ones(3)], [torch.ones(4)]),
        ([torch.ones(3)], [torch.ones(3), torch.ones(3)]),
        ([torch.tensor([float("nan")])], [torch.ones(1)]),
    ],
    ids=["none", "integers", "shapes", "numbers", "nan"],
)
def test_outputs_that_cannot_be_compared_have_no_effect(before: list[Tensor], after: list[Tensor]) -> None:
    assert effect_of_masking([before], [after]) is None


def test_outputs_that_never_varied_have_not_collapsed() -> None:
    effect = effect_of_masking([[torch.full((2, 3), 2.0)]], [[torch.zeros(2, 3)]])
    assert effect is not None
    assert (effect.relative, effect.largest, effect.is_collapse) == (1.0, 1.0, False)


def test_one_dead_output_of_several_is_a_collapse() -> None:
    x = torch.rand(4, 5)
    effect = effect_of_masking([[x, x]], [[x, x[:1].expand_as(x)]])
    assert effect is not None
    assert effect.is_collapse


def test_classes_of_one_image_are_compared_with_those_of_another() -> None:
    first, second = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[3.0, 1.0, 2.0]])
    dead = effect_of_masking([[first], [second]], [[first], [first]])
    alive = effect_of_masking([[first], [second]], [[first], [first + 0.5 * (second - first)]])
    assert dead is not None
    assert alive is not None
    assert (dead.spread, alive.spread) == (0.0, pytest.approx(0.5))
