"""Options: what a value may be, how it is read from a text, and how the help describes it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from .._checks import ArgumentError, check_choice, check_instance, check_integer, check_number

FIXED, UNTIL_PRUNED, FREE = "fixed", "until pruned", "free"
"""When the value may differ between a run and its resumption: never, until channels are removed, at any time."""

_HIGHEST = 10**18  # sums of a few of them still fit into 64 bits, which torch's seeds and slices need


@dataclass(frozen=True)
class Kind:
    """The values that an option may have.

    Attributes:
        check: A function of the option's name and a value that returns the value or raises an `ArgumentError`.
        parse: Makes a value of a text, or returns the text where that is impossible; None: not on the command line.
        metavar: Stands for the value in the help.
        each: The kind of the parts of a tuple, which is a list in a file.
        nargs: How many arguments the command line takes: "+", or empty for one, in which commas separate parts.
        is_switch: Whether the option takes no value on the command line.
        is_optional: Whether the value may be None.
        none: The word for None; empty if there is none.
    """

    check: Callable[[str, Any], Any]
    parse: Callable[[str], Any] | None = None
    metavar: str = ""
    each: Kind | None = None
    nargs: str = ""
    is_switch: bool = False
    is_optional: bool = False
    none: str = ""

    def optional(self, word: str = "") -> Kind:
        """Return the kind whose value may be None, which a word may stand for."""
        metavar = f"{self.metavar}|{word}" if word and "|" in self.metavar else self.metavar
        return replace(self, is_optional=True, none=word, metavar=metavar)


def _integer(text: str) -> int | str:
    try:
        return int(text.replace("_", "").replace(",", ""))
    except ValueError:
        return text


def float_of(text: str) -> float | str:
    """Return the number that a text spells, or the text."""
    try:
        return float(text)
    except ValueError:
        return text


def integer(least: int) -> Kind:
    """Return the kind of integers from ``least`` on."""

    def check(name: str, value: Any) -> int:
        most = _HIGHEST if isinstance(value, int) and value > _HIGHEST else None
        return check_integer(name, value, least, most)

    return Kind(check, _integer, "N")


def number(least: float | None = None, most: float | None = None, **limits: float) -> Kind:
    """Return the kind of finite numbers within limits; ``above`` and ``below`` exclude their value."""
    return Kind(lambda name, value: check_number(name, value, least, most, **limits), float_of, "X")  # type: ignore[arg-type]


def choice(*names: str, metavar: str = "NAME") -> Kind:
    """Return the kind of one name of several."""
    return Kind(lambda name, value: check_choice(name, value, names), str, metavar)


def path(metavar: str = "FILE") -> Kind:
    """Return the kind of paths; those of the command line are made absolute."""

    def check(name: str, value: Any) -> Path:
        return Path(str(check_instance(name, value or None, (str, Path), "a path")))

    return Kind(check, lambda text: Path(text).absolute(), metavar)


def several(each: Kind, expected: str, metavar: str, accepts: Callable[[tuple[Any, ...]], bool]) -> Kind:
    """Return the kind of tuples of values of a kind.

    Args:
        each: The kind of each value.
        expected: What the tuple must be.
        metavar: Stands for it in the help.
        accepts: Whether values make such a tuple.
    """

    def check(name: str, value: Any) -> tuple[Any, ...]:
        values = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
        try:
            values = tuple(each.check(name, part) for part in values)
        except ArgumentError as error:
            raise type(error)(name, value, expected) from error
        if not accepts(values):
            raise ArgumentError(name, value, expected)
        return values

    parse = each.parse or str
    return Kind(check, lambda text: tuple(parse(part.strip()) for part in text.split(",")), metavar, each)


def paths(metavar: str) -> Kind:
    """Return the kind of tuples of paths, which the command line takes as several arguments."""
    each = path(metavar)
    kind = several(each, "paths", metavar, lambda _: True)
    return replace(kind, parse=lambda text: (Path(text).absolute(),), nargs="+")


def shares() -> Kind:
    """Return the kind of rising shares between 0 and 1, which may be written as fractions."""

    def parse(text: str) -> float | str:
        try:
            return float(Fraction(text))
        except (ValueError, ZeroDivisionError):
            return text

    each = Kind(lambda name, value: check_number(name, value, above=0, below=1), parse)
    return several(
        each,
        "rising shares between 0 and 1, such as 2/3,5/6",
        "X,...",
        lambda values: list(values) == sorted(set(values)) and bool(values),
    )


def kind_of(default: Any) -> Kind:
    """Return the kind of values like a default; of None, anything, which stands on no command line."""
    if isinstance(default, bool):
        return SWITCH
    if isinstance(default, int):
        return Kind(check_integer, _integer, "N")
    if isinstance(default, float):
        return number()
    if isinstance(default, str):
        return TEXT
    return path() if isinstance(default, Path) else ANY


def _truth(text: str) -> bool | str:
    return {"true": True, "false": False}.get(text.lower(), text)


SWITCH = Kind(lambda name, value: check_instance(name, value, bool, "True or False"), _truth, is_switch=True)
TEXT = Kind(lambda name, value: check_instance(name, value, str, "a text"), str, "TEXT")
ANY = Kind(lambda _, value: value, is_optional=True)


@dataclass(frozen=True)
class Option:
    """A field of a configuration.

    Attributes:
        help: What the value is.
        in_python: What else callers in Python can pass; in the docstring alone.
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
    in_python: str = ""

    @property
    def is_spelled(self) -> bool:
        """Whether files and the command line have it."""
        return self.kind.parse is not None

    def check(self, value: Any) -> Any:
        """Return a value of this option; the word for None is None."""
        if self.kind.is_optional and (value is None or (isinstance(value, str) and value == (self.kind.none or None))):
            return None
        return self.kind.check(self.name, value)

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
