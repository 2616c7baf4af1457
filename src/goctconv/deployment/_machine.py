"""The machine that a network runs on: its description, processors and memory."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch

from .._version import __version__

_PACKAGES = (
    "torch", "numpy", "timm", "pillow", "safetensors", "huggingface-hub", "onnx", "onnxscript", "onnxruntime",
    "openvino", "matplotlib", "scipy", "tqdm", "tensorboard",
)  # fmt: skip
_ALLOCATOR = (
    "LD_PRELOAD", "MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_",
    "GLIBC_TUNABLES",
)  # fmt: skip
_LARGEST_LEARNT_FROM = 32 * 2**20 - 2**16
_KEPT = 2**31 - 1  # bytes; the largest that mallopt takes
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of malloc.h
# what glibc has learnt after `keep_freed_memory`
_LEARNT = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 64 * 2**20}


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def keep_freed_memory() -> None:
    """Make glibc keep up to 64 MiB of freed memory instead of returning it to the system after every call of a network.

    glibc does this for a process that has freed one block of almost 32 MiB, the largest from which it learns
    (mallopt(3), M_MMAP_THRESHOLD, "dynamic"). Other allocators, and glibc with thresholds set by hand, ignore it.
    """
    torch.empty(_LARGEST_LEARNT_FROM, dtype=torch.uint8, device="cpu")


class FreedMemory:
    """Makes glibc keep up to 2 GiB of freed memory, in blocks of any size.

    glibc asks the system for every block of 32 MiB or more and returns it when it is freed; the system writes zeros to
    such a block each time. Activations of images from about 1024x1024 on are of that size. Other allocators are left as
    they are, and so is glibc where the user has set its thresholds.
    """

    def __init__(self) -> None:
        self.is_kept = False

    def keep(self) -> None:
        """Keep freed memory from now on."""
        if not self.is_kept and (glibc := _glibc()) is not None:
            self.is_kept = bool(glibc.mallopt(_MMAP_MAX, 0) and glibc.mallopt(_TRIM_THRESHOLD, _KEPT))

    def release(self) -> None:
        """Return freed memory to the system, now and, up to 64 MiB, from now on."""
        glibc = _glibc()
        if glibc is None:
            return
        if self.is_kept:
            for option, value in _LEARNT.items():
                glibc.mallopt(option, value)
            self.is_kept = False
        glibc.malloc_trim(0)


freed_memory = FreedMemory()


@cache
def _glibc() -> Any:
    """Return the C library, or None where it is another or its thresholds are set by hand."""
    if platform.libc_ver()[0] != "glibc" or any(
        name in os.environ for name in _ALLOCATOR if name != "MALLOC_ARENA_MAX"
    ):
        return None
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
    except OSError:
        return None


def describe_machine() -> dict[str, Any]:
    """Return versions, processor, threads, allocator and accelerators, as JSON holds them.

    Packages that are not installed are None.
    """
    return {
        "goctconv": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": {
            "name": _processor(),
            "usable": processors(),
            "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        },
        "threads": {
            "torch": torch.get_num_threads(),
            "between_operations": torch.get_num_interop_threads(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        },
        "allocator": {
            "library": " ".join(platform.libc_ver()).strip() or None,
            # after the first call of a deployed network, and only with glibc
            "told_to_keep_freed_memory": keep_freed_memory.cache_info().currsize > 0,
            "told_to_keep_large_blocks": freed_memory.is_kept,
            **{name: os.environ[name] for name in _ALLOCATOR if name in os.environ},
        },
        "packages": {name: _version(name) for name in _PACKAGES},
        "accelerators": _accelerators(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _accelerators() -> list[str]:
    if not torch.cuda.is_available():
        return []
    names = map(torch.cuda.get_device_name, range(torch.cuda.device_count()))
    return [f"{name} (CUDA {torch.version.cuda})" for name in names]
