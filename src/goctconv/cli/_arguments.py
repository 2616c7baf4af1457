"""Arguments that several commands share, and types of arguments whose errors say what is expected."""

from __future__ import annotations

import argparse
import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PRETRAINED = "the model's default weights: csnet_x1_l's come with goctconv, others are downloaded"
_HIGHEST = 10**18  # sums of a few of them still fit into 64 bits, which torch's seeds and slices need


def add_weights(group: Any, pretrained: str = _PRETRAINED) -> None:
    """Declare where a network's weights come from."""
    weights = group.add_mutually_exclusive_group()
    weights.add_argument("--weights", type=Path, metavar="FILE", help="checkpoint to load")
    weights.add_argument("--pretrained", action="store_true", help=pretrained)
    group.add_argument("--accept-license", metavar="NAME", help="accept the licence of the weights: cc-by-nc-sa-4.0")


def add_size(group: Any) -> None:
    """Declare the size of a network's input."""
    group.add_argument(
        "--size",
        type=network_size_or_own,
        metavar="N|HxW|own",
        help="input size of the net; own: that of each photograph (default: that of weights that come with goctconv, "
        "else 224)",
    )


def add_network(parser: argparse.ArgumentParser) -> None:
    """Declare the network that makes maps."""
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        default="csnet_x1_l",
        metavar="NAME",
        help="or an exported FILE.onnx or FILE.xml (default: %(default)s)",
    )
    add_weights(model)
    add_size(model)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Declare what runs a network over photographs, and the limits of both."""
    speed = parser.add_argument_group("speed and limits")
    speed.add_argument(
        "--backend",
        choices=("torch", "native", "onnx", "openvino"),
        help="what runs the net: PyTorch, C that is compiled for this processor, ONNX Runtime or OpenVINO; for the "
        "last two, networks that are not exported are, which takes a minute (default: what the model is made for)",
    )
    add_device(speed)
    speed.add_argument("--batch-size", type=integer_from(1), default=8, metavar="N", help="default: %(default)s")
    speed.add_argument(
        "--workers",
        type=integer_from(1),
        metavar="N",
        help="threads that read and write (default: processors, up to 4)",
    )
    speed.add_argument(
        "--max-pixels",
        type=integer_from(1),
        default=178_956_970,
        metavar="N",
        help="refuse larger photographs before decoding them (default: 178,956,970)",
    )


def add_foreground(group: Any) -> None:
    """Declare which values of masks are foreground, as training has it among its options."""
    group.add_argument(
        "--foreground",
        type=_foreground,
        metavar="N,...",
        help="values of the masks, or indices of their palettes, that are foreground, such as 1,2 (default: decided "
        "for the whole data set)",
    )


def _foreground(text: str) -> tuple[int, ...]:
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = (-1,)
    if not all(0 <= value <= 65535 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of values from 0 on, such as 1,2")
    return values


def add_device(group: Any) -> None:
    """Declare where a network runs."""
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps ... (default: cuda if there is one)")


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


def number(expected: str, is_valid: Callable[[float], bool]) -> Callable[[str], float]:
    """Return an argparse type for numbers; NaN never is one."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not is_valid(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
        return value

    return parse


def probability(text: str) -> float:
    """Parse a probability."""
    return number("a probability from 0 to 1", lambda value: 0 <= value <= 1)(text)


def file_ending(*endings: str) -> Callable[[str], Path]:
    """Return an argparse type for files whose names have an ending."""

    def parse(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in endings:
            raise argparse.ArgumentTypeError(f"{text!r} does not end in {' or '.join(endings)}, as what it holds will")
        return path

    return parse


def parse_model_args(text: str) -> dict[str, Any]:
    """Return arguments of a network from a text such as ``norm=batch levels=[1,2,3]``; values are JSON or words."""
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
