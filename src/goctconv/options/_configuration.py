"""Configurations: dataclasses whose fields are options, and their files in TOML."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from typing_extensions import Self

from .._checks import ArgumentError, ArgumentTypeError, check_keywords, in_python, nearest, spelled
from .._limits import MAX_SETTINGS, read_text
from ._option import Kind, Option, describe, kind_of, plain

_KEY = "option"
P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound="Configuration")


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Options of a run, which are checked when it is made; an unknown one is refused by the nearest name.

    Every field is an option. What `option` says of it is all that help, command line, files, checks, checkpoints and
    summaries need; of a plain field the type of the default says enough.
    """

    def __new__(cls, **given: Any) -> Self:
        """Refuse unknown options before the dataclass does, which names no other."""
        check_keywords(cls.__name__, given, options_of(cls))
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, found in options_of(type(self)).items():
            object.__setattr__(self, name, found.check(getattr(self, name)))

    def described(self) -> dict[str, str]:
        """Return a text for every value that is the same in another process, to compare runs by."""
        return {name: describe(getattr(self, name)) for name in options_of(type(self))}

    def to_toml(self) -> str:
        """Return all options that files have as TOML; those that are not set stand in comments."""
        lines = []
        for name, found in options_of(type(self)).items():
            given = getattr(self, name)
            value = found.kind.none if given is None else given
            if found.is_spelled and given is None and not value:
                lines.append(f"# {found.spelling} is not set")
            elif found.is_spelled:
                lines.append(f"{found.spelling} = {_text(value)}")
        return "\n".join(lines) + "\n"

    def changes(self) -> dict[str, str]:
        """Return the options whose values are not the defaults, spelled as on the command line."""
        found = (
            (option, getattr(self, option.name)) for option in options_of(type(self)).values() if option.is_spelled
        )
        return {option.spelling: option.text(value) for option, value in found if value != option.default}


def documented(config: type[C]) -> type[C]:
    """Append the options that a configuration adds, with their help, to its docstring."""
    lines = [
        f"    {name}: {spelled('; '.join(filter(None, [found.help, found.in_python])), in_python)}"
        for name, found in options_of(config).items()
        if name in config.__annotations__
    ]
    config.__doc__ = "\n".join([inspect.cleandoc(config.__doc__ or ""), "", "Attributes:", *lines])
    return config


def option(default: Any, help: str, kind: Kind | None = None, **described: Any) -> Any:  # noqa: A002  # as argparse
    """Return a field of a configuration, with other attributes of `Option` by keyword.

    The help, for the command line and the docstring, names other options as ``{name}``. By default the option may have
    values like the default.
    """
    found = Option(help, kind or kind_of(default), default, **described)
    if isinstance(default, dict):
        return field(default_factory=dict, metadata={_KEY: found})
    return field(default=default, metadata={_KEY: found})


def changed(config: type[Configuration], name: str, **described: Any) -> Any:
    """Return a field of a base class with another default, help or other attribute."""
    found = replace(options_of(config)[name], **described)
    return field(default=found.default, metadata={_KEY: found})


def options_of(config: type[Configuration]) -> dict[str, Option]:
    """Return the options of a configuration by the names of its fields."""
    found: dict[str, Option] = {}
    for described in fields(config):
        default = None if described.default is MISSING else described.default
        own = described.metadata.get(_KEY) or Option("", kind_of(default), default)
        spelling = own.spelling or described.name.replace("_", "-")
        found[described.name] = replace(own, name=described.name, spelling=spelling)
    return found


def explains_options(config: type[Configuration]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator for a function that takes a configuration: options given to it directly get a useful error."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        own = inspect.signature(function).parameters

        @functools.wraps(function)
        def called(*args: P.args, **given: P.kwargs) -> R:
            name = next((name for name in given if name not in own), None)
            if name in (known := options_of(config)):
                cure = f"pass config={config.__name__}({name}=...)"
                raise ArgumentTypeError(str(name), given[str(name)], problem="is an option of the config", cure=cure)
            check_keywords(function.__name__, given, [*own, *known])
            return function(*args, **given)

        return called

    return decorate


def read_toml(file: Path, options: Mapping[str, Option]) -> dict[str, Any]:
    """Return the values that a file gives, by the names of fields."""
    known = {option.spelling: option for option in options.values() if option.is_spelled}
    values: dict[str, Any] = {}
    for key, given in _read(file).items():
        spelling = key.replace("_", "-")
        if spelling not in known:
            problem = f"is no option{nearest(spelling, known)}; all are {', '.join(known)}"
            raise ArgumentError(key, given, problem=problem)
        option = known[spelling]
        if option.name in values:
            raise ArgumentError(option.name, given, problem="is given twice, with - and with _", cure="remove one")
        values[option.name] = _value(option, given)
    return values


def _read(file: Path) -> dict[str, Any]:
    toml: Any = importlib.import_module("tomllib" if importlib.util.find_spec("tomllib") else "tomli")
    try:
        content: dict[str, Any] = toml.loads(read_text(file, MAX_SETTINGS))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return content


def _value(option: Option, given: object) -> Any:
    if option.kind.is_switch or isinstance(given, bool):
        return option.check(given)
    if (each := option.kind.each) is not None and each.parse is not None and isinstance(given, list):
        return option.check(tuple(each.parse(_scalar(option, part)) for part in given))
    return option.read(_scalar(option, given))


def _scalar(option: Option, given: object) -> str:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise ArgumentTypeError(option.name, given, "a text or a number")
    return str(given)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_text(plain(part) if isinstance(part, tuple) else part) for part in value)}]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
