"""Timing of several sides of a comparison, measured in turns."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .._checks import ArgumentError, check_integer

_LEAST_ROUNDS = 3  # that count, however long they take


@dataclass(frozen=True)
class Timings:
    """Seconds that the sides of a comparison took, measured in turns.

    Attributes:
        seconds: For each side, the seconds of every round.

    Example:
        >>> from goctconv.graph import Timings
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
    prepare: Callable[[], object] | None = None,
) -> Timings:
    """Time several sides of a comparison in turns, so that changes in the machine's load affect all alike.

    Each round calls every side once, beginning with another one each time.

    Args:
        sides: What to call, by name.
        rounds: Rounds that count.
        warmup: Rounds before those, which do not.
        clock: Returns seconds. `time.process_time` is less disturbed by other programs, but adds up the time of all
            threads.
        budget: Seconds of wall-clock time after which no further round starts, once three have counted; warm-up rounds
            take a quarter of it at most, except for the first. None: no limit.
        prepare: Called before each measurement, outside of it.

    Returns:
        An object whose attribute ``seconds`` holds the seconds of every round by side. Its method ``median(side)``
        returns the median of a side; ``ratios(baseline)``, how many times faster than a baseline each side is, as first
        quartile, median and third quartile over the rounds; ``to_dict(baseline)``, all of these for JSON.

    Raises:
        ArgumentError: There is no side or no round.

    Example:
        >>> from goctconv.deployment import compare_timings
        >>> timings = compare_timings({"sum": lambda: sum(range(9)), "formula": lambda: 9 * 8 // 2}, rounds=5)
        >>> len(timings.seconds["sum"]), timings.ratios("sum")["sum"]
        (5, (1.0, 1.0, 1.0))
    """
    if not sides:
        raise ArgumentError("sides", sides, "at least one function to call, by name")
    check_integer("rounds", rounds, 1)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    names = list(sides)
    begin, limit = time.perf_counter(), math.inf if budget is None else budget
    for number in range(-warmup, rounds):
        spent = time.perf_counter() - begin
        if (-warmup < number < 0 and spent > limit / 4) or (number >= _LEAST_ROUNDS and spent > limit):
            continue
        first = number % len(names)
        for side in names[first:] + names[:first]:
            if prepare is not None:
                prepare()
            start = clock()
            sides[side]()
            taken = clock() - start
            if number >= 0:
                seconds[side].append(taken)
    return Timings(seconds)


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
