"""One option: a field with its help, its kind and its spelling; and values as texts."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._kinds import Kind

FIXED, UNTIL_PRUNED, FREE = "fixed", "until pruned", "free"
"""When the value may differ between a run and its resumption: never, until channels are removed, at any time."""


@dataclass(frozen=True)
class Option:
    """A field of a configuration.

    Attributes:
        help: What the value is.
        kind: Which values it may have.
        default: The value where none is given.
        group: The title under which the help of the command line lists it.
        resume: When a run that is resumed may have another value.
        name: Of the field.
        spelling: Its name in files and on the command line; by default made of the field's name.
        in_presets: Whether a preset sets it.
    """

    help: str
    kind: Kind
    default: Any
    group: str = "training"
    resume: str = FIXED
    name: str = ""
    spelling: str = ""
    in_presets: bool = True

    @property
    def is_spelled(self) -> bool:
        """Whether files and the command line have it."""
        return self.kind.parse is not None

    def check(self, value: Any) -> Any:
        """Return a value of this option."""
        return value if value is None and self.kind.is_optional else self.kind.check(self.name, value)

    def read(self, text: str) -> Any:
        """Return the value that a text spells."""
        if self.kind.none and text == self.kind.none:
            return None
        return self.check(text if self.kind.parse is None else self.kind.parse(text))

    def text(self, value: Any) -> str:
        """Return how a value is written on the command line."""
        if value is None:
            return self.kind.none or "not set"
        return ",".join(map(plain, value)) if isinstance(value, list | tuple) else plain(value)


def plain(value: Any) -> str:
    """Return a value as on the command line: a size as 224x320, a number in its shortest form."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def describe(value: Any) -> str:
    """Return a text that is the same in another process: no addresses of objects."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, Path):
        return repr(str(value))
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {describe(part)}' for key, part in value.items())}}}"
    if isinstance(value, list | tuple | set):
        return f"[{', '.join(describe(part) for part in value)}]"
    if isinstance(value, functools.partial):
        return f"{describe(value.func)}({describe(value.args)}, {describe(value.keywords)})"
    return str(getattr(value, "__qualname__", type(value).__qualname__))
