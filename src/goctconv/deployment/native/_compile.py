"""Compilation of C files into libraries, kept in the user's cache folder."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

_SECONDS = 600.0
_STANDARD = ("-std=c11", "-O3", "-ffp-contract=fast", "-fPIC", "-shared")
_X86 = frozenset({"x86_64", "amd64", "i386", "i686"})


class CompilerError(RuntimeError):
    """No C compiler was found, or the one that was found failed."""


def find_compiler() -> list[str] | None:
    """Return the command of a C compiler: ``$CC``, the package ziglang, clang, gcc or cc; None if there is none."""
    if given := os.environ.get("CC", "").strip():
        return shlex.split(given)
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    found = next(filter(None, map(shutil.which, ("clang", "gcc", "cc"))), None)
    return None if found is None else [found]


def compiled(source: str) -> ctypes.CDLL:
    """Compile a C file for this machine, unless the cache holds it, and load the library.

    Raises:
        CompilerError: There is no compiler, or it fails.
    """
    compiler = find_compiler()
    if compiler is None:
        raise CompilerError("no C compiler was found: install one with pip install 'goctconv[native]', or set CC")
    version = _version(tuple(compiler))
    sets_of_flags = [[*_STANDARD, *_native(version)], list(_STANDARD)]
    failure = ""
    for flags in sets_of_flags:
        key = "\0".join((source, *compiler, *flags, version, _processor()))
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        folder = _cache_folder()
        library = folder / f"{name}{'.dll' if os.name == 'nt' else '.so'}"
        if not _is_ours(library):
            failure = _compile(compiler, flags, source, library)
            if failure:
                continue
        return ctypes.CDLL(str(library))
    raise CompilerError(f"{shlex.join(compiler)} cannot compile the network: {failure[-2000:]}")


def _compile(compiler: list[str], flags: list[str], source: str, library: Path) -> str:
    """Compile to a file; returns what the compiler says where it fails."""
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".build-") as folder:
        file, made = Path(folder) / "network.c", Path(folder) / f"{uuid.uuid4().hex}{library.suffix}"
        file.write_text(source, encoding="utf-8")
        command = [*compiler, *flags, str(file), "-o", str(made)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode or not made.is_file():
            return done.stderr or f"exit status {done.returncode}"
        os.replace(made, library)  # noqa: PTH105  (the same call; whole, and the last of several processes wins)
    return ""


@functools.cache
def _version(compiler: tuple[str, ...]) -> str:
    try:
        done = subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        raise CompilerError(f"{shlex.join(compiler)} does not run ({error}): set CC to a C compiler") from error
    return done.stdout


def _native(version: str) -> list[str]:
    """Return the flags for the processor of this machine."""
    is_x86 = platform.machine().lower() in _X86
    flags = ["-march=native" if is_x86 else "-mcpu=native"]
    if "clang" in version:
        flags += ["-fno-sanitize=undefined"]  # zig's default
        flags += ["-mprefer-vector-width=512"] if is_x86 else []  # else vectors of AVX-512 are split
    return flags


@functools.cache
def _processor() -> str:
    """Return what tells processors apart."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        wanted = ("model name", "flags", "Features", "CPU part")
        found = [next((line for line in lines if line.startswith(name)), "") for name in wanted]
        return "\n".join(found)
    except OSError:
        return f"{platform.machine()} {platform.processor()}"


def _cache_folder() -> Path:
    """Return a folder that nobody else can write to, made if need be."""
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "goctconv" / "native"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _is_private(folder):
            return folder
    except OSError:
        pass
    return Path(_own_folder())


@functools.cache
def _own_folder() -> str:
    """Return a folder of this process, where the cache is someone else's."""
    return tempfile.mkdtemp(prefix="goctconv-native-")


def _is_private(path: Path) -> bool:
    if not hasattr(os, "getuid"):
        return os.access(path, os.W_OK)
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022 and os.access(path, os.W_OK)


def _is_ours(file: Path) -> bool:
    """Whether a file is there, made by this user."""
    try:
        found = file.stat()
    except OSError:
        return False
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
