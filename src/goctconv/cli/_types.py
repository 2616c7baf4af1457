"""Argument types whose errors say what is expected."""

import argparse
import json
import shlex
from collections.abc import Callable
from typing import Any

_HIGHEST = 10**18  # sums of a few of them still fit into 64 bits, which torch's seeds and slices need


def integer_from(lowest: int) -> Callable[[str], int]:
    """Return an argparse type for integers of at least ``lowest``."""

    def parse(text: str) -> int:
        try:
            value = int(text.replace("_", "").replace(",", ""))
        except ValueError:
            value = lowest - 1
        if not lowest <= value <= _HIGHEST:
            most = f", at most {_HIGHEST:.0e}" if value > _HIGHEST else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least {lowest}{most}")
        return value

    return parse


def network_size(text: str) -> int | tuple[int, int]:
    """Parse ``224`` or ``224x320`` (height x width), each at least 32."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and int(side) >= 32 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 224 or 224x320 (height x width), at least 32")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def network_size_or_own(text: str) -> int | tuple[int, int] | str:
    """Parse ``own``, or a size as `network_size`."""
    return text if text == "own" else network_size(text)


def probability(text: str) -> float:
    """Parse a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a probability from 0 to 1")
    return value


def parse_model_args(text: str) -> dict[str, Any]:
    """Return arguments of a network from a text such as ``norm=batch levels=[1,2,3]``; values are JSON or words.

    Raises:
        argparse.ArgumentTypeError: A part is no pair.
    """
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be taken apart: {error}") from error
    found: dict[str, Any] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not (equals and name.isidentifier()):
            raise argparse.ArgumentTypeError(
                f"{part!r} in {text!r} is no argument: write NAME=VALUE, with blanks between several, such as "
                "'norm=batch num_classes=1'"
            )
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
