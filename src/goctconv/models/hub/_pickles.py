"""Pickles of others, of which the names they ask for and the memory they take are checked before they are loaded."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, BinaryIO, NamedTuple, cast

import torch
from torch.serialization import get_safe_globals

from ..._limits import FileSizeError, zip_contents

MAX_OPERATIONS = 2_000_000
"""Operations of a pickle, each of which makes one object at most, 500 MB of them; a tensor takes about 35."""
MAX_PICKLE = 16 << 20
"""Bytes of the pickle in a zip file; the tensors lie beside it."""
_MIB = 1 << 20
_LEGACY_PICKLES = 5  # of a file that is no zip: a number, a version, the system, the content, the keys of storages
_ITEM_BYTES = {
    **dict.fromkeys(("UntypedStorage", "CharStorage", "ByteStorage", "BoolStorage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}


class RefusedNamesError(pickle.UnpicklingError):
    """A pickle asks for something else than data, which would run code."""


def check_operations(stream: BinaryIO, room: int) -> None:
    """Read over a pickle without running it, and refuse one that is too long.

    Args:
        stream: Stands behind the pickle afterwards.
        room: The bytes of the file, of which no text in it has more.

    Raises:
        FileSizeError: It has too many operations, or reserves places for more objects than it makes.
        ValueError: It is damaged.
    """
    for count, (operation, argument, _) in enumerate(pickletools.genops(cast("IO[bytes]", _Bounded(stream, room))), 1):
        if count > MAX_OPERATIONS:
            raise FileSizeError(f"its pickle has more than {MAX_OPERATIONS:,} operations")
        if operation.name.endswith("PUT") and argument is not None and int(argument) > count:
            raise FileSizeError(f"its pickle reserves {argument:,} places for {count:,} objects")


class _Bounded:
    """A stream of which no more is asked than it has: the answer would take memory first."""

    def __init__(self, stream: BinaryIO, room: int) -> None:
        self.readline, self._read, self._room = stream.readline, stream.read, room

    def read(self, count: int) -> bytes:
        if count > self._room:
            raise ValueError("a text that is longer than the file")
        return self._read(count)


class BoundedUnpickler(pickle.Unpickler):
    """An unpickler that knows containers, and refuses to copy more than the file has.

    ``room`` is what may still be made of data that the pickle has once, which it may name any number of times.
    """

    def __init__(self, stream: BinaryIO, room: int) -> None:
        super().__init__(stream)
        self.room = room
        self.known: dict[str, Any] = {
            "collections.OrderedDict": self._ordered,
            "builtins.set": self._set,
            **{f"builtins.{kind.__name__}": self._empty(kind) for kind in (dict, list, tuple, bytes)},
            "_codecs.encode": self._latin1,
        }

    def take(self, size: int) -> None:
        """Count bytes that are made."""
        self.room -= size
        if self.room < 0:
            raise FileSizeError("it would take more memory than the file has bytes")

    def find_class(self, module: str, name: str) -> Any:
        """Return what the file asks for, if it is one of the few things that are data."""
        asked = f"{'builtins' if module == '__builtin__' else module}.{name}"  # as protocols up to 2 call it
        if asked not in self.known:
            raise RefusedNamesError(asked)
        return self.known[asked]

    def persistent_load(self, pid: Any) -> Any:
        """Refuse a reference to something outside of the pickle."""
        raise RefusedNamesError(f"the outside object {pid!r:.80}")

    def _ordered(self, items: Iterable[Any] = ()) -> OrderedDict[Any, Any]:
        return OrderedDict(self.counted(items))

    def _set(self, items: Iterable[Any] = ()) -> set[Any]:
        return set(self.counted(items))

    def counted(self, items: Any) -> Any:
        """Return what is going to be copied."""
        self.take(2 * len(items))  # which the pickle has at least, for each
        return items

    @staticmethod
    def _empty(kind: type) -> Callable[[], Any]:
        def make() -> Any:
            return kind()

        return make

    def _latin1(self, text: Any, encoding: Any = "latin1") -> bytes:
        """Return the bytes that old protocols of pickle keep as text."""
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}, expected 'latin1'")
        self.take(len(text))
        return text.encode("latin1")


class _Storage(NamedTuple):
    """The numbers of tensors, in bytes."""

    size: int
    item: int


class _Trusted:
    """An object of a class that the user has allowed, with `torch.serialization.add_safe_globals`."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _TorchUnpickler(BoundedUnpickler):
    """An unpickler of what `torch.save` writes, which makes no tensor and checks the sizes of all of them.

    ``stored`` has the sizes of the storages, by key, where they are known; otherwise the file has ``room`` for all.
    """

    def __init__(self, stream: BinaryIO, room: int, stored: Mapping[str, int] | None = None) -> None:
        super().__init__(stream, room)
        self._stored, self._left, self._found = stored, room, dict[str, _Storage]()
        trusted = [found if isinstance(found, tuple) else (found, None) for found in get_safe_globals()]
        tensors = {f"torch._utils._rebuild_{name}": self._tensor for name in ("tensor", "tensor_v2", "tensor_v3")}
        parameters = ("parameter", "parameter_with_state")
        self.known = {
            **{name or f"{found.__module__}.{found.__qualname__}": _Trusted for found, name in trusted},
            **self.known,
            **tensors,
            **{f"torch._utils._rebuild_{name}": lambda tensor, *_: tensor for name in parameters},
            **{f"torch.{name}": size for name, size in _ITEM_BYTES.items()},
            "torch.storage.UntypedStorage": 1,
            "torch._tensor._rebuild_from_type_v2": lambda make, _, arguments, __: make(*arguments),
            "torch.nn.parameter.Parameter": None,
            "torch.Tensor": None,
            "torch.Size": lambda items: tuple(self.counted(items)),
            "torch.device": lambda *_: None,
            "torch.serialization._get_layout": lambda _: None,
            "collections.Counter": lambda items: dict(self.counted(items)),
        }

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for what the file asks for."""
        dtype = getattr(torch, name, None) if module == "torch" else None
        return dtype if isinstance(dtype, torch.dtype) else super().find_class(module, name)

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage of a key, whose size must be that of the file."""
        kind, item, key, _, count = pid[:5]
        storage = _Storage(item * count, item)
        if kind != "storage" or storage.size < 0:
            raise pickle.UnpicklingError(f"a {kind} of {count} numbers")
        if self._stored is not None:
            if self._stored.get(key) != storage.size:
                raise pickle.UnpicklingError(f"{storage.size} bytes, and {self._stored.get(key)} in the file")
        elif self._found.setdefault(key, storage) is storage:
            self._left -= storage.size
            if self._left < 0:
                raise pickle.UnpicklingError("more numbers than the file has")
        return storage

    def _tensor(self, storage: Any, _: Any, shape: Any, *others: Any) -> None:
        """Check that a tensor is not much larger than its storage, as one whose rows are all the same may be."""
        item = next((other.itemsize for other in others if isinstance(other, torch.dtype)), storage.item)
        if len(shape) > 64 or item * math.prod(shape) > storage.size + _MIB:
            raise FileSizeError(f"it has {storage.size:,} bytes for a tensor of the shape {tuple(shape[:64])}")


