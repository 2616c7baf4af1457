"""A network that runs as compiled C."""

from __future__ import annotations

import ctypes
import os
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..._checks import ArgumentError
from ..._torch import is_eager_cpu
from .._machine import processors
from ._compile import CompilerError, compiled
from ._lower import Program
from ._nodes import Network
from ._record import record
from ._write import c_source

_NAME = "network"
_TOLERANCE = 1e-4
_SIZES_KEPT = 4  # of images whose workspaces stay,
_BYTES_KEPT = 2**28  # if they are not larger


class NativeNetwork:
    """A network as compiled C, for float32 images (B, C, H, W) of any size that the network takes.

    Threads take one image of a batch each, or, of a single one, bands of rows. Copies and pickles load the library
    again, or compile it where it is not in the cache.
    """

    def __init__(self, network: nn.Module, channels: int, *, threads: int | None = None) -> None:
        recorded = record(network, channels)
        program = Program(recorded)
        self.channels, self.threads = channels, threads or processors()
        self.images = recorded.images
        self._is_flat = recorded.is_flat
        self._weights = program.weights
        self._source = c_source(program, _NAME, "outside")
        self._opened = False
        self._guard = threading.Lock()
        self._open()

    def _open(self) -> None:
        """Load the library, of a copy at its first use."""
        with self._guard:
            if not self._opened:
                self._load()
                self._opened = True

    def _load(self) -> None:
        self._library = compiled(self._source)
        self._workspace = getattr(self._library, f"{_NAME}_workspace_for")
        self._workspace.restype = ctypes.c_size_t
        self._init = getattr(self._library, f"{_NAME}_init_for")
        self._run_part = getattr(self._library, f"{_NAME}_run_part")
        self._run_part.restype = None
        self._free: OrderedDict[tuple[int, int, int], list[Tensor]] = OrderedDict()
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        self._bands = threading.Lock()  # one image at a time is shared by all threads

    def __getstate__(self) -> dict[str, Any]:
        kept = ("channels", "threads", "images", "_is_flat", "_weights", "_source")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._opened, self._guard = False, threading.Lock()

    def output_shape(self, height: int, width: int) -> tuple[int, int, int] | None:
        """Return channels, height and width of the output; None for a size that the network does not take."""
        self._open()
        sides = [ctypes.c_int() for _ in range(3)]
        size = getattr(self._library, f"{_NAME}_output_size")
        if not size(height, width, *map(ctypes.byref, sides)):
            return None
        return sides[0].value, sides[1].value, sides[2].value

    def takes(self, images: object) -> bool:
        """Whether these are images that the compiled network takes, with nothing but the output needed."""
        if not (isinstance(images, Tensor) and images.dim() == 4 and is_eager_cpu(images)):
            return False
        is_plain = images.dtype == torch.float32 and images.shape[1] == self.channels and images.numel() > 0
        is_plain = is_plain and not torch.is_autocast_enabled("cpu")
        return is_plain and self.output_shape(images.shape[2], images.shape[3]) is not None

    def __call__(self, images: Tensor) -> Tensor:
        """Return the output of the network.

        Raises:
            ArgumentError: Images of another number of channels, or of a size that the network does not take.
        """
        if images.dim() != 4 or images.shape[1] != self.channels:
            raise ArgumentError("images", images, f"(B, {self.channels}, H, W), got {tuple(images.shape)}")
        batch, _, height, width = images.shape
        shape = self.output_shape(height, width)
        if shape is None:
            raise ArgumentError("images", images, problem=f"are {height}x{width}, which the network does not take")
        images = images.detach().to(torch.float32).contiguous()
        output = torch.empty(batch, *shape)
        jobs = [(images[i].data_ptr(), output[i].data_ptr()) for i in range(batch)]
        if self.threads == 1:
            for job in jobs:
                self._image(height, width, *job)
        elif batch >= self.threads:
            list(self._threads().map(lambda job: self._image(height, width, *job), jobs))
        else:
            for job in jobs:
                self._in_bands(height, width, *job)
        return output.flatten(1) if self._is_flat else output

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None or self._process != os.getpid():  # a forked process has no threads
            self._process, self._bands = os.getpid(), threading.Lock()
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="goctconv-native")
        return self._pool

    def _image(self, height: int, width: int, image: int, output: int) -> None:
        workspace = self._take(height, width, 1)
        self._run_part(*self._pointers(workspace, image, output), 0)
        self._give_back((height, width, 1), workspace)

    def _in_bands(self, height: int, width: int, image: int, output: int) -> None:
        pool = self._threads()
        with self._bands:
            workspace = self._take(height, width, self.threads)
            pointers = self._pointers(workspace, image, output)
            parts = [pool.submit(partial(self._run_part, *pointers, part)) for part in range(1, self.threads)]
            self._run_part(*pointers, 0)
            for part in parts:
                part.result()
            self._give_back((height, width, self.threads), workspace)

    @staticmethod
    def _pointers(workspace: Tensor, image: int, output: int) -> tuple[Any, ...]:
        return ctypes.c_void_p(workspace.data_ptr()), ctypes.c_void_p(image), ctypes.c_void_p(output)

    def _take(self, height: int, width: int, threads: int) -> Tensor:
        with self._lock:
            free = self._free.get((height, width, threads))
            if free:
                return free.pop()
        workspace = torch.empty(self._workspace(height, width, threads), dtype=torch.uint8)
        weights = self._weights.ctypes.data_as(ctypes.c_void_p)
        self._init(ctypes.c_void_p(workspace.data_ptr()), height, width, threads, weights)
        return workspace

    def _give_back(self, key: tuple[int, int, int], workspace: Tensor) -> None:
        with self._lock:
            self._free.setdefault(key, []).append(workspace)
            self._free.move_to_end(key)
            while len(self._free) > 1 and (len(self._free) > _SIZES_KEPT or self._kept() > _BYTES_KEPT):
                self._free.popitem(last=False)

    def _kept(self) -> int:
        return sum(workspace.numel() for free in self._free.values() for workspace in free)


def verified(network: nn.Module, channels: int, threads: int | None) -> tuple[NativeNetwork | None, str]:
    """Return a network as compiled C, or None and the reason: no compiler, or an output that differs.

    Raises:
        NotSupportedError: An operation that the engine does not have.
    """
    try:
        native = NativeNetwork(network, channels, threads=threads)
    except CompilerError as error:
        return None, f"the network was not compiled, and runs in eager form: {error}"
    generator = torch.Generator().manual_seed(0)
    for size in native.images:
        image = torch.randn(1, channels, *size, generator=generator)
        with torch.no_grad():
            expected, found = network(image), native(image)
        allowed = _TOLERANCE * float(expected.abs().max())
        if found.shape != expected.shape or not float((found - expected).abs().max()) <= allowed:
            problem = f"differs by more than {_TOLERANCE:.0e} of the largest output for an image of {size}"
            return None, f"the compiled network {problem}, and the eager form runs"
    return native, ""


def lowered(network: nn.Module, channels: int) -> tuple[Network, Program]:
    """Return a network as nodes and as a program."""
    recorded = record(network, channels)
    return recorded, Program(recorded)
