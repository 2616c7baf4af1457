"""A trained network as a teacher: its maps of images, kept on the disk too, and comparison of a student with them."""

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
from PIL import Image
from torch import Tensor, nn

from ... import _distributed as distributed
from ..._checks import check_choice
from ..._files import write_atomic
from ...graph import evaluating
from .._resize import Size, check_size, check_size_or_own, resize_bilinear
from ..data import (
    Batch,
    DataSet,
    DataSetError,
    ImagePair,
    MaskRule,
    SaliencyLoader,
    SkippedPairWarning,
    default_workers,
    listed,
)
from ..inference import Map, Prepared, check_model, home, prepare, run_pipeline
from ..learning import SaliencyStep, maps_of_batches
from ..losses import DeepSupervision, get_loss
from ..losses._basic import Reduction
from ..losses._combine import Loss

_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Teacher:
    """A network whose maps a student learns.

    It returns logits (B, 1, H, W) of normalised images (B, 3, H, W); of several outputs, the first counts. It is in
    eval mode while it runs. Images are resized to ``size`` for it, and its maps back; by default they stay as they are.
    ``amp`` is its mixed precision, ``"bf16"`` or ``"fp16"``.
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
            expected = f"logits of shape ({len(images)}, 1, H, W)"
            raise ValueError(
                f"the teacher returned {got} for images of shape {tuple(given.shape)}, expected {expected}"
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


def with_maps(photographs: DataSet, teacher: Teacher, folder: Path, *, size: Size, batch_size: int) -> DataSet:
    """Return photographs paired with a teacher's maps of them, having made those that are not in the folder yet.

    A map belongs to the teacher's weights, precision and size, and to the photograph's path, time and size: where one
    of these changes, it is made anew. Of several processes each makes its share.
    """
    target = teacher.size or check_size_or_own(size)
    kind = f"{teacher.fingerprint()} {target}"
    pairs = [pair._replace(mask=folder / _name(pair, kind), rule=MaskRule()) for pair in photographs]
    missing = [pair for pair in pairs if not pair.mask.is_file()]
    distributed.barrier()  # all have looked before one writes
    missing = missing[distributed.rank() :: distributed.world_size()]
    made = distributed.gathered(_make(missing, teacher, target, batch_size if target else 1))
    problems = {name: why for found in made for name, why in found.items()}
    good = tuple(pair for pair in pairs if pair.name not in problems)
    if problems:
        text = listed(problems.values(), most=3)
        if not good:
            raise DataSetError(f"no photograph has a map, such as {text}")
        problem = f"{len(problems)} of {len(pairs)} photographs are skipped: {text}"
        warnings.warn(problem, SkippedPairWarning, stacklevel=3)
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


def _make(pairs: list[ImagePair], teacher: Teacher, size: tuple[int, int] | None, batch_size: int) -> dict[str, str]:
    """Write maps; return the names of photographs that have none, and why."""
    like = home(teacher.network)

    def load(pair: ImagePair) -> Prepared:
        return prepare(pair.image, size, name=str(pair.image))

    def infer(pixels: Sequence[Map]) -> list[Map]:
        maps = teacher(torch.from_numpy(np.stack(pixels)).to(like))
        return list(maps[:, 0].float().cpu().numpy())

    def finish(pair: ImagePair, probability: Map, shape: tuple[int, int]) -> None:
        write_map(pair.mask, resize_bilinear(probability, shape, dtype=np.float32))

    workers = default_workers()
    with closing(run_pipeline(pairs, load, infer, finish, batch_size=batch_size, workers=workers)) as outcomes:
        return {outcome.source.name: str(outcome.error) for outcome in outcomes if outcome.error is not None}


def write_map(path: Path, probability: Map) -> None:
    """Write probabilities as an 8-bit picture, rounded."""
    levels = np.rint(np.clip(probability, 0, 1) * 255).astype(np.uint8)
    if levels.max() == 1:
        levels[:] = 0  # a mask whose highest value is 1 would be taken for one that should be multiplied by 255
    write_atomic(path, lambda stream: Image.fromarray(levels).save(stream, "PNG", compress_level=1))


class DistillationStep(SaliencyStep):
    """The loss of a batch against the maps of a teacher; None: the masks of a batch are its maps.

    Every output of a student with a ``forward_multi`` is compared with the teacher's first, with the weights 1, ½, ¼, ⅛
    and so on if there are no others; of other students the only output.

    Source: KD-SCFNet (Zhang et al., 2022): the dice loss between the student's outputs and the teacher's first.
    """

    def __init__(
        self,
        teacher: Teacher | None,
        *,
        loss: str | Loss = "dice",
        weights: Sequence[float] | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(DeepSupervision(get_loss(loss) if isinstance(loss, str) else loss, weights), reduction)
        self.teacher = teacher
        self.maps = "maps"

    def targets(self, batch: Batch) -> Tensor:
        """Return the teacher's probabilities of a batch, (B, 1, H, W)."""
        return batch.masks if self.teacher is None else self.teacher(batch.images)

    def described(self) -> str:
        """Return a text that tells this step from others, so that a run is not resumed with another teacher."""
        teacher = self.maps if self.teacher is None else f"teacher {self.teacher.fingerprint()}"
        return f"{teacher}, {self.loss!r}, {self.reduction}"


class TeacherAgreement:
    """The mean absolute difference of a student's maps of a loader's photographs to those of a step's teacher."""

    def __init__(self, loader: SaliencyLoader, step: DistillationStep) -> None:
        self.loader = loader
        self.step = step

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Return ``teacher_mae``, the mean over photographs, at the network's input size."""
        total, images = 0.0, 0
        for batch, maps in maps_of_batches(model, self.loader):
            total += float((maps - self.step.targets(batch)).abs().mean((1, 2, 3)).double().sum())
            images += len(batch.images)
        return {"teacher_mae": total / images}
