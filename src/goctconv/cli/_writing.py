"""Files that commands write: whole or not at all, with an error in words."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .._files import write_atomic
from ._command import CommandError


@contextmanager
def writing(what: object) -> Iterator[None]:
    """Turn errors of the system into messages.

    Args:
        what: The file or folder, or the option that names it.

    Raises:
        CommandError: It cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise CommandError(f"{what}: cannot be written ({error.strerror or error}).") from error


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file.

    Raises:
        CommandError: It cannot be written.
    """
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    with writing(path):
        write_atomic(path, lambda stream: stream.write(data))
