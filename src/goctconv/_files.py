"""Files that are either complete or not there, and folders that one process writes to at a time."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

LOCK = "run.lock"


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


class FolderInUseError(OSError):
    """Another process writes to the folder; the message says which."""


class FolderLock:
    """Holds a folder for this process, by a lock of the system on the file ``run.lock`` in it.

    The system releases the lock when the process ends, however it ends, so what a killed process leaves does not bar
    the folder. Where a file system has no locks, the process that the file names is looked for on this host.

    Args:
        folder: The folder; it is made where missing.

    Attributes:
        left_by: What an earlier process said of itself that ended without releasing the folder; None if there is none.

    Raises:
        FolderInUseError: Another process holds the folder, or this one does already.
        OSError: The file cannot be written.
    """

    _held: set[tuple[int, int]] = set()  # noqa: RUF012  (a process may lock its own file twice, so that it asks here)

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self.left_by: str | None = None
        self._is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            if _identity(self.path) in self._held:  # to open and close the file would release its lock
                raise _in_use(folder, _described(self.path))
            self._stream = self.path.open("a+b")
            try:
                has_locks = _try_lock(self._stream)
                self._identity = _of(os.fstat(self._stream.fileno()))
                if self._identity == _identity(self.path):  # the file may have been released since it was opened
                    break
            except OSError:
                self._stream.close()
                raise _in_use(folder, _described(self.path)) from None
            self._stream.close()
        before = _read(self._stream)
        if not has_locks and _is_running(before):
            self._stream.close()
            raise _in_use(folder, _named(before))
        self.left_by = _named(before) if before else None
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        self._stream.truncate(0)
        self._stream.write(json.dumps({"pid": os.getpid(), "host": platform.node(), "since": since}).encode())
        self._stream.flush()
        self._held.add(self._identity)

    def check(self) -> None:
        """Raise FileNotFoundError if the folder has been deleted or replaced since."""
        if _identity(self.path) != self._identity:
            problem = "the folder was deleted or replaced while a run wrote to it"
            raise FileNotFoundError(2, problem, str(self.path.parent))

    def release(self) -> None:
        """Release the folder, and remove the file; a folder that was made for it and is empty goes too."""
        self._held.discard(self._identity)
        with contextlib.suppress(OSError):
            self._stream.truncate(0)  # where an open file cannot be removed, it names nobody
            if _identity(self.path) == self._identity:
                self.path.unlink()
                if self._is_new:
                    self.path.parent.rmdir()
        self._stream.close()


def _try_lock(stream: IO[bytes]) -> bool:
    """Lock a file without waiting; return False where the system or file system has no locks.

    Locks of processes, which their children do not inherit: those that read photographs may outlive a killed run.

    Raises:
        OSError: Another process holds it.
    """
    try:
        fcntl: Any = importlib.import_module("fcntl")
    except ImportError:
        return _try_lock_windows(stream)
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise
    except OSError:  # ENOLCK, EOPNOTSUPP and the like
        return False
    return True


def _try_lock_windows(stream: IO[bytes]) -> bool:
    try:
        msvcrt: Any = importlib.import_module("msvcrt")
    except ImportError:
        return False
    stream.seek(1 << 20)  # a byte that nobody reads: Windows keeps others from reading what is locked
    msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    return True


def _of(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        return _of(path.stat())
    except OSError:
        return None


def _read(stream: IO[bytes]) -> dict[str, Any]:
    """Return what the last holder of a lock wrote; nothing of a damaged or empty file."""
    try:
        stream.seek(0)
        found = json.loads(stream.read(1000))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _described(path: Path) -> str:
    try:
        return _named(json.loads(path.read_bytes()[:1000]))
    except (OSError, ValueError):
        return "another process"


def _named(holder: Any) -> str:
    if not isinstance(holder, dict):
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"


def _in_use(folder: Path, who: str) -> FolderInUseError:
    return FolderInUseError(f"{folder}: another process writes to this folder ({who}): wait for it or end it")


def _is_running(holder: dict[str, Any]) -> bool:
    """Whether the process that a file names runs on this host; of another host it cannot be known, and counts as so."""
    pid = holder.get("pid")
    if not isinstance(pid, int) or pid == os.getpid():
        return False
    if holder.get("host") != platform.node() or os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
