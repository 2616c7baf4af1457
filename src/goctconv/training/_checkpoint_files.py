"""Checkpoint files: folders of tensors and JSON that are either complete or not there."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from .._checks import ArgumentError, escaped
from .._files import FolderInUseError, FolderLock
from .._limits import check_safetensors, read_json
from ..pruning import PruningError
from ._errors import TrainingError

FORMAT = "goctconv-training"
VERSION = 1
STATE, TENSORS = "state.json", "tensors.safetensors"
_NAME = re.compile(r"\d{5}(-\d{7})?")
_PARTIAL = ".partial-"
_CHECKSUM = "checksum"
_SHOWN = 300  # characters of an error


class Checkpoints:
    """A folder of checkpoints, of which the last two are kept, and those after epochs that are named.

    A checkpoint is a folder that is named after the epochs that are done, and the steps of the next one:
    ``00012``, ``00012-0000034``. With 0 steps, it is of the network that was pruned after these epochs.
    """

    kept = 2

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._lock: FolderLock | None = None

    def all(self) -> list[Path]:
        """Return the complete ones, the last one at the end."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(path for path in found if _NAME.fullmatch(path.name) and (path / STATE).is_file())

    def last(self) -> Path | None:
        """Return the last one, if there is any."""
        return max(self.all(), default=None)

    def begin(self) -> None:
        """Make the folder, keep other processes from it, and remove what an earlier one left unfinished."""
        try:
            self._lock = FolderLock(self.folder)
        except FolderInUseError as error:
            raise TrainingError(escaped(f"checkpoints={str(self.folder)!r}: {error}")) from error
        except OSError as error:
            problem = f"checkpoints={str(self.folder)!r} cannot be made: {error}; choose another"
            raise TrainingError(escaped(problem)) from error
        for path in self.folder.glob(f"{_PARTIAL}*"):
            shutil.rmtree(path, ignore_errors=True)

    def end(self) -> None:
        """Leave the folder to other processes."""
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def write(
        self, name: str, state: Mapping[str, Any], tensors: dict[str, Tensor], keep: Collection[int] = ()
    ) -> Path:
        """Write one: it appears under its name when all of it is on the disk.

        Those after the epochs ``keep`` stay. Those of a later name go: the run has gone back to before them.
        """
        path = self.folder / name
        partial = self.folder / f"{_PARTIAL}{uuid.uuid4().hex[:12]}"
        try:
            if self._lock is not None:
                self._lock.check()
            partial.mkdir(parents=self._lock is None)
            content = safetensors.torch.save(tensors)
            _write(partial / TENSORS, content)
            text = json.dumps(with_checksum({"format": FORMAT, "version": VERSION, **state}, content))
            _write(partial / STATE, text.encode())
            _to_disk(partial)
            if path.exists():  # this run was resumed from an earlier one
                path.rename(self.folder / f"{_PARTIAL}{uuid.uuid4().hex[:12]}")
            partial.rename(path)
            _to_disk(self.folder)
        except FileNotFoundError as error:
            problem = f"{self.folder}: the folder of checkpoints was deleted or replaced while a run wrote to it"
            raise TrainingError(escaped(f"{problem}: begin anew in another folder")) from error
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            last = self.last()
            good = f"the last good one is {last}" if last else "there is no earlier one"
            problem = escaped(f"the checkpoint {path} cannot be written: {error}; {good}")
            cure = "Make room, or mend the disk, and go on with {resume=True}"
            raise TrainingError(f"{problem}. {cure}", can_resume=True) from error
        later = [other for other in self.all() if other > path]
        earlier = [other for other in self.all() if other <= path][: -self.kept]
        earlier = [other for other in earlier if other.name not in {named(epochs) for epochs in keep}]
        for old in (*later, *earlier, *self.folder.glob(f"{_PARTIAL}*")):
            shutil.rmtree(old, ignore_errors=True)
        return path


def named(epochs: int, steps: int | None = None) -> str:
    """Return the name of a checkpoint."""
    return f"{epochs:05d}" if steps is None else f"{epochs:05d}-{steps:07d}"


