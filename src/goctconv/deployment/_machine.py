"""What a figure, or a report of an error, must tell of the machine that it comes from."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

from .._version import __version__
from ._cpu import is_told_to_keep_memory
from ._engines import processors

_PACKAGES = (
    "torch", "numpy", "timm", "pillow", "safetensors", "huggingface-hub", "onnx", "onnxscript", "onnxruntime",
    "openvino", "matplotlib", "scipy", "tqdm", "tensorboard",
)  # fmt: skip
_ALLOCATOR = (
    "LD_PRELOAD",
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_TRIM_THRESHOLD_",
    "GLIBC_TUNABLES",
)


def describe_machine() -> dict[str, Any]:
    """Return versions, processor, threads, allocator and accelerators, as JSON holds them.

    Packages that are not installed are None.

    Example:
        >>> from goctconv.deployment import describe_machine
        >>> sorted(describe_machine())
        ['accelerators', 'allocator', 'goctconv', 'packages', 'processor', 'python', 'system', 'threads']
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
            "told_to_keep_freed_memory": is_told_to_keep_memory(),  # by a deployed network; only glibc heeds it
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
    return [
        f"{torch.cuda.get_device_name(index)} (CUDA {torch.version.cuda})" for index in range(torch.cuda.device_count())
    ]
