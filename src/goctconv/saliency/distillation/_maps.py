"""A teacher's maps on the disk: 8-bit pictures of the photographs' sizes, made once."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ... import _distributed as distributed
from ..._files import write_atomic
from .._resize import Size, check_size_or_own, resize_bilinear
from ..data import DataSet, DataSetError, ImagePair, SkippedPairWarning, default_workers
from ..inference import Map, Prepared, home, prepare, run_pipeline
from ._teacher import Teacher

_FORMAT = 1  # to be raised where maps change, so that old ones are not taken for new ones
_SHOWN = 3  # photographs that a warning names


def with_maps(
    photographs: DataSet,
    teacher: Teacher,
    folder: str | os.PathLike[str],
    *,
    size: Size,
    batch_size: int,
) -> DataSet:
    """Return photographs paired with a teacher's maps of them, having made those that are not in the folder yet.

    A map belongs to the teacher's weights, precision and size, and to the photograph's path, time and size: where one
    of these changes, it is made anew. Of several processes each makes its share.
    """
    where = Path(folder)
    target = teacher.size or check_size_or_own(size)
    kind = f"{teacher.fingerprint()} {target}"
    pairs = [pair._replace(mask=where / _name(pair, kind)) for pair in photographs]
    missing = [pair for pair in pairs if not pair.mask.is_file()]
    distributed.barrier()  # all have looked before one writes
    missing = missing[distributed.rank() :: distributed.world_size()]
    problems: dict[str, str] = {}
    for found in distributed.gathered(_make(missing, teacher, target, batch_size if target else 1)):
        problems |= found
    good = tuple(pair for pair in pairs if pair.name not in problems)
    if problems:
        text = "; ".join(list(problems.values())[:_SHOWN])
        if not good:
            raise DataSetError(f"no photograph has a map, such as {text}")
        warnings.warn(
            f"{len(problems)} of {len(pairs)} photographs are skipped: {text}", SkippedPairWarning, stacklevel=3
        )
    return DataSet(photographs.name, good)


def _name(pair: ImagePair, kind: str) -> str:
    try:
        found = pair.image.stat()
        facts = [found.st_mtime_ns, found.st_size]
    except (OSError, ValueError):  # reading it says what is wrong
        facts = []
    path = os.path.abspath(pair.image)  # noqa: PTH100  (no resolving)
    key = hashlib.sha256(json.dumps([_FORMAT, kind, path, facts]).encode(errors="surrogateescape")).hexdigest()
    return f"{key[:2]}/{key[2:]}.png"


def _make(
    pairs: Sequence[ImagePair], teacher: Teacher, size: tuple[int, int] | None, batch_size: int
) -> dict[str, str]:
    """Write maps; return the names of photographs that have none, and why."""
    like = home(teacher.network)

    def load(pair: ImagePair) -> Prepared:
        return prepare(pair.image, size, name=str(pair.image))

    def infer(pixels: Sequence[NDArray[np.float32]]) -> list[Map]:
        maps = teacher(torch.from_numpy(np.stack(pixels)).to(like))
        return list(maps[:, 0].float().cpu().numpy())

    def finish(pair: ImagePair, probability: Map, shape: tuple[int, int]) -> None:
        write_map(pair.mask, resize_bilinear(probability, shape, dtype=np.float32))

    workers = default_workers()
    with closing(run_pipeline(pairs, load, infer, finish, batch_size=batch_size, workers=workers)) as outcomes:
        return {outcome.source.name: str(outcome.error) for outcome in outcomes if outcome.error is not None}


def write_map(path: Path, probability: NDArray[np.float32]) -> None:
    """Write probabilities as an 8-bit picture, rounded."""
    levels = np.rint(np.clip(probability, 0, 1) * 255).astype(np.uint8)
    if levels.max() == 1:
        levels[:] = 0  # a mask whose highest value is 1 would be taken for one that should be multiplied by 255
    write_atomic(path, lambda stream: Image.fromarray(levels).save(stream, "PNG", compress_level=1))
