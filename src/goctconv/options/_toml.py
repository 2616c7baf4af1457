"""Options in files: TOML."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .._checks import ArgumentError, ArgumentTypeError, nearest
from ._option import Option, plain


def to_toml(options: Iterable[tuple[Option, Any]]) -> str:
    """Return options with their values as TOML; those that are not set stand in comments."""
    lines = []
    for option, given in options:
        value = option.kind.none if given is None else given
        if option.is_spelled and given is None and not value:
            lines.append(f"# {option.spelling} is not set")
        elif option.is_spelled:
            lines.append(f"{option.spelling} = {_text(value)}")
    return "\n".join(lines) + "\n"


def read_toml(file: Path, options: Mapping[str, Option]) -> dict[str, Any]:
    """Return the values that a file gives, by the names of fields."""
    known = {option.spelling: option for option in options.values() if option.is_spelled}
    values: dict[str, Any] = {}
    for key, given in _toml().loads(file.read_text(encoding="utf-8")).items():
        spelling = key.replace("_", "-")
        if spelling not in known:
            problem = f"is no option{nearest(spelling, known)}"
            raise ArgumentError(key, given, problem=f"{problem}; all are {', '.join(known)}")
        option = known[spelling]
        if option.name in values:
            raise ArgumentError(option.name, given, problem="is given twice, with - and with _", cure="remove one")
        values[option.name] = _value(option, given)
    return values


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


def _toml() -> Any:
    try:
        return importlib.import_module("tomllib")
    except ImportError:
        return importlib.import_module("tomli")
