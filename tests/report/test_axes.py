"""Limits and ticks suit all values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goctconv.report.plots._axes import Axis, category_axis, linear_axis, log_axis
from goctconv.report.plots._text import compact, shorten, width_of

numbers = st.lists(st.floats(-1e12, 1e12).map(lambda value: float(f"{value:.6g}")), min_size=1, max_size=6)
positive = st.lists(st.floats(1e-30, 1e30), min_size=1, max_size=6)


def check(axis: Axis, values: list[float]) -> None:
    low, high = axis.limits
    assert math.isfinite(low)
    assert low < high < math.inf
    slack = 1e-9 * (high - low)
    assert all(low - slack <= value <= high + slack for value in values)
    ticks = [tick for tick, _ in axis.ticks]
    assert ticks == sorted(set(ticks))
    assert len(ticks) <= 12
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    assert all(0 <= axis.share(value) <= 1 for value in values)


@given(numbers, st.booleans())
def test_linear_axes_hold_their_values(values: list[float], from_zero: bool) -> None:
    axis = linear_axis("x", values, from_zero=from_zero)
    check(axis, [*values, *([0.0] if from_zero else [])])
    assert len(axis.ticks) >= 2


@given(st.lists(st.integers(-1000, 10**6), min_size=1, max_size=6))
def test_whole_ticks_are_integers(values: list[int]) -> None:
    axis = linear_axis("epoch", values, whole=True)
    check(axis, [float(value) for value in values])
    assert all(tick == round(tick) for tick, _ in axis.ticks)
    assert axis.ticks


@given(positive)
def test_logarithmic_axes_hold_their_values(values: list[float]) -> None:
    axis = log_axis("x", values)
    low, high = axis.limits
    assert 0 < low <= min(values)
    assert max(values) <= high
    assert 1 <= len(axis.ticks) <= 12
    assert all(low <= tick * (1 + 1e-9) and tick <= high * (1 + 1e-9) for tick, _ in axis.ticks)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 1], ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0.875, 0.916], ["0.87", "0.88", "0.89", "0.90", "0.91", "0.92"]),
        ([0, 80_000], ["0", "20k", "40k", "60k", "80k"]),
        ([3, 3], ["1", "2", "3", "4", "5"]),
    ],
)
def test_labels_are_short_and_alike(values: list[float], labels: list[str]) -> None:
    assert [label for _, label in linear_axis("x", values).ticks] == labels


def test_decades_are_left_out_where_there_are_many() -> None:
    assert [label for _, label in log_axis("x", [1e-24, 1]).ticks] == ["1e-24", "1e-18", "1e-12", "1e-6", "1"]


def test_logarithmic_ticks_of_close_values_are_still_some() -> None:
    assert len(log_axis("x", [210_985, 211_000]).ticks) >= 2


def test_things_have_a_place_each() -> None:
    axis = category_axis("layer", ["a", "b"])
    assert [axis.share(value) for value in (0, 1)] == [0.25, 0.75]


@pytest.mark.parametrize("values", [[], [math.nan, math.inf]])
def test_nothing_finite_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="no finite value"):
        linear_axis("x", values)


def test_values_beyond_all_measure_are_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        linear_axis("x", [-1e308, 1e308])


def test_texts_are_measured_and_shortened() -> None:
    assert compact(999_999) == "1M"
    assert compact(float("nan")) == "nan"
    assert shorten("short", 10) == "short"
    assert len(shorten("x" * 100, 10)) == 10
    assert width_of("日本", 10) == 20
