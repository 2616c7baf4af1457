"""What the command line says: the one place that prints."""

import contextlib
import os
import sys
from collections.abc import Iterator

from ._command import CommandError


def printable(text: str) -> str:
    """Escape what would break a line or steer a terminal; file names may hold newlines and control characters."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def say(text: str) -> None:
    """Print one line on standard error, if there is one."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # there is nowhere left to complain
            print(printable(text), file=sys.stderr, flush=True)


def tell(text: str) -> None:
    """Print lines on standard output, if there is one; characters that it cannot encode are escaped too.

    Raises:
        CommandError: It cannot be written.
    """
    if sys.stdout is not None:
        encoding = sys.stdout.encoding or "utf-8"
        text = "\n".join(map(printable, text.split("\n")))
        with _writing():
            print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def write_bytes(data: bytes) -> None:
    """Write data to standard output.

    Raises:
        CommandError: It cannot be written.
    """
    with _writing():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def discard_stdout() -> None:
    """Let standard output end nowhere, which keeps Python from failing once more when it closes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_stdout()
        raise CommandError(f"standard output cannot be written ({error.strerror or error}).") from error
