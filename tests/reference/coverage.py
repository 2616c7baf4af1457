"""The operators that pruning follows, beside those that networks were recorded to call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from goctconv.graph import is_pointwise
from goctconv.pruning.propagate import operators

OF_CONSTANTS = {"arange", "meshgrid", "scalar_tensor", "__and__", "linspace", "eye", "hann_window"}
"""Operators that make constants, or compute with them alone."""


def freezing(names: list[str]) -> list[str]:
    """Return the operators that freeze the channels which enter them."""
    followed = {name for names in operators().values() for name in names} | OF_CONSTANTS
    return [name for name in names if not followed & {name, name.removesuffix("_")} and not pointwise(name)]


def pointwise(name: str) -> bool:
    """Whether an operator is elementwise."""
    packet = getattr(torch.ops.aten, name, None)
    return packet is not None and any(is_pointwise(getattr(packet, overload)) for overload in packet.overloads())


def coverage(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the rows of a table: packages, networks, operators, and those that freeze."""
    rows = [
        "| networks of | number | operators | followed | freeze what enters them |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for package, its in found.items():
        frozen = freezing(its["operators"])
        shown = ", ".join(f"`{name}`" for name in frozen) or "none"
        count = len(its["operators"])
        rows.append(f"| {package} | {its['networks']} | {count} | {count - len(frozen)} | {shown} |")
    return rows
