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
    """The values that an option may have."""

    check: Callable[[str, Any], Any]  # of the option's name and a value: returns the value or raises an ArgumentError
    parse: Callable[[str], Any] | None = None  # makes a value of a text, or returns it; None: not on the command line
    metavar: str = ""  # stands for the value in the help
    each: Kind | None = None  # the kind of the parts of a tuple, which is a list in a file
    nargs: str = ""  # arguments on the command line: "+", or empty for one, in which commas separate parts
    is_switch: bool = False  # whether the option takes no value on the command line
    is_optional: bool = False  # whether the value may be None
    none: str = ""  # the word for None; empty if there is none

    def optional(self, word: str = "") -> Kind:
        """Return the kind whose value may be None, which a word may stand for."""
        metavar = f"{self.metavar}|{word}" if word and "|" in self.metavar else self.metavar
        return replace(self, is_optional=True, none=word, metavar=metavar)


def _parser(make: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a function that returns what is made of a text, or the text where that is impossible."""

    def parse(text: str) -> Any:
        try:
            return make(text)
        except (ValueError, ZeroDivisionError):
            return text

    return parse


_integer = _parser(lambda text: int(text.replace("_", "").replace(",", "")))
float_of = _parser(float)
"""Returns the number that a text spells, or the text."""


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
        if not str(check_instance(name, value, (str, Path), "a path")):
            raise ArgumentError(name, value, "a path", "leave it out, or name one")
        return Path(value)

    return Kind(check, absolute, metavar)


def absolute(text: str) -> Path | str:
    """Return the path that a text spells; an empty text stays one, as it spells none."""
    return Path(text).absolute() if text else text


def several(each: Kind, expected: str, metavar: str, accepts: Callable[[tuple[Any, ...]], bool]) -> Kind:
    """Return the kind of tuples of values of a kind, of which ``accepts`` says whether they are as expected."""

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
    return replace(kind, parse=lambda text: (absolute(text),), nargs="+")


def shares() -> Kind:
    """Return the kind of rising shares between 0 and 1, which may be written as fractions."""

    def are_rising(values: tuple[float, ...]) -> bool:
        return bool(values) and list(values) == sorted(set(values))

    each = replace(number(above=0, below=1), parse=_parser(lambda text: float(Fraction(text))))
    return several(each, "rising shares between 0 and 1, such as 2/3,5/6", "X,...", are_rising)


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


SWITCH = Kind(lambda name, value: check_instance(name, value, bool, "True or False"), str, is_switch=True)
TEXT = Kind(lambda name, value: check_instance(name, value, str, "a text"), str, "TEXT")
ANY = Kind(lambda _, value: value, is_optional=True)


@dataclass(frozen=True)
class Option:
    """A field of a configuration."""

    help: str
    kind: Kind
    default: Any
    group: str = "training"  # the title under which the help of the command line lists it
    resume: str = FIXED  # when a run that is resumed may have another value
    grows: bool = False  # whether a run that has ended can go on with a larger value
    name: str = ""
    spelling: str = ""  # the name in files and on the command line; by default made of the field's name
    in_presets: bool = True  # whether a preset sets it
    in_python: str = ""  # what else callers in Python can pass; in the docstring alone

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
        is_none = self.kind.none and text == self.kind.none
        return None if is_none else self.check(text if self.kind.parse is None else self.kind.parse(text))

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
