"""Axes: limits and ticks that suit values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ._text import compact

_TICKS = 5
_LARGEST_SPAN = 1e300  # of which a difference is still finite
_STEPS = (1, 2, 2.5, 5, 10)
_WHOLE_STEPS = (1, 2, 5, 10)


@dataclass(frozen=True)
class Axis:
    """One axis of a panel.

    Attributes:
        label: What is measured.
        limits: The values at its ends.
        ticks: Positions and their labels.
        is_log: Whether it is logarithmic.
        is_categorical: Whether the ticks are names of things, of which some may be left out where room is short.
    """

    label: str
    limits: tuple[float, float]
    ticks: tuple[tuple[float, str], ...]
    is_log: bool = False
    is_categorical: bool = False

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at the lower end and 1 at the upper one, and never outside."""
        low, high = self.limits
        if self.is_log:
            value, low, high = (math.log10(one) for one in (max(value, low), low, high))
        return min(max((value - low) / (high - low), 0.0), 1.0)


def linear_axis(label: str, values: Iterable[float], *, from_zero: bool = False, whole: bool = False) -> Axis:
    """Return an axis whose ends are ticks.

    Args:
        label: What is measured.
        values: What has to fit; those that are not finite do not count.
        from_zero: Whether 0 has to fit too.
        whole: Whether ticks are integers, and the ends next to the values.

    Example:
        >>> linear_axis("loss", [0.13, 0.68]).ticks
        ((0.0, '0'), (0.2, '0.2'), (0.4, '0.4'), (0.6, '0.6'), (0.8, '0.8'))
    """
    low, high = _range(values)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        spread = abs(low) / 2 or 0.5
        low, high = (low - 0.5, high + 0.5) if whole else (low if from_zero else low - spread, high + spread)
    span = high - low
    step = _nice_step(span / _TICKS)
    if whole:
        step = max(1.0, _nice_step(span / _TICKS, _WHOLE_STEPS))
        margin = 0.02 * span
        limits = (low - margin, high + margin)
    else:
        limits = (math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step)
    return Axis(label, limits, tuple((tick, _tick_text(tick, step)) for tick in _multiples(limits, step)))


def log_axis(label: str, values: Iterable[float], *, tight: bool = False) -> Axis:
    """Return a logarithmic axis for positive values.

    Args:
        label: What is measured.
        values: What has to fit.
        tight: Whether the ends are the outermost values.

    Example:
        >>> [text for _, text in log_axis("parameters", [93_647, 788_631]).ticks]
        ['100k', '200k', '500k']
    """
    low, high = _range(values)
    margin = 1.0 if tight and low < high else max((high / low) ** 0.08, 1.12)
    low, high = low / margin, high * margin
    decades = math.log10(high) - math.log10(low)
    if decades >= 3:
        stride = max(1, math.ceil(decades / _TICKS))
        exponents = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
        ticks = [(10.0**exponent, compact(10.0**exponent)) for exponent in exponents if exponent % stride == 0]
    else:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        ticks = [(factor * 10.0**exponent, "") for exponent in range(first, last + 1) for factor in (1, 2, 5)]
        ticks = [(tick, compact(tick)) for tick, _ in ticks if low <= tick <= high]
        if len(ticks) < 3:
            step = _nice_step((high - low) / _TICKS)
            ticks = [(tick, compact(tick)) for tick in _multiples((low, high), step)]
    return Axis(label, (low, high), tuple(ticks), is_log=True)


def category_axis(label: str, names: Sequence[str]) -> Axis:
    """Return an axis of things at 0, 1, 2 and so on."""
    return Axis(label, (-0.5, len(names) - 0.5), tuple(enumerate(names)), is_categorical=True)


def _range(values: Iterable[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        raise ValueError("there is no finite value to draw: all are missing, NaN or infinite")
    low, high = min(finite), max(finite)
    if high - low > _LARGEST_SPAN or max(abs(low), abs(high)) > _LARGEST_SPAN:
        raise ValueError(f"values from {low:g} to {high:g} cannot be drawn: they are too large")
    return low, high


def _nice_step(step: float, factors: tuple[float, ...] = _STEPS) -> float:
    """Return one of the factors times a power of ten, the next one up."""
    scale = 10.0 ** math.floor(math.log10(step))
    return next(factor * scale for factor in factors if factor * scale >= step * (1 - 1e-9))


def _multiples(limits: tuple[float, float], step: float) -> list[float]:
    first, last = math.ceil(limits[0] / step - 1e-9), math.floor(limits[1] / step + 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(index * step, digits) for index in range(first, last + 1)]


def _tick_text(tick: float, step: float) -> str:
    """Return a label; all of an axis have equally many decimals."""
    if not 1e-4 <= step < 1e3:
        return compact(tick)
    decimals = next(
        count for count in range(7) if abs(step * 10**count - round(step * 10**count)) < 1e-6 * step * 10**count
    )
    return f"{tick:.{decimals}f}" if tick else "0"
