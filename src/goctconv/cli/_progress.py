"""Progress on a terminal."""

import importlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from ._messages import printable, say


class Progress(Protocol):
    """A bar that counts files and lets lines be printed above it."""

    def step(self) -> None:
        """Count one file."""

    def line(self, text: str) -> None:
        """Print a line on stderr."""


class _Plain:
    def step(self) -> None:
        pass

    def line(self, text: str) -> None:
        say(text)


class _Bar:
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def step(self) -> None:
        self._bar.update()

    def line(self, text: str) -> None:
        self._bar.write(printable(text), file=sys.stderr)


@contextmanager
def progress(total: int, *, quiet: bool) -> Iterator[Progress]:
    """Show a bar on stderr where it is a terminal and tqdm is installed; plain lines otherwise."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield _Plain()
        return
    try:
        tqdm = importlib.import_module("tqdm")
    except ImportError:
        yield _Plain()
        return
    with tqdm.tqdm(total=total, unit="photo", file=sys.stderr, leave=False, dynamic_ncols=True) as bar:
        yield _Bar(bar)


def plural(count: int, noun: str) -> str:
    """Return "1 map", "2 maps"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shorten(names: Iterable[object], separator: str = ", ", limit: int = 10) -> str:
    """Join the first names, and say how many more there are."""
    texts = [str(name) for name in names]
    more = f"{separator}and {len(texts) - limit} more" if len(texts) > limit else ""
    return separator.join(texts[:limit]) + more
