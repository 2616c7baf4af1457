"""Errors of arguments as data, and the checks that every package shares."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import re
import warnings
from collections.abc import Callable, Collection, Iterable
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any, TypeVar

T = TypeVar("T")
Spelling = Callable[[str, str | None], str]
"""Writes an argument with its value: ``batch_size=8`` in Python, ``--batch-size 8`` on the command line."""

_LONGEST = 80  # characters of a value that a message shows
_LONGEST_TEXT = 300  # of a text or path
_REFERENCE = re.compile(r"\{\{|\{(\w+)(?:=([^{}]*))?\}")
_UNEXPECTED = re.compile(r"got (?:an )?unexpected keyword argument(?:\(s\): \[| )'(\w+)'")


class ArgumentError(ValueError):
    """An argument has a value that cannot be used.

    The attributes hold the meaning; the message is made from them, and `text` makes it again in other words, such as
    the options of a command line. ``expected``, ``problem`` and ``cure`` name other arguments as ``{name}`` or
    ``{name=value}``; `escaped` keeps texts of others from being read so.

    Attributes:
        argument: Its name.
        value: What was given.
        expected: What it must be: ``"an integer of at least 1"``.
        cure: What to do instead: ``"pass {threshold=None}, or train longer"``.
        problem: In place of ``"must be ..."``: what is wrong with it.

    Example:
        >>> from goctconv import ArgumentError
        >>> error = ArgumentError("round_to", 0, "an integer of at least 1", "leave {round_to} out for any number")
        >>> print(error)
        round_to=0 must be an integer of at least 1: leave round_to out for any number
        >>> error.text(lambda name, value: f"--{name.replace('_', '-')}" + (f" {value}" if value else ""))
        '--round-to 0 must be an integer of at least 1: leave --round-to out for any number'
    """

    def __init__(self, argument: str, value: object, expected: str = "", cure: str = "", *, problem: str = "") -> None:
        super().__init__(argument, value, expected, cure)
        self.argument = argument
        self.value = value
        self.expected = expected
        self.cure = cure
        self.problem = problem

    def __str__(self) -> str:
        return self.text()

    def __reduce__(self) -> tuple[Any, ...]:
        kind = functools.partial(type(self), problem=self.problem)
        return kind, (self.argument, self.value, self.expected, self.cure)

    def text(self, spelling: Spelling | None = None) -> str:
        """Return the message.

        Args:
            spelling: Writes an argument with its value, or with None where only its name stands; as in Python by
                default.
        """
        spelling = spelling or in_python
        words = self.problem
        if self.expected:
            words = f"{words}, expected {self.expected}" if words else f"must be {self.expected}"
        space = "" if not words or words.startswith(",") else " "  # a problem may add another argument
        message = f"{spelling(self.argument, shown(self.value))}{space}{spelled(words, spelling)}"
        return f"{message}: {spelled(self.cure, spelling)}" if self.cure else message


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument is of a type that cannot be used; an `ArgumentError` that is a TypeError too."""


class ArgumentWarning(UserWarning):
    """Warns of an argument; its ``error`` is the `ArgumentError` that it is no reason for."""

    def __init__(self, argument: str, value: object, expected: str = "", cure: str = "", *, problem: str = "") -> None:
        self.error = ArgumentError(argument, value, expected, cure, problem=problem)
        super().__init__(self.text())

    def text(self, spelling: Spelling | None = None) -> str:
        """Return the message, as `ArgumentError.text` does."""
        return self.error.text(spelling)


class FileNote(UserWarning):
    """Tells what was not read of a file; many files may have the same note.

    Attributes:
        name: What messages call the file.
        text: What is the same for all such files.
    """

    def __init__(self, name: str, text: str, detail: str = "") -> None:
        super().__init__(f"{name}: {text}{f' ({detail})' if detail else ''}")
        self.name = name
        self.text = text


def warn_caller(message: str | Warning) -> None:
    """Warn of what the caller's code does: its line is shown, not one of this package or of PyTorch."""
    frame, level = inspect.currentframe(), 1
    inside = ("goctconv.", "torch.", "contextlib")
    while frame is not None and frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(inside):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def in_python(name: str, value: str | None) -> str:
    """Write an argument as in a call."""
    return name if value is None else f"{name}={value}"


