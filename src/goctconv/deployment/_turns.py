"""Times of several ways to do the same, measured in turns."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.profiler import ProfilerActivity, profile

_LEAST_ROUNDS = 3  # that count, however long they take


@dataclass(frozen=True)
class Timings:
    """Seconds that several ways to do the same took, in turns.

    Attributes:
        seconds: For each way, the seconds of every round.

    Example:
        >>> from goctconv.deployment import Timings
        >>> Timings({"old": [2.0, 2.2, 2.0], "new": [1.0, 1.1, 1.0]}).ratios("old")["new"]
        (2.0, 2.0, 2.0)
    """

    seconds: dict[str, list[float]]

    def median(self, side: str) -> float:
        """Return the median of a side's seconds."""
        return statistics.median(self.seconds[side])

    def ratios(self, baseline: str) -> dict[str, tuple[float, float, float]]:
        """Return how many times faster than the baseline each side is, round by round.

        Args:
            baseline: The side that the others are compared with.

        Returns:
            For each side the first quartile, the median and the third quartile.
        """
        return {
            side: _quartiles([a / b for a, b in zip(self.seconds[baseline], values, strict=True)])
            for side, values in self.seconds.items()
        }

    def to_dict(self, baseline: str) -> dict[str, Any]:
        """Return medians, quartiles of the ratios and all seconds, as JSON holds it."""
        ratios = self.ratios(baseline)
        return {
            side: {"median_s": self.median(side), f"{baseline}_over_this": ratios[side], "seconds": values}
            for side, values in self.seconds.items()
        }


def compare_timings(
    sides: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 15,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
    budget: float | None = None,
) -> Timings:
    """Measure several ways to do the same in turns, so that what else the machine does meets all alike.

    Each round calls every side once, beginning with another one each time.

    Args:
        sides: What to call, by name.
        rounds: Rounds that count.
        warmup: Rounds before those, that do not.
        clock: Returns seconds. `time.process_time` is less disturbed by other programs, but counts those of all
            threads together.
        budget: Seconds, by the clock on the wall, after which no round begins any more, once three have counted;
            rounds that do not count take a quarter of it at most, but for the first. None: no limit.

    Raises:
        ValueError: There is no side or no round.

    Example:
        >>> from goctconv.deployment import compare_timings
        >>> turns = compare_timings({"sum": lambda: sum(range(9)), "formula": lambda: 9 * 8 // 2}, rounds=5)
        >>> len(turns.seconds["sum"])
        5
    """
    if not sides or rounds < 1:
        raise ValueError(f"{len(sides)} sides and rounds={rounds}: expected at least one of each")
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    names = list(sides)
    begin, limit = time.perf_counter(), math.inf if budget is None else budget
    for number in range(-warmup, rounds):
        spent = time.perf_counter() - begin
        if (-warmup < number < 0 and spent > limit / 4) or (number >= _LEAST_ROUNDS and spent > limit):
            continue
        first = number % len(names)
        for side in names[first:] + names[:first]:
            start = clock()
            sides[side]()
            taken = clock() - start
            if number >= 0:
                seconds[side].append(taken)
    return Timings(seconds)


def peak_memory(call: Callable[[], object]) -> int:
    """Return the most bytes that PyTorch holds at once during a call, beside what it held before, on the processor."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    held = most = 0
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
