"""A trained network as a teacher: its maps of images, and of photographs on the disk, made once."""

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
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ... import _distributed as distributed
from ..._checks import check_choice
from ..._files import write_atomic
from ...graph import evaluating
from .._resize import Size, check_size, check_size_or_own, resize_bilinear
from ..data import DataSet, DataSetError, ImagePair, SkippedPairWarning, default_workers
from ..inference import Map, Prepared, check_model, home, prepare, run_pipeline

_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Teacher:
    """A network whose maps a student learns.

    Args:
        network: Returns logits (B, 1, H, W) of normalised images (B, 3, H, W); of several outputs, the first counts.
            It is in eval mode while it runs, and gets its flags back.
        size: Images are resized to this one for it, and its maps back; by default they stay as they are.
        amp: Mixed precision: ``"bf16"``, or ``"fp16"``; by default it runs in its own.
    """

    def __init__(
        self, network: nn.Module, *, size: int | tuple[int, int] | None = None, amp: str | None = None
    ) -> None:
        check_model(network, "teacher")
        if amp is not None:
            check_choice("teacher_amp", amp, tuple(_PRECISIONS), "leave it out for full precision")
        self.network = network
        self.size = None if size is None else check_size(size)
        self.amp = amp

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return probabilities (B, 1, H, W) of images (B, 3, H, W), in float32, or in float64 where images are."""
        given = images if self.size is None else _resized(images, self.size)
        precision = _PRECISIONS.get(self.amp or "", torch.bfloat16)
        with evaluating(self.network), torch.autocast(images.device.type, precision, enabled=self.amp is not None):
            found = self.network(given)
        logits = found[0] if isinstance(found, tuple | list) and found else found
        if not isinstance(logits, Tensor) or logits.shape[:2] != (len(images), 1) or logits.dim() != 4:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"the teacher returned {got} for images of shape {tuple(given.shape)}, expected logits of shape "
                f"({len(images)}, 1, H, W)"
            )
        maps = (logits if logits.dtype == torch.float64 else logits.float()).sigmoid()
        if not torch.isfinite(maps).all():
            raise ValueError("the teacher's map is not a number (NaN): load trained weights into it")
        return maps if maps.shape[-2:] == images.shape[-2:] else _resized(maps, images.shape[-2:])

    def fingerprint(self) -> str:
        """Return a text that tells this teacher from others: of its class, weights, size and precision."""
        digest = hashlib.sha256(f"{type(self.network).__name__} {self.size} {self.amp}".encode())
        for name, tensor in self.network.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


def _resized(images: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    return F.interpolate(images, tuple(size), mode="bilinear", align_corners=False)


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
