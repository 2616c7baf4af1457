"""One option: a field with its help, its kind and its spelling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ._kinds import Kind
from ._texts import plain

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
