"""A context in which BatchNorm and PReLU are trained by compiled kernels."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from typing_extensions import Self

from ..._checks import ArgumentError
from .._per_scale import activated_scales
from .._prelu import trained_prelu
from ._functions import activated, batch_norm, prelu
from ._library import library

_KERNELS: dict[Callable[..., Any], Callable[..., Any]] = {
    F.batch_norm: batch_norm,
    torch.prelu: prelu,
    trained_prelu: prelu,
}


_entered = threading.local()  # as modes of PyTorch are


class _NativeKernels(TorchFunctionMode):
    def __enter__(self) -> Self:
        base: Any = super()
        base.__enter__()
        _entered.times = getattr(_entered, "times", 0) + 1
        return self

    def __exit__(self, *error: object) -> None:
        _entered.times -= 1
        base: Any = super()
        base.__exit__(*error)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is activated_scales:
            return activated(self, *args, **(kwargs or {}))
        kernel = _KERNELS.get(func)
        return func(*args, **(kwargs or {})) if kernel is None else kernel(func, *args, **(kwargs or {}))


def native_kernels() -> AbstractContextManager[object]:
    """Return a context in which BatchNorm and PReLU in float32 are trained natively on a processor.

    PyTorch's own kernels are slow for few channels there, and take half of a training step of CSNet. These go over the
    memory as rarely as can be; they are C code, which the first call compiles in a second. What a module is and which
    hooks it has do not change; outputs, gradients and running statistics are equal up to rounding. All else, such as
    eval mode, other devices and types, compiled and traced code, is PyTorch's own.

    Only the forward pass has to run in the context. `torch.utils.checkpoint` runs a part of it again: pass it
    ``context_fn=lambda: (native_kernels(), native_kernels())``. ``set_grad_checkpointing`` of our models needs nothing.

    Raises:
        ArgumentError: There is no C compiler: ``$CC``, ``cc``, ``gcc``, ``clang`` or the package ziglang.

    Example:
        >>> import torch
        >>> from goctconv.layers import native_kernels
        >>> layers = torch.nn.Sequential(torch.nn.BatchNorm2d(8), torch.nn.PReLU(8))
        >>> with native_kernels():
        ...     loss = layers(torch.rand(4, 8, 32, 32)).sum()
        >>> loss.backward()
    """
    if problem := native_problem():
        cure = "install a C compiler, or pip install ziglang"
        raise ArgumentError("native", True, problem=f"needs a C compiler: {problem}", cure=cure)
    return _NativeKernels()


def kernels_now() -> AbstractContextManager[object]:
    """Return a context in which the kernels are those of now, for a part of the forward pass that runs again."""
    return _NativeKernels() if getattr(_entered, "times", 0) else nullcontext()


def native_problem() -> str:
    """Return why `native_kernels` cannot be used here; empty if it can."""
    return library().problem
