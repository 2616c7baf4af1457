"""Reading PaddlePaddle's ``.pdparams``: a pickled dict of arrays, unpickled without running what it asks for."""

from __future__ import annotations

import codecs
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import torch
from torch import Tensor

from ._errors import CheckpointError

_NAMES = "StructuredToParameterName@@"  # PaddlePaddle's table of internal names, in the dict beside the arrays
_KINDS = "biufc"  # numpy's letters for numbers


def read_pdparams(path: Path) -> dict[str, Tensor]:
    """Return the arrays of a file of ``paddle.save`` as tensors.

    Only numpy's arrays and types, numbers, text and builtin containers are made; whatever else the file asks for is
    refused before it is looked up, so that no code of it runs.

    Raises:
        CheckpointError: The file asks for something else, is damaged, or holds no arrays by name.
    """
    try:
        with path.open("rb") as stream:
            content = _ArrayUnpickler(stream, path).load()
    except CheckpointError:
        raise
    except Exception as error:  # on damaged data the unpickler raises anything
        raise CheckpointError(f"{path} is no file of paddle.save, or a truncated one: {error}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected a dict of names and arrays")
    arrays = {str(name): _array(value) for name, value in content.items() if name != _NAMES}
    strangers = [name for name, value in arrays.items() if not _is_numeric(value)]
    if strangers or not arrays:
        listed = ", ".join(strangers) or "nothing"
        raise CheckpointError(f"{path} holds {listed}: no array of numbers; expected a state dict of PaddlePaddle")
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}


def _is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in _KINDS


def _array(value: Any) -> Any:
    """Return the array of a pair (internal name, array), as later versions save tensors."""
    is_pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
    return value[1] if is_pair else value


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Return the bytes that old protocols of pickle keep as text."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}, expected 'latin1'")
    return codecs.encode(text, "latin1")


def _empty_array(_subtype: Any, shape: Any, _dtype: Any) -> Any:
    """Return what numpy fills when an array is unpickled, of numpy's own class whatever the file asks for."""
    if shape not in {(0,), 0}:
        raise pickle.UnpicklingError(f"an array that begins with the shape {shape}, expected (0,)")
    return np.ndarray(0, np.int8)


def _scalar(dtype: Any, data: Any = None) -> Any:
    """Return a number of numpy's."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(data, bytes):
        raise pickle.UnpicklingError("a number of another type")
    return np.frombuffer(data, dtype, 1)[0]


def _from_buffer(data: Any, dtype: Any, shape: Any, order: str) -> Any:
    """Return an array as pickle's protocol 5 keeps it."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise pickle.UnpicklingError("an array of objects")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")


_BUILTINS = ("builtins", "__builtin__")  # of Python 3, and as protocols up to 2 write them
_ALLOWED: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    **{f"numpy.{core}.multiarray._reconstruct": _empty_array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
    **{f"{builtins}.{kind.__name__}": kind for builtins in _BUILTINS for kind in (dict, list, tuple, set)},
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": _latin1,
}


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that knows arrays and containers, and refuses everything else by its name."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        super().__init__(stream)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """Return what the file asks for, if it is one of the few things that are data."""
        found = _ALLOWED.get(f"{module}.{name}")
        if found is None:
            self._refuse(f"{module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuse a reference to something outside of the file."""
        self._refuse(f"the outside object {pid!r}")

    def _refuse(self, what: str) -> NoReturn:
        raise CheckpointError(
            f"{self._path} is not a file of plain arrays: it asks for {what}, which is never run here; save the state "
            "dict alone with paddle.save and load that"
        )
