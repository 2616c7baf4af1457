"""Comparison of exported networks with the original, before a file is written."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..._checks import ArgumentError, ArgumentTypeError, Spelling, in_python, spelled

Run: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]

LEAST = 32  # height and width
_SIZES = ((1, 64, 64), (3, 67, 83), (1, 33, 95), (3, 96, 50))
_BATCHES = (1, 3)  # of a fixed size
_TIMES_OWN_ROUNDING = 4  # an engine adds up in another order than PyTorch
_MOST_ROUNDING = 1e-2  # beyond, nothing is shown
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2}


class ExportError(RuntimeError):
    """The exported network does not compute what the original computes; no file was written.

    Attributes:
        problem: What is wrong.
        cure: What to do; it names arguments as ``{name}``.
    """

    def __init__(self, problem: str, cure: str = "") -> None:
        super().__init__(problem, cure)
        self.problem, self.cure = problem, cure

    def __str__(self) -> str:
        return self.text()

    def text(self, spelling: Spelling = in_python) -> str:
        """Return the message, with arguments written as in Python or as ``spelling`` writes them."""
        return f"{self.problem}: {spelled(self.cure, spelling)}" if self.cure else self.problem


class Reference:
    """Images of four sizes, odd ones too, or of one, one and three at a time, and what the original makes of them."""

    def __init__(self, network: nn.Module, channels: int, size: tuple[int, int] | None = None) -> None:
        self.is_fixed = size is not None
        generator = torch.Generator().manual_seed(0)
        shapes = _SIZES if size is None else [(batch, *size) for batch in _BATCHES]
        self.images = [torch.randn(batch, channels, h, w, generator=generator) for batch, h, w in shapes]
        self._network = network
        self._expected = [_output(network, image) for image in self.images]

    def compare(self, run: Run, engine: str, dtype: torch.dtype, tolerance: float | None) -> None:
        """Compare what an engine makes of the images."""
        for image, output in zip(self.images, self._expected, strict=True):
            shape = tuple(image.shape)
            try:
                found = np.asarray(run(image.numpy()))
            except Exception as error:  # whatever the engine raises
                problem = f"the exported network does not run on an image of {shape}, and nothing was written"
                cure = "some transformers export for one size alone, which {size} names"
                raise ExportError(f"{problem} ({engine}: {error})", cure) from error
            if found.shape != tuple(output.shape):
                raise ExportError(f"for {shape} {engine} gives {found.shape}, torch {tuple(output.shape)}")
            difference = _relative(torch.from_numpy(found) - output, output)
            allowed = tolerance_of(dtype, tolerance)
            if not difference <= allowed and tolerance is None:
                rounding = _TIMES_OWN_ROUNDING * self._own_rounding(image, output)
                allowed = max(allowed, min(rounding, _MOST_ROUNDING))
            if not difference <= allowed:
                problem = f"for an image of {shape} the exported network differs by {difference:.1e} of the largest"
                raise ExportError(f"{problem} output, more than tolerance={allowed:.2g}; nothing was written")

    @torch.no_grad()
    def _own_rounding(self, image: Tensor, output: Tensor) -> float:
        """Return how far the network's own output is from what it computes in float64; 0 if it cannot."""
        try:
            exact = copy.deepcopy(self._network).double()(image.double())
        except Exception:  # noqa: BLE001  # whatever it raises: a part of it is bound to float32
            return 0.0
        return _relative(output - exact, exact)


def _relative(difference: Tensor, output: Tensor) -> float:
    return float(difference.abs().max() / output.abs().max().clamp_min(1e-30))


@torch.no_grad()
def _output(network: nn.Module, image: Tensor) -> Tensor:
    try:
        output = network(image)
    except Exception as error:  # whatever it raises, it cannot be checked
        cure = f"it must take any size from {LEAST}x{LEAST}, or the one that {{size}} names"
        raise ExportError(f"the network does not run on an image of {tuple(image.shape)} ({error})", cure) from error
    if not isinstance(output, Tensor):
        problem = f"the network returns a {type(output).__name__}, expected one tensor"
        raise ExportError(problem, "wrap it to return that")
    if not torch.isfinite(output).all():
        problem = f"the network's own output for an image of {tuple(image.shape)} is not finite"
        raise ExportError(f"{problem}, so nothing can be checked", "load trained weights, or calibrate its BatchNorm")
    return output


def parse_size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Return the size that was given as (height, width), or None for any."""
    if size is None:
        return None
    sides, expected = tuple(size) if isinstance(size, tuple | list) else (size, size), "one integer or (height, width)"
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) for side in sides):
        raise ArgumentTypeError("size", size, f"{expected}, each at least {LEAST}")
    if min(sides) < LEAST:
        raise ArgumentError("size", size, f"{expected}, each at least {LEAST}")
    return sides[0], sides[1]


def tolerance_of(dtype: torch.dtype, given: float | None) -> float:
    """Return the tolerance that was given, or what the type allows."""
    if dtype not in TOLERANCE:
        raise ArgumentError("dtype", dtype, "torch.float32 or torch.float16")
    return TOLERANCE[dtype] if given is None else given


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Lend a folder beside a file, from which what is whole and checked is moved there."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name the file to write in it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".goctconv-") as folder:
        yield Path(folder)
