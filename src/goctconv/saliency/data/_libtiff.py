"""Lines that libtiff prints on standard error, caught at the level of file descriptors."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import IO

_STDERR = 2
_LINE = re.compile(
    rb"(tempfile\.tif|_?TIFF\w+|\w*(Decode|Encode|Setup|Predictor|Codec|Lib|State|VGetField)\w*|[A-Z]+Lib): .*"
)
_lock = Lock()


class _Catcher:
    """Catches standard error while any thread decodes; what is not libtiff's is written afterwards."""

    def __init__(self) -> None:
        self.users = 0
        self._saved: int | None = None
        self._file: IO[bytes] | None = None

    def begin(self) -> None:
        with _lock:
            self.users += 1
            if self.users > 1:
                return
            try:
                self._saved = os.dup(_STDERR)
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `end`)
                os.dup2(self._file.fileno(), _STDERR)
            except OSError:  # standard error is closed, or there is no room: lines of libtiff do no harm
                self._restore()

    def end(self) -> None:
        with _lock:
            self.users -= 1
            if not self.users:
                self._restore()

    def _restore(self) -> None:
        saved, file, self._saved, self._file = self._saved, self._file, None, None
        if saved is None:
            return
        os.dup2(saved, _STDERR)
        os.close(saved)
        if file is None:
            return
        with file:
            file.seek(0)
            others = [line for line in file.read().splitlines(keepends=True) if not _LINE.match(line)]
        if others:
            os.write(_STDERR, b"".join(others))


_catcher = _Catcher()


@contextmanager
def quiet_libtiff(image: object) -> Iterator[None]:
    """Keep libtiff from printing while a TIFF file is decoded; other files are decoded as ever."""
    if getattr(image, "format", None) != "TIFF":
        yield
        return
    _catcher.begin()
    try:
        yield
    finally:
        _catcher.end()
