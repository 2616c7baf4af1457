"""Checks of the arguments of transforms."""

import math


def check_share(name: str, value: object) -> float:
    """Return a probability.

    Raises:
        ValueError: It is not between 0 and 1.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}, expected a probability from 0 to 1.")
    return float(value)


def check_strength(name: str, value: object) -> float:
    """Return how far a factor may be from 1.

    Raises:
        ValueError: It is negative or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value!r}, expected a number from 0 (off) on, such as 0.4 for factors 0.6 to 1.4.")
    return float(value)
