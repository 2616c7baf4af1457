"""The kernels' C code, compiled for this processor and loaded."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from torch import Tensor

_SOURCE = Path(__file__).with_name("training.c")
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
_SECONDS = 120


class Library:
    """The functions of ``training.c``, or why there are none."""

    def __init__(self) -> None:
        self.problem = "no C compiler was found"
        self._code: ctypes.CDLL | None = None
        for compiler in _compilers():
            self._code, self.problem = _compiled(compiler)
            if self._code is not None:
                break

    def call(self, name: str, *arguments: float | Tensor | None) -> None:
        """Call a function with addresses (a tensor's, or none), counts and numbers."""
        getattr(self._code, name)(*map(_argument, arguments))


def _argument(value: float | Tensor | None) -> ctypes.c_ssize_t | ctypes.c_double:
    if isinstance(value, float):
        return ctypes.c_double(value)
    if isinstance(value, Tensor):
        return ctypes.c_ssize_t(value.data_ptr())
    return ctypes.c_ssize_t(0 if value is None else value)


@functools.cache
def library() -> Library:
    """Return the kernels, compiled once in a process, which takes a second."""
    return Library()


def _compilers() -> list[list[str]]:
    if os.environ.get("CC"):
        return [shlex.split(os.environ["CC"])]
    found = [[name] for name in ("cc", "gcc", "clang") if shutil.which(name)]
    return [*found, [sys.executable, "-m", "ziglang", "cc"]] if importlib.util.find_spec("ziglang") else found


def _compiled(compiler: list[str]) -> tuple[ctypes.CDLL | None, str]:
    """Return the compiled code, and what is wrong where there is none."""
    name = shlex.join(compiler)
    with tempfile.TemporaryDirectory(prefix="goctconv", ignore_cleanup_errors=True) as folder:
        target = Path(folder, "training.so")
        command = [*compiler, *_FLAGS, str(_SOURCE), "-o", str(target)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603
            if done.returncode:
                return None, f"{name} failed: {done.stderr.strip()[:500]}"
            return ctypes.CDLL(str(target)), ""
        except (OSError, subprocess.SubprocessError) as error:
            return None, f"{name} failed: {error}"
