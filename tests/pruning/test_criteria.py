"""Which channels are masked: thresholds and shares of every criterion, limits, layers to keep, and groups classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from goctconv.pruning import PruningPlan, channel_groups, plan_pruning, prune_channels
from reference.random_networks import difference
from reference.zoo.chains import depthwise as network

EXAMPLE = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


NAMES = ["0.norm", "1.norm", "2.norm", "3.norm", "4.body.norm"]


def scales(model: nn.Module) -> dict[str, Tensor]:
    return {name: model.get_submodule(name).weight.detach().abs() for name in NAMES}


def lowest(scores: dict[str, Tensor], count: int) -> dict[str, list[int]]:
    """The oracle: sort pairs of score, layer and channel."""
    pairs = sorted((float(v), n, c) for n, score in scores.items() for c, v in enumerate(score))
    found: dict[str, list[int]] = {}
    for _, name, channel in pairs[:count]:
        found.setdefault(name, []).append(channel)
    return {name: sorted(channels) for name, channels in found.items()}


def masked(**options: Any) -> dict[str, list[int]]:
    return plan_pruning(network(), EXAMPLE, **options).masked


def test_a_threshold() -> None:
    expected = {n: [c for c, v in enumerate(s) if v < 0.4] for n, s in scales(network()).items()}
    assert masked(threshold=0.4) == {name: channels for name, channels in expected.items() if channels}
    assert masked(threshold=0.0) == {}


def test_a_share_of_all_channels() -> None:
    assert masked(ratio=0.3) == lowest(scales(network()), 15)
    assert masked(ratio=0.0) == {}


def test_a_share_of_each_layer() -> None:
    found = masked(ratio=0.3, scope="layer")
    assert found == {name: lowest({name: score}, 3)[name] for name, score in scales(network()).items()}


def test_the_largest_share_of_a_layer() -> None:
    found = masked(threshold=2.0, max_ratio=0.45)
    assert found == {name: lowest({name: score}, 4)[name] for name, score in scales(network()).items()}
    assert masked(threshold=2.0, max_ratio=0) == {}


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("0.norm", {"0.norm"}),
        ("1", {"1.norm"}),
        ("4.*", {"4.body.norm"}),
        (["0", "*.body.norm"], {"0.norm", "4.body.norm"}),
        ("*", set(NAMES)),
        (lambda name, _: name.startswith("4"), {"4.body.norm"}),
        ([], set()),
    ],
)
def test_layers_to_keep(keep: Any, kept: set[str]) -> None:
    plan = plan_pruning(network(), EXAMPLE, threshold=2.0, keep=keep)
    assert set(plan.masked) == set(NAMES) - kept
    assert kept.isdisjoint(plan.removed)


def test_modules_to_keep() -> None:
    model = network()
    plan = plan_pruning(model, EXAMPLE, threshold=2.0, keep=[model[4], model[0].norm])
    assert set(plan.masked) == {"1.norm", "2.norm", "3.norm"}


def test_the_first_of_a_chain_decides() -> None:
    model = network()
    plan = plan_pruning(model, EXAMPLE, threshold=0.4, criterion="gamma_first")
    first = [channel for channel, scale in enumerate(scales(model)["0.norm"]) if scale < 0.4]
    assert first
    for name in ("0.norm", "1.norm", "2.norm"):
        assert plan.masked[name] == plan.masks.biases[name] == plan.removed[name] == first
    assert plan.apply(model)[1].conv.groups == 10 - len(first)


def test_filters() -> None:
    model = network()
    weights = {f"{index}.norm": model[index].conv.weight.detach().flatten(1) for index in range(4)}
    weights["4.body.norm"] = model[4].body.conv.weight.detach().flatten(1)
    norms = {name: weight.abs().sum(1) for name, weight in weights.items()}
    medians = {
        name: torch.stack([sum((a - b).norm() for b in weight) for a in weight]) for name, weight in weights.items()
    }
    # of a chain, the filter that makes the channels of each layer is the layer's own
    for criterion, scores in (("l1_filter", norms), ("geometric_median", medians)):
        found = masked(ratio=0.4, scope="layer", criterion=criterion)
        assert {n: found[n] for n in ("3.norm", "4.body.norm")} == {
            n: lowest({n: scores[n]}, 4)[n] for n in ("3.norm", "4.body.norm")
        }


def test_a_function_scores_some_layers() -> None:
    def criterion(model: nn.Module) -> dict[str, Tensor]:
        return {"3.norm": -model.get_submodule("3.norm").weight}

    found = masked(ratio=0.2, criterion=criterion)
    assert found == {"3.norm": sorted(scales(network())["3.norm"].argsort()[-2:].tolist())}


def test_coupled_classes_live_and_die_together() -> None:
    model = network()
    classes = channel_groups(model, EXAMPLE)
    plan = plan_pruning(model, EXAMPLE, ratio=0.3, groups=True)
    mean = classes.mean(scales(model))
    assert plan.masked == lowest_whole(mean, 15)
    assert plan.masked["3.norm"] == plan.masked["4.body.norm"] == plan.removed["3.norm"]
    assert plan.report.removed == plan.report.masked > 0


def lowest_whole(scores: dict[str, Tensor], count: int) -> dict[str, list[int]]:
    together = torch.cat(list(scores.values()))
    chosen = torch.zeros(len(together), dtype=torch.bool)
    chosen[together.argsort(stable=True)[:count]] = True
    parts = dict(zip(scores, chosen.split([len(one) for one in scores.values()]), strict=True))
    return {name: part.nonzero()[:, 0].tolist() for name, part in parts.items() if part.any()}


@pytest.mark.parametrize("multiple", [1, 2, 4, 5])
def test_multiples(multiple: int) -> None:
    result = prune_channels(network(), EXAMPLE, threshold=0.6, bn_bias="zero", round_to=multiple)
    for layer in result.report.layers.values():
        assert layer.left % multiple == 0 or layer.left == layer.channels


@pytest.mark.parametrize("bn_bias", ["keep", "zero"])
def test_biases(bn_bias: Any) -> None:
    model = network()
    result = prune_channels(model, EXAMPLE, threshold=0.6, bn_bias=bn_bias)
    oracle = network()
    with torch.no_grad():
        for name in NAMES:
            norm = oracle.get_submodule(name)
            faded = norm.weight.abs() < 0.6
            norm.weight[faded] = 0
            if bn_bias == "zero":
                norm.bias[faded] = 0
        assert difference(oracle(EXAMPLE), result.model(EXAMPLE)) < 1e-13
        assert difference(oracle(EXAMPLE), model(EXAMPLE)) > 1e-3


def test_the_same_plan_again() -> None:
    plans: list[PruningPlan] = [plan_pruning(network(), EXAMPLE, ratio=0.4) for _ in range(2)]
    assert plans[0].to_dict() == plans[1].to_dict()


def test_filters_of_a_transposed_convolution() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.ConvTranspose2d(6, 6, 2, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1)
    ).double()
    sums = model[1].weight.detach().abs().sum((0, 2, 3))
    chosen = plan_pruning(model, EXAMPLE, ratio=0.5, criterion="l1_filter").masked["2"]
    assert chosen == sorted(sums.argsort()[:3].tolist())


def test_filters_are_compared_within_their_layer() -> None:
    by_layer = masked(ratio=0.3, criterion="l1_filter")
    assert {len(channels) for channels in by_layer.values()} == {3}
    assert by_layer == masked(ratio=0.3, criterion="l1_filter", scope="layer")
    assert by_layer != masked(ratio=0.3, criterion="l1_filter", scope="global")


def test_layers_without_a_filter_have_no_score() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1)).double()
    assert set(plan_pruning(model, EXAMPLE, ratio=0.5, criterion="l1_filter").masked) == {"2"}
    with pytest.raises(ValueError, match="no BatchNorm comes right behind a layer"):
        plan_pruning(model[:2], EXAMPLE, ratio=0.5, criterion="geometric_median")


def test_equal_scores_are_taken_from_all_layers() -> None:
    model = network()
    for name in NAMES:
        nn.init.ones_(model.get_submodule(name).weight)
    chosen = plan_pruning(model, EXAMPLE, ratio=0.3).masked
    assert {len(channels) for channels in chosen.values()} == {3}


def test_keeping_everything() -> None:
    assert masked(ratio=0.3, keep="*") == {}
