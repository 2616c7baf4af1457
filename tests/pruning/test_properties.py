"""What holds for every network: the pruned one equals the masked one, whatever it is made of and whatever is masked."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from goctconv.pruning import PruningPlan, plan_pruning, prune_channels
from reference.random_networks import Drawn, difference, masked, networks, norms_of

TOLERANCE = 1e-10


def examples(count: int) -> settings:
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # shrinking takes minutes, and the networks are small
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example, HealthCheck.data_too_large],
    )


every_mask = [pytest.mark.parametrize("bn_bias", ["keep", "zero"]), pytest.mark.parametrize("groups", [False, True])]


@every_mask[0]
@every_mask[1]
@given(drawn=networks())
@examples(25)
def test_the_pruned_network_equals_the_masked_one(drawn: Drawn, bn_bias: str, groups: bool) -> None:
    check(drawn, bn_bias, groups=groups)


@pytest.mark.slow
@every_mask[0]
@every_mask[1]
@given(drawn=networks())
@examples(125)  # 500 in all
def test_more_pruned_networks_equal_the_masked_ones(drawn: Drawn, bn_bias: str, groups: bool) -> None:
    check(drawn, bn_bias, groups=groups)


@torch.no_grad()
def check(drawn: Drawn, bn_bias: str, *, groups: bool) -> None:
    options = {"ratio": 0.4, "groups": True} if groups else {"threshold": 1e-20}
    result = prune_channels(drawn.model, drawn.example, bn_bias=bn_bias, **options)
    oracle = masked(drawn.model, bn_bias=bn_bias) if not groups else result.plan.mask(copy.deepcopy(drawn.model))
    assert difference(oracle(drawn.example), result.model(drawn.example)) <= TOLERANCE
    if drawn.is_free:
        other = torch.randn(1, 3, 11, 13, dtype=torch.float64)
        assert difference(oracle(other), result.model(other)) <= TOLERANCE
    sizes = {name: norm.num_features for name, norm in norms_of(result.model).items()}
    assert sizes == {name: layer.left for name, layer in result.report.layers.items()}


@given(drawn=networks(), round_to=st.sampled_from([None, 2, 4]), min_channels=st.integers(1, 3))
@examples(80)
@torch.no_grad()
def test_a_plan_and_a_state_dict_are_the_network(drawn: Drawn, round_to: int | None, min_channels: int) -> None:
    result = prune_channels(drawn.model, drawn.example, threshold=1e-20, round_to=round_to, min_channels=min_channels)
    plan = PruningPlan.from_dict(json.loads(json.dumps(result.plan.to_dict())))
    fresh = copy.deepcopy(drawn.model)
    for parameter in fresh.parameters():
        parameter.uniform_(-1, 1)
    again = plan.apply(fresh)
    again.load_state_dict(result.model.state_dict(), strict=True)
    assert torch.equal(again(drawn.example), result.model(drawn.example))
    for layer in result.report.layers.values():
        assert layer.left >= min(min_channels, layer.channels)


@given(drawn=networks())
@examples(100)
@torch.no_grad()
def test_pruning_again_removes_nothing(drawn: Drawn) -> None:
    result = prune_channels(drawn.model, drawn.example, threshold=1e-20)
    again = plan_pruning(result.model, drawn.example, threshold=1e-20)
    assert again.removed == {}
    assert again.steps == []
