"""PaddlePaddle's ``.pdparams``: a pickled dict of arrays, unpickled without running what it asks for."""

from __future__ import annotations

import functools
import io
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..._limits import FileSizeError
from ._errors import CheckpointError
from ._pickles import BoundedUnpickler, RefusedNamesError, check_operations

_CURE = "save the state dict alone with paddle.save and load that"
_NAMES = "StructuredToParameterName@@"  # PaddlePaddle's table of internal names, in the dict beside the arrays
_NUMBERS = r"b1|[iu][1248]|f[248]|c8|c16"  # numpy's names of what torch has too


def read_pdparams(path: Path) -> dict[str, Tensor]:
    """Return the arrays of a file of ``paddle.save`` as tensors.

    Only arrays of numbers, numbers, text and builtin containers are made; whatever else the file asks for is
    refused before it is looked up, so that no code of it runs.
    """
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            check_operations(stream, size)
            stream.seek(0)
            content = _ArrayUnpickler(stream, 2 * size).load()  # old protocols keep bytes as text first
    except FileSizeError as error:
        raise CheckpointError(path, f"is refused: {error}", _CURE) from error
    except RefusedNamesError as error:
        problem = f"is not a file of plain arrays: it asks for {error}, which is never run here"
        raise CheckpointError(path, problem, _CURE) from error
    except Exception as error:  # on damaged data the unpickler raises anything
        raise CheckpointError(path, f"is no file of paddle.save, or a truncated one ({error})") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(path, f"holds a {type(content).__name__}, expected a dict of names and arrays")
    arrays = {str(name): _array(value) for name, value in content.items() if name != _NAMES}
    others = [name for name, value in arrays.items() if value is None]
    if others or not arrays:
        listed = ", ".join(others) or "nothing"
        raise CheckpointError(path, f"holds {listed}: no array of numbers; expected a state dict of PaddlePaddle")
    return {name: torch.from_numpy(value) for name, value in arrays.items() if value is not None}


def _array(value: Any) -> np.ndarray[Any, Any] | None:
    """Return the array, also of a pair (internal name, array), as later versions save tensors; None if it is none."""
    is_pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
    found = value[1] if is_pair else value
    return found.content if isinstance(found, _Array) else None


class _Type:
    """A type of numbers. numpy's own takes a state that makes objects at any address of it."""

    def __init__(self, name: Any, *_: Any) -> None:
        if not isinstance(name, str) or not re.fullmatch(_NUMBERS, name):
            raise pickle.UnpicklingError(f"data of the type {name!r}, expected numbers")
        self.numpy = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        _, order, *parts = state
        if any(part is not None for part in parts[:3]):
            raise pickle.UnpicklingError(f"data with the fields {parts[1]}, expected numbers")
        self.numpy = self.numpy.newbyteorder(order)


class _Array:
    """An array in the making. numpy's own takes bytes for objects, at addresses that the file chooses."""

    def __init__(self, take: Callable[[int], None], *_: Any) -> None:
        self.content: np.ndarray[Any, Any] | None = None
        self._take = take

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, is_fortran, data = state
        self._take(len(data))
        self.content = _numbers(kind, data).reshape(shape, order="F" if is_fortran else "C")


def _numbers(kind: Any, data: Any, count: int = -1) -> np.ndarray[Any, Any]:
    if not isinstance(kind, _Type) or not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError("an array whose type or content is something else")
    return np.frombuffer(data, kind.numpy, count).astype(kind.numpy.newbyteorder("="))


def _scalar(kind: Any, data: Any) -> Any:
    """Return a number of numpy's."""
    return _numbers(kind, data, 1)[0]


class _ArrayUnpickler(BoundedUnpickler):
    """An unpickler that knows arrays and containers, and refuses everything else by its name."""

    def __init__(self, stream: BinaryIO, room: int) -> None:
        super().__init__(stream, room)
        # A file may set attributes of what it is given: of one that goes away, never of ours.
        self.known |= {
            "numpy.ndarray": "numpy.ndarray",  # the class of an array, which tells nothing here and cannot be called
            "numpy.dtype": functools.partial(_Type),
            **{f"numpy.{core}.multiarray._reconstruct": self._array for core in ("core", "_core")},
            **{f"numpy.{core}.multiarray.scalar": functools.partial(_scalar) for core in ("core", "_core")},
            **{f"numpy.{core}.numeric._frombuffer": self._from_buffer for core in ("core", "_core")},
        }

    def _array(self, *_: Any) -> _Array:
        return _Array(self.take)

    def _from_buffer(self, data: Any, kind: Any, shape: Any, order: Any) -> _Array:
        """Return an array as pickle's protocol 5 keeps it."""
        array = _Array(self.take)
        array.__setstate__((1, shape, kind, order == "F", data))
        return array
