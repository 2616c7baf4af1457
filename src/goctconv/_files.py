"""Files that are either complete or not there."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name in its folder, then rename it.

    Args:
        path: The file; its folder is made where missing, and an old file is replaced.
        write: Writes the content to the stream it is given.

    Raises:
        OSError: The file cannot be written. Whatever is raised, no temporary file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".goctconv-{uuid.uuid4().hex[:12]}.tmp")
    try:
        with temporary.open("xb") as stream:
            write(stream)
        os.replace(temporary, path)  # noqa: PTH105  (the same call)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
