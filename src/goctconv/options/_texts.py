"""Values as texts: for comparisons and for people."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