def spelled(text: str, spelling: Spelling) -> str:
    """Write the arguments that a text names as ``{name}`` or ``{name=value}``; ``{{`` stands for a brace."""
    return _REFERENCE.sub(lambda found: spelling(found[1], found[2]) if found[1] else "{", text)


def escaped(text: object) -> str:
    """Return a text of others, such as a path or the message of an error, as `spelled` leaves it alone."""
    return str(text).replace("{", "{{")


def shown(value: object) -> str:
    """Return a short form of a value: its repr, or its type and shape where that is long."""
    shape = getattr(value, "shape", None)
    if shape is not None and not isinstance(value, type):
        return f"<{type(value).__name__} {tuple(shape)}>"
    if isinstance(value, str | PurePath):  # a path ends with what tells it from others
        text = repr(str(value))
        return text if len(text) <= _LONGEST_TEXT else f"'…{text[-_LONGEST_TEXT:]}"
    text = repr(value)
    return text if len(text) <= _LONGEST and "\n" not in text else f"<{type(value).__name__}>"


def nearest(name: object, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name that is most like a name, empty if none is."""
    close = difflib.get_close_matches(str(name), sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_choice(argument: str, value: T, choices: Collection[object], cure: str = "") -> T:
    """Return a value that is one of several, else raise an `ArgumentError`."""
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in choices):
        near = nearest(value, [choice for choice in choices if isinstance(choice, str)])
        raise ArgumentError(argument, value, f"one of {', '.join(map(repr, choices))}{near}", cure)
    return value


def check_flags(**flags: object) -> None:
    """Check that arguments are True or False."""
    for argument, value in flags.items():
        if not isinstance(value, bool):
            raise ArgumentTypeError(argument, value, "True or False")


def check_instance(argument: str, value: object, kind: type[T] | tuple[type[T], ...], expected: str) -> T:
    """Return a value that is an object of a class, else raise an `ArgumentTypeError`."""
    if not isinstance(value, kind):
        raise ArgumentTypeError(argument, value, expected)
    return value


def check_integer(
    argument: str, value: object, least: int | None = None, most: int | None = None, cure: str = ""
) -> int:
    """Return an integer within limits; NumPy's are taken, booleans are not: they raise an `ArgumentTypeError`."""
    expected = f"an integer{_between(least, most)}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ArgumentTypeError(argument, value, expected, cure)
    number = int(value)
    if (least is not None and number < least) or (most is not None and number > most):
        raise ArgumentError(argument, value, expected, cure)
    return number


def check_number(
    argument: str,
    value: object,
    least: float | None = None,
    most: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    cure: str = "",
) -> float:
    """Return a finite number within limits; booleans are not taken: they raise an `ArgumentTypeError`."""
    limits = [f"{word} {limit:g}" for word, limit in (("above", above), ("below", below)) if limit is not None]
    expected = " and ".join([f"a number{_between(least, most)}", *limits]).replace("number and", "number")
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentTypeError(argument, value, expected, cure)
    number = float(value)
    is_inside = (least is None or number >= least) and (most is None or number <= most)
    is_inside = is_inside and (above is None or number > above) and (below is None or number < below)
    if not (math.isfinite(number) and is_inside):
        raise ArgumentError(argument, value, expected, cure)
    return number


def check_share(argument: str, value: object, cure: str = "") -> float:
    """Return a share from 0 to 1."""
    return check_number(argument, value, 0, 1, cure=cure)


def check_keywords(caller: str, given: Iterable[str], known: Collection[str], cure: str = "") -> None:
    """Check that the names of keyword arguments are known."""
    for name in given:
        if name not in known:
            near = nearest(name, known) or f"; it has {', '.join(sorted(known))}"
            raise ArgumentTypeError("argument", name, problem=f"is none of {caller}(){near}", cure=cure)


def unexpected_keyword(error: BaseException) -> str | None:
    """Return the keyword argument that a call did not know, None if the error is another one.

    Python says it in a message alone (tried on 3.10 to 3.13), and some networks of timm in words of their own, with all
    such arguments in a list (HRNet, timm 1.0.27 to 1.0.31): the first is returned.
    """
    found = _UNEXPECTED.search(str(error)) if isinstance(error, TypeError) else None
    return found[1] if found else None


def _between(least: float | None, most: float | None) -> str:
    if least is None:
        return "" if most is None else f" of at most {most:g}"
    return f" of at least {least:g}" if most is None else f" from {least:g} to {most:g}"
