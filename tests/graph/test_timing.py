"""Timing in timings, and peak memory."""

from __future__ import annotations

import itertools

import pytest
import torch

from goctconv.deployment import compare_timings
from goctconv.graph import Timings, peak_memory


def test_every_side_takes_its_turn_first() -> None:
    order: list[str] = []
    ticks = itertools.count()
    timings = compare_timings(
        {name: lambda name=name: order.append(name) for name in "abc"}, rounds=3, warmup=1, clock=lambda: next(ticks)
    )
    rounds = ["".join(order[start : start + 3]) for start in range(0, 12, 3)]
    assert rounds == ["cab", "abc", "bca", "cab"]
    assert timings.seconds == {"a": [1, 1, 1], "b": [1, 1, 1], "c": [1, 1, 1]}


def test_ratios_are_those_of_each_round() -> None:
    timings = Timings({"old": [2.0, 8.0, 6.0, 4.0], "new": [1.0, 2.0, 2.0, 4.0]})
    assert timings.ratios("old") == {"old": (1.0, 1.0, 1.0), "new": (1.75, 2.5, 3.25)}
    assert timings.median("old") == 5.0
    assert timings.to_dict("old")["new"]["old_over_this"] == (1.75, 2.5, 3.25)
    assert Timings({"one": [3.0]}).ratios("one") == {"one": (1.0, 1.0, 1.0)}


@pytest.mark.parametrize(("sides", "rounds"), [({}, 1), ({"a": list}, 0)])
def test_nothing_to_measure(sides: dict[str, type], rounds: int) -> None:
    with pytest.raises(ValueError, match=r"must be (at least one function|an integer of at least 1)"):
        compare_timings(sides, rounds=rounds)


def test_peak_memory_is_what_is_held_at_once() -> None:
    def call() -> None:
        first = torch.empty(1000, dtype=torch.float32)
        del first
        both = torch.empty(500, dtype=torch.float32), torch.empty(500, dtype=torch.float64)
        del both

    assert 6000 <= peak_memory(call) < 6400


def test_a_budget_ends_rounds_once_three_have_counted() -> None:
    calls = []
    timings = compare_timings({"a": lambda: calls.append(1)}, rounds=50, warmup=9, budget=0.0)
    assert len(timings.seconds["a"]) == 3
    assert len(calls) == 1 + 3  # one round that does not count
    assert len(compare_timings({"a": lambda: None}, rounds=5, budget=60.0).seconds["a"]) == 5


def test_preparation_is_not_timed() -> None:
    ticks = itertools.count()
    prepared: list[int] = []
    timings = compare_timings(
        {"a": list}, rounds=2, warmup=1, clock=lambda: next(ticks), prepare=lambda: prepared.append(next(ticks))
    )
    assert timings.seconds == {"a": [1, 1]}
    assert len(prepared) == 3