def with_checksum(state: Mapping[str, Any], tensors: bytes) -> dict[str, Any]:
    """Return a state together with a number by which damage to it, or to the file of its tensors, is noticed."""
    plain = {name: value for name, value in state.items() if name != _CHECKSUM}
    return {**plain, _CHECKSUM: zlib.crc32(json.dumps(plain).encode(), zlib.crc32(tensors))}


@contextmanager
def named_as_damaged(path: Path) -> Iterator[None]:
    """Say of whatever fails with data of a checkpoint that the checkpoint is damaged."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, AssertionError) as error:
        if isinstance(error, TrainingError | PruningError | torch.OutOfMemoryError):
            raise
        problem = escaped(f"{path} is damaged ({type(error).__name__}: {' '.join(str(error).split())[:_SHOWN]})")
        raise TrainingError(f"{problem}: resume from another one beside it, if there is one") from error


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the state and the tensors of a checkpoint."""
    try:
        state = read_json(path / STATE)
        check_safetensors(path / TENSORS)
        content = (path / TENSORS).read_bytes()
        tensors = safetensors.torch.load(content)
    except (OSError, ValueError, SafetensorError) as error:
        problem = f"{path} is no checkpoint of learn_channels, or a damaged one ({type(error).__name__}: {error})"
        raise TrainingError(f"{escaped(problem)}: resume from another one beside it, if there is one") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise TrainingError(f"{path} is no checkpoint of learn_channels: pass the folder that checkpoints= named")
    if not isinstance(version := state.get("version"), int) or version > VERSION:
        raise TrainingError(f"{path} has version {version}, this goctconv reads up to {VERSION}: install a newer one")
    if _CHECKSUM in state and state[_CHECKSUM] != with_checksum(state, content)[_CHECKSUM]:
        problem = f"{path} is damaged: its checksum is not that of its files"
        raise TrainingError(escaped(f"{problem}: resume from another one beside it, if there is one"))
    return state, tensors


def resumable(checkpoints: Checkpoints | None, resume: bool | str | Path) -> list[Path]:
    """Return the checkpoints to go on from, if there are any: the last or named one first, then earlier ones."""
    if resume is False:
        if checkpoints is not None and (last := checkpoints.last()) is not None:
            raise TrainingError(
                f"{checkpoints.folder} holds checkpoints of an earlier run, the last of them {last.name}: pass "
                "{resume=True} to go on with it, or another folder"
            )
        return []
    if resume is True:
        if checkpoints is None:
            raise ArgumentError("resume", True, problem="needs the folder to go on from", cure="pass {checkpoints}")
        return checkpoints.all()[::-1]
    path = Path(resume)
    if (path / STATE).is_file():
        return [path, *(other for other in Checkpoints(path.parent).all()[::-1] if other.name < path.name)]
    if not (found := Checkpoints(path).all()[::-1]):
        raise TrainingError(f"resume={str(resume)!r} is no checkpoint, nor a folder with checkpoints")
    return found


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _to_disk(folder: Path) -> None:
    """Flush the names in a folder to disk, where the system can do that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def encode(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """Return plain data for JSON; tensors are added to ``tensors`` under names that begin with ``name``."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        tensors[name] = stored(value)
        return {"tensor": name}
    if isinstance(value, list):
        return [encode(part, tensors, f"{name}.{index}") for index, part in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": encode(list(value), tensors, name)}
    if isinstance(value, Mapping):
        kind = "counter" if isinstance(value, Counter) else "dict"
        return {kind: [[key, encode(part, tensors, f"{name}.{key}")] for key, part in value.items()]}
    raise TypeError(
        f"{name} holds a {type(value).__module__}.{type(value).__qualname__}, and checkpoints hold data only: numbers, "
        "texts, tensors, and lists, tuples and dicts of them"
    )


def decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what `encode` was given; tensors are on the processor."""
    if isinstance(value, list):
        return [decode(part, tensors) for part in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(decode(content, tensors))
    pairs = {key: decode(part, tensors) for key, part in content}
    return Counter(pairs) if kind == "counter" else pairs


def stored(tensor: Tensor) -> Tensor:
    """Return a copy on the processor that shares memory with nothing, in the order of its dimensions."""
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
