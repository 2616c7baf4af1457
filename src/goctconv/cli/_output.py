"""Output of the command line: messages, results, progress, and files that are whole or not there."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._checks import ArgumentWarning, FileNote, Spelling
from .._files import FolderInUseError, FolderLock, write_atomic
from ._command import CommandError


def printable(text: str) -> str:
    """Escape what would break a line or steer a terminal; file names may hold newlines and control characters."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


@contextmanager
def escaping(stream: Any) -> Iterator[None]:
    """Have a standard stream escape characters that the terminal's encoding lacks, such as γ, in place of failing."""
    errors = getattr(stream, "errors", None)
    if errors is None or not hasattr(stream, "reconfigure"):
        yield
        return
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):  # what is left in its buffer cannot be written, or it is closed
            stream.reconfigure(errors=errors)


_OWN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")  # noqa: PTH100, PTH118, PTH120
_OF_OTHERS = tuple(
    os.path.join(sysconfig.get_path(name), "")  # noqa: PTH118  (warnings name files by texts)
    for name in ("purelib", "platlib", "stdlib", "platstdlib")
)
_FROM_CPP = "(Triggered internally at"  # in warnings of PyTorch's C++, which name whatever line of Python runs


def is_for_users(message: Warning | str, filename: str) -> bool:
    """Whether a warning is of this package, not one of PyTorch, Pillow or others about how they are called."""
    if _FROM_CPP in str(message):
        return False
    is_own = type(message).__module__.startswith(f"{__package__.partition('.')[0]}.")
    return is_own or filename.startswith(_OWN) or not filename.startswith(_OF_OTHERS)


@contextmanager
def notes(write: Spelling, *, quiet: bool = False) -> Iterator[None]:
    """Show warnings of this package as notes, in terms of options, and none of others."""
    shown: set[str] = set()
    files: dict[str, list[str]] = {}  # by the note that they share

    def show(message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any) -> None:  # noqa: ARG001
        text = message.text(write) if isinstance(message, ArgumentWarning) else str(message)
        if quiet or text in shown or not is_for_users(message, filename):
            return
        shown.add(text)
        if isinstance(message, FileNote):
            files.setdefault(message.text, []).append(message.name)
            if len(files[message.text]) > 1:
                return  # they are counted at the end
        for line in text.splitlines():
            say(f"goctconv: note: {line}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        try:
            yield
        finally:
            for text, names in files.items():
                if len(names) > 1:
                    listed = shorten(sorted(names), limit=5)
                    say(f"goctconv: note: {len(names)} files in all: {text}: {listed}")


def say(text: str) -> None:
    """Print one line on standard error, if there is one."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # standard error is closed or full
            print(printable(text), file=sys.stderr, flush=True)


def tell(text: str) -> None:
    """Print lines on standard output, if there is one; characters that it cannot encode are escaped too."""
    if sys.stdout is not None:
        encoding = sys.stdout.encoding or "utf-8"
        text = "\n".join(map(printable, text.split("\n")))
        with _writing_stdout():
            print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def write_bytes(data: bytes) -> None:
    """Write data to standard output."""
    with _writing_stdout():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def discard_stdout() -> None:
    """Redirect standard output to nowhere, so that Python does not fail once more when it closes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _writing_stdout() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_stdout()
        raise CommandError(f"standard output cannot be written ({error.strerror or error})") from error


@contextmanager
def writing(what: object) -> Iterator[None]:
    """Turn errors of the system into messages."""
    try:
        yield
    except OSError as error:
        raise CommandError(f"{what}: cannot be written ({error.strerror or error})") from error


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file, whole or not at all."""
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    with writing(path):
        write_atomic(path, lambda stream: stream.write(data))


def names_in(folder: Path) -> list[str]:
    """Return the sorted names of what is in an output folder, which may not exist yet."""
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"--output {folder}: this is a file: name a folder")
    try:
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise CommandError(f"--output {folder}: cannot be read ({error.strerror or error})") from error


@contextmanager
def holding(folder: Path) -> Iterator[FolderLock]:
    """Keep other processes from an output folder."""
    names_in(folder)
    try:
        lock = FolderLock(folder)
    except FolderInUseError as error:
        raise CommandError(f"--output {error}") from error
    except OSError as error:
        raise CommandError(f"--output {folder}: cannot be written ({error.strerror or error})") from error
    if lock.left_by:
        say(f"goctconv: note: {folder} was left by {lock.left_by}, which has ended")
    try:
        yield lock
    finally:
        lock.release()


def check_picture() -> None:
    """Find out whether pictures can be drawn, before the work begins."""
    if importlib.util.find_spec("matplotlib") is None:
        raise CommandError("--plot needs matplotlib: pip install goctconv[plots], or leave --plot out")


class Progress:
    """A bar of tqdm that counts files and has lines printed above it; without one, plain lines."""

    def __init__(self, bar: Any = None) -> None:
        self._bar = bar

    def step(self) -> None:
        """Count one file."""
        if self._bar is not None:
            self._bar.update()

    def line(self, text: str) -> None:
        """Print a line on stderr."""
        if self._bar is None:
            say(text)
        else:
            self._bar.write(printable(text), file=sys.stderr)


@contextmanager
def progress(total: int, *, quiet: bool) -> Iterator[Progress]:
    """Show a bar on stderr where it is a terminal and tqdm is installed; plain lines otherwise."""
    tqdm = None
    if not quiet and sys.stderr is not None and sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            tqdm = importlib.import_module("tqdm")
    if tqdm is None:
        yield Progress()
        return
    with tqdm.tqdm(total=total, unit="photo", file=sys.stderr, leave=False, dynamic_ncols=True) as bar:
        yield Progress(bar)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def plural(count: int, noun: str) -> str:
    """Return "1 map", "2 maps"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shorten(names: Iterable[object], separator: str = ", ", limit: int = 10) -> str:
    """Join the first names, and say how many more there are."""
    texts = [str(name) for name in names]
    more = f"{separator}and {len(texts) - limit} more" if len(texts) > limit else ""
    return separator.join(texts[:limit]) + more
