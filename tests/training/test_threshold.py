"""A threshold in the valley of γ's histogram, or an honest refusal."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from goctconv.training import ThresholdError, find_threshold
from reference.zoo.chains import batch_norms as network


def spread(count: int, low: float, high: float, seed: int = 0) -> Tensor:
    """Values that are spread evenly on a logarithmic scale, of both signs."""
    generator = torch.Generator().manual_seed(seed)
    logs = torch.rand(count, generator=generator, dtype=torch.float64) * (high - low) + low
    return 10**logs * (torch.randint(2, (count,), generator=generator) * 2 - 1)


def test_two_groups() -> None:
    small, large = spread(70, -6, -4), spread(130, -1, 0)
    found = find_threshold(network(torch.cat([small[:30], large[:50]]), torch.cat([small[30:], large[50:]])))
    assert (found.below, found.channels, found.inside, found.share) == (70, 200, 0, 0.35)
    assert found.lower == pytest.approx(float(small.abs().max()))
    assert found.upper == pytest.approx(float(large.abs().min()))
    assert found.value == pytest.approx((found.lower * found.upper) ** 0.5)
    assert found.decades == pytest.approx(float((large.abs().min() / small.abs().max()).log10()), rel=1e-6)
    assert json.loads(json.dumps(found.to_dict()))["below"] == 70


def test_a_gap_may_hold_a_few_strays_and_the_threshold_avoids_them() -> None:
    strays = torch.tensor([10**-4.0, 10**-2.0])
    found = find_threshold(network(torch.cat([spread(100, -7, -5), spread(100, -1, 0), strays])))
    assert found.inside == 2
    assert 10**-4.0 < found.value < 10**-2.0
    assert found.below == 101


def test_zeros_have_faded() -> None:
    found = find_threshold(network(torch.cat([torch.zeros(5), spread(20, -1, 0)])))
    assert (found.below, found.lower) == (5, 0.0)
    assert 0 < found.value < 0.1


def test_only_named_layers_count() -> None:
    model = network(torch.tensor([1e-5, 1e-5, 1.0, 1.0]), torch.tensor([0.01, 0.02, 0.03]))
    assert find_threshold(model, layers=["0"]).channels == 4
    with pytest.raises(ValueError, match="no BatchNorm with γ"):
        find_threshold(model, layers=["2"])


@pytest.mark.parametrize(
    "scales",
    [
        pytest.param(torch.ones(50), id="fresh"),
        pytest.param(spread(300, -5, 0), id="evenly spread"),
        pytest.param(torch.cat([torch.tensor([1e-9]), spread(99, -1, 0)]), id="one outlier"),
        pytest.param(torch.cat([spread(50, -1.5, -1.0), spread(50, -0.5, 0)]), id="half a decade"),
        pytest.param(torch.tensor([1e-9, 1.0]), id="two channels"),
        pytest.param(torch.linspace(1e-4, 1, 500), id="faded part of a uniform distribution"),
    ],
)
def test_where_there_is_no_gap_it_refuses(scales: Tensor) -> None:
    with pytest.raises(
        ThresholdError, match=r"no valley in the histogram of \d+ γ: .*quantiles.*or choose a threshold"
    ):
        find_threshold(network(scales))


def test_a_valley_counts_where_some_channels_are_on_their_way() -> None:
    """1,000 channels: two crowds, and a tenth of them evenly spread over the two decades between."""
    crowds = torch.cat([spread(450, -6, -5, 1), spread(100, -5, -3, 2), spread(450, -3, -1.5, 3)])
    found = find_threshold(network(crowds))
    assert -5 < math.log10(found.value) < -3
    assert 1e-5 * 0.5 < found.lower < found.value < found.upper < 1e-3 * 2
    assert 450 <= found.below <= 550
    assert 60 <= found.inside <= 160  # the valley's ends are blurred by a window of half a decade
    assert 0 < found.filled <= 0.75
    assert found.decades == pytest.approx(2, abs=0.4)
    assert found.below == int((crowds.float().abs() < found.value).sum())


def test_the_valley_below_living_channels_is_meant() -> None:
    """A deeper valley, between quite dead channels and fading ones, tells nothing of living ones."""
    dead, fading, living = spread(300, -16, -14, 1), spread(1500, -7, -3, 2), spread(700, -2, -1, 3)
    found = find_threshold(network(torch.cat([dead, fading, living, spread(60, -3, -2, 4), spread(60, -14, -7, 5)])))
    assert 1e-3 < found.value < 1e-2
    with pytest.raises(ThresholdError, match="no valley is clear"):
        find_threshold(network(torch.cat([dead, fading, spread(600, -3, -1, 3), spread(60, -14, -7, 5)])))


@pytest.mark.parametrize(("count", "seeds"), [(40, 60), (200, 40), (1500, 5)])
def test_chance_makes_no_valley(count: int, seeds: int) -> None:
    """Channels that are evenly or normally spread over many decades have no valley, whatever the seed."""
    for seed in range(seeds):
        torch.manual_seed(seed)
        for logs in (torch.rand(count) * 6 - 6, torch.randn(count) * 1.5 - 3):
            try:
                found = find_threshold(network(10**logs))
            except ThresholdError:
                continue
            assert found.filled == 0.0, (seed, str(found))
            assert found.inside <= 0.01 * count


def test_broken_scales() -> None:
    with pytest.raises(ValueError, match="1 of 3 γ that are NaN or infinite"):
        find_threshold(network(torch.tensor([1.0, float("nan"), 1e-9])))


@given(st.integers(2, 60), st.integers(2, 60), st.floats(1.5, 20), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_groups_of_any_size_are_told_apart(small: int, large: int, decades: float, seed: int) -> None:
    """As long as the valley is wider than what either group spans."""
    low = spread(small, -0.3, 0, seed).abs() * 10**-decades * 0.1
    high = spread(large, -0.3, 0, seed + 1).abs()
    found = find_threshold(network(torch.cat([low, high]).float()))
    assert found.below == small
    assert float(low.max()) < found.value < float(high.min())