def check_torch_file(stream: BinaryIO) -> None:
    """Refuse a file of `torch.save` that would take much more memory than it has bytes, or that asks for code.

    Raises:
        FileSizeError: It would take more.
        RefusedNamesError: It asks for something else than data.
        Exception: It is damaged: an unpickler raises anything.
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if stream.read(4) == b"PK\3\4":
        _check_zip(stream)
        return
    stream.seek(0)
    for _ in range(_LEGACY_PICKLES):
        start = stream.tell()
        check_operations(stream, size)
        end = stream.seek(0, io.SEEK_CUR)
        stream.seek(start)
        _TorchUnpickler(stream, size).load()
        stream.seek(end)


def _check_zip(stream: BinaryIO) -> None:
    sizes = zip_contents(stream)
    root = next(iter(sizes), "").partition("/")[0]
    name, data = f"{root}/data.pkl", f"{root}/data/"
    if sizes.get(name, 0) > MAX_PICKLE:
        raise FileSizeError(f"its pickle has {sizes[name] / _MIB:,.0f} MiB, of at most {MAX_PICKLE / _MIB:g}")
    with zipfile.ZipFile(stream) as archive:
        content = archive.read(name)
    check_operations(io.BytesIO(content), len(content))
    stored = {found.removeprefix(data): size for found, size in sizes.items() if found.startswith(data)}
    _TorchUnpickler(io.BytesIO(content), len(content), stored).load()
