"""Options in files: TOML."""

import argparse
import difflib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._command import CommandError
from ._options import DATA, OPTIONS, Option


def read_options(path: Path, known: Mapping[str, Option] = OPTIONS) -> dict[str, Any]:
    """Return the options that a file gives.

    Args:
        path: The file.
        known: The options of the command, by name.

    Raises:
        CommandError: It cannot be read, or an option in it is not known or has no value that it can have.
    """
    try:
        table = _toml().loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"{path}: cannot be read ({error.strerror or error}): check the path.") from error
    except ValueError as error:
        raise CommandError(f"{path}: this is not TOML: {error}") from error
    options: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("_", "-")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0)
            raise CommandError(
                f"{path}: there is no option {key!r}, the nearest is {near[0]!r}; all are {', '.join(known)}."
            )
        if name in options:
            raise CommandError(f"{path}: {name} is given twice, with - and with _: remove one.")
        options[name] = _value(path, known[name], value)
    return options


def to_toml(options: Mapping[str, Any]) -> str:
    """Return options as TOML; those that are None are named in comments."""
    lines = []
    for name, value in options.items():
        lines.append(f"# {name} is not set" if value is None else f"{name} = {_text(value)}")
    return "\n".join(lines) + "\n"


def _value(path: Path, option: Option, given: object) -> Any:
    if option.parse is None:
        if not isinstance(given, bool):
            raise CommandError(f"{path}: {option.name} is {given!r}, expected true or false.")
        return given
    try:
        if option.field == DATA.field:
            return [option.parse(_scalar(one)) for one in (given if isinstance(given, list) else [given])]
        if option.is_list and isinstance(given, list):
            return option.parse(",".join(map(_scalar, given)))
        return option.parse(_scalar(given))
    except argparse.ArgumentTypeError as error:
        raise CommandError(f"{path}: {option.name}: {error}.") from error


def _scalar(given: object) -> str:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise argparse.ArgumentTypeError(f"{given!r} is neither a text nor a number")
    return str(given)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        parts = [_text("x".join(map(str, one)) if isinstance(one, tuple) else one) for one in value]
        return f"[{', '.join(parts)}]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml() -> Any:
    try:
        return importlib.import_module("tomllib")
    except ImportError:
        pass
    try:
        return importlib.import_module("tomli")
    except ImportError as error:
        raise CommandError("Python 3.10 cannot read TOML by itself: pip install tomli.") from error
