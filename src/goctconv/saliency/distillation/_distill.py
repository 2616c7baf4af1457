"""distill: a small network learns from a large one on photographs without masks, in one call."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...graph import evaluating
from ...training import TrainingResult, learn_channels
from .._learn import Pairs, SaliencyValidation, warn_of_skipped
from .._options import check_options
from .._resize import Size, check_size_or_own
from ..data import (
    BothLoaders,
    DataSet,
    Photographs,
    SaliencyLoader,
    find_images,
    join_pairs,
    training_loader,
    validation_loader,
)
from ..losses._basic import Reduction
from ..losses._combine import Loss
from ._maps import with_maps
from ._step import DistillationStep, TeacherAgreement
from ._teacher import Teacher


@dataclass(frozen=True)
class Lessons:
    """How a student is taught; `distill` documents the attributes."""

    size: Size = 224
    sizes: Sequence[Size] | None = None
    batch_size: int = 24
    workers: int = 2
    loss: str | Loss = "dice"
    weights: Sequence[float] | None = None
    reduction: Reduction = "mean"
    teacher_size: int | tuple[int, int] | None = None
    teacher_amp: str | None = None
    maps: str | os.PathLike[str] | None = None
    transforms: Any = None
    shrink: int | None = None
    cache: str | os.PathLike[str] | None = None
    accumulate: int = 1
    seed: int = 0
    pin_memory: bool = False

    @property
    def largest(self) -> Size:
        """The size of the most pixels; that of each photograph where it keeps its own."""
        return max(self.sizes or (self.size,), key=lambda size: math.prod(check_size_or_own(size) or [math.inf]))

    def step(self, teacher: nn.Module) -> DistillationStep:
        """Return the loss of a batch; with maps on the disk the teacher is not needed any more, but named."""
        kept = self.maps is not None
        step = DistillationStep(
            None if kept else teacher,
            loss=self.loss,
            weights=self.weights,
            reduction=self.reduction,
            size=self.teacher_size,
            amp=self.teacher_amp,
        )
        if kept:
            step.told = f"maps of teacher {self._teacher(teacher).fingerprint()}, {self.teacher_size or self.largest}"
        return step

    def found(self, photographs: Photographs, teacher: nn.Module) -> DataSet:
        """Return photographs, with the teacher's maps of them where these are kept."""
        data = find_images(photographs)
        if self.maps is None:
            return data
        return with_maps(data, self._teacher(teacher), self.maps, size=self.largest, batch_size=self.batch_size)

    def training(self, data: DataSet) -> SaliencyLoader:
        """Return the loader of what is learned from."""
        return training_loader(
            data,
            size=self.size,
            sizes=self.sizes,
            batch_size=self.batch_size,
            workers=self.workers,
            seed=self.seed,
            transforms=self.transforms,
            shrink=self.shrink,
            cache=self.cache,
            accumulate=self.accumulate,
            pin_memory=self.pin_memory,
        )

    def checking(self, data: DataSet) -> SaliencyLoader:
        """Return a loader of all of some data in the first process."""
        return validation_loader(
            data,
            size=self.size if self.sizes is None else self.sizes[0],
            batch_size=self.batch_size,
            workers=self.workers,
            shrink=self.shrink,
            cache=self.cache,
            rank=0,
            world_size=1,
            pin_memory=self.pin_memory,
        )

    def _teacher(self, teacher: nn.Module) -> Teacher:
        return Teacher(teacher, size=self.teacher_size, amp=self.teacher_amp)


def distill(
    student: nn.Module,
    teacher: nn.Module,
    images: Photographs,
    validation: Pairs | None = None,
    *,
    epochs: int,
    finetune_epochs: int = 0,
    held_out: Photographs | None = None,
    size: Size = 224,
    sizes: Sequence[Size] | None = None,
    batch_size: int = 24,
    workers: int = 2,
    loss: str | Loss = "dice",
    weights: Sequence[float] | None = None,
    reduction: Reduction = "mean",
    teacher_size: int | tuple[int, int] | None = None,
    teacher_amp: str | None = None,
    maps: str | os.PathLike[str] | None = None,
    transforms: Any = None,
    shrink: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    weight_decay: float = 0.0,
    threshold: float | str | None = None,
    accumulate: int = 1,
    seed: int = 0,
    device: torch.device | str | None = None,
    **options: Any,
) -> TrainingResult:
    """Train a student to make the maps that a teacher makes of photographs, which need no masks.

    Any network that returns logits can learn from any other. With ``weight_decay`` the student's channels fade while it
    learns, those below ``threshold`` are removed, and ``finetune_epochs`` of distillation follow. A run goes on from
    its checkpoints bit for bit as if it had not been interrupted, and runs data-parallel, as `goctconv.learn_channels`.

    Without ``maps`` the teacher sees each batch as the student does, crops and flips included, in every epoch. With
    ``maps`` it sees every photograph once; its maps are kept as 8-bit pictures and go through crops and flips as masks
    do, so that all epochs but the first come without it.

    Args:
        student: Is trained; to lose channels it needs BatchNorm. Of one with a ``forward_multi``, such as
            `goctconv.models.SCFNet`, every output is compared with the teacher's first.
        teacher: A trained network; in eval mode while it runs, and never changed.
        images: Photographs: a folder, files, or a data set, whose masks are not looked at.
        validation: Photographs with masks to compare maps with after each epoch: ``mae`` and ``max_f``.
        epochs: Of distillation before channels are removed.
        finetune_epochs: Of distillation after that.
        held_out: Photographs that are not learned from, to compare with the teacher after each epoch: ``teacher_mae``.
        size: Of the images of a batch, (height, width) or one number for both, in pixels; or ``"own"``: every
            photograph keeps its own, in batches of one.
        sizes: Several sizes, one drawn for each batch.
        batch_size: Images in a batch.
        workers: Processes that read and change photographs.
        loss: Of logits and maps of probabilities.
        weights: Of the outputs; by default 1, ½, ¼, ⅛ as published.
        reduction: Of the loss, over the pixels of an image, as in `SaliencyStep`.
        teacher_size: What images are resized to for the teacher; by default they stay as they are for the student; with
            ``maps`` the largest of its sizes.
        teacher_amp: Mixed precision of the teacher: ``"bf16"`` or ``"fp16"``.
        maps: A folder for the teacher's maps.
        transforms: Of photographs; None: the published crop and flips.
        shrink: First shrink larger photographs until their shorter side has this many pixels; about twice ``size``.
        cache: A folder for decoded copies of photographs.
        weight_decay: λ of dynamic weight decay; 3.0 is published; 0: none.
        threshold: Channels with abs(γ) below it are removed, ``"valley"`` looks for one; None: all channels stay.
        accumulate: Batches in a step of the optimizer.
        seed: Of all that is random.
        device: Where to train, and where a copy of the teacher runs; if not given, where the student is.
        **options: Other arguments of `goctconv.learn_channels`: ``optimizer``, ``scheduler``, ``checkpoints``,
            ``resume``, ``callbacks``, ``amp``, ``channels_last``, ``compile``,
            ``freeze_batch_norm``, ... `scfnet_recipe` returns how KD-SCFNet was trained.

    Returns:
        The student, slim where channels were removed, the report of these, and the history.

    Raises:
        DataSetError: There are no photographs, or too few for a batch.
        TypeError: Student or teacher is no network; an argument that there is not.
        ValueError: As in `goctconv.learn_channels`; or the teacher returns something else than logits.
        TrainingError: As in `goctconv.learn_channels`; a run is resumed with another teacher.

    Example:
        >>> import pathlib, tempfile
        >>> import goctconv
        >>> from goctconv.saliency import distill
        >>> from goctconv.saliency import synthetic_images
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for index, (photograph, _) in enumerate(synthetic_images(4, seed=0)):
        ...     photograph.save(folder / f"{index}.png")
        >>> teacher, student = goctconv.create_model("test_scfnet"), goctconv.create_model("test_csnet")
        >>> result = distill(student, teacher, folder, epochs=1, size=32, batch_size=2, workers=0, held_out=folder)
        >>> list(result.history.epochs[-1].validation)
        ['teacher_mae']

    Source: Zhang et al., "KD-SCFNet", 2022; Cheng et al., TPAMI 2021, Algorithm 1.
    """
    lessons = Lessons(
        size=size,
        sizes=sizes,
        batch_size=batch_size,
        workers=workers,
        loss=loss,
        weights=weights,
        reduction=reduction,
        teacher_size=teacher_size,
        teacher_amp=teacher_amp,
        maps=maps,
        transforms=transforms,
        shrink=shrink,
        cache=cache,
        accumulate=accumulate,
        seed=seed,
    )
    if not isinstance(student, nn.Module):
        raise TypeError(
            f"student is {student!r}, expected a torch.nn.Module, such as goctconv.create_model('csnet_x1')"
        )
    check_options(options, distill)
    Teacher(teacher)  # says what is wrong, before anything is lent
    place = device if device is not None else next((one.device for one in student.parameters()), None)
    with evaluating(teacher, place) as lent:
        step = lessons.step(lent)
        loaders = BothLoaders(
            lessons.training(lessons.found(images, lent)),
            None if held_out is None else lessons.checking(lessons.found(held_out, lent)),
        )
        compared = None if validation is None else lessons.checking(_pairs(validation))
        result = learn_channels(
            student,
            loaders.train,
            step=step,
            epochs=epochs,
            finetune_epochs=finetune_epochs,
            validate=_validation(step, loaders.validation, compared),
            weight_decay=weight_decay,
            threshold=threshold,
            accumulate=accumulate,
            seed=seed,
            device=device,
            **options,
        )
    loaders.close()
    skipped = loaders.skipped
    if compared is not None:
        compared.close()
        skipped |= compared.skipped
    warn_of_skipped(skipped)
    return result


def _pairs(pairs: Pairs) -> DataSet:
    return join_pairs(pairs) if isinstance(pairs, str | os.PathLike | DataSet) else DataSet("validation", tuple(pairs))


def _validation(
    step: DistillationStep, held_out: SaliencyLoader | None, pairs: SaliencyLoader | None
) -> Callable[[nn.Module], dict[str, float]] | None:
    found: list[Callable[[nn.Module], dict[str, float]]] = []
    if held_out is not None:
        found.append(TeacherAgreement(held_out, step))
    if pairs is not None:
        found.append(SaliencyValidation(pairs))
    if not found:
        return None

    def validate(model: nn.Module) -> dict[str, float]:
        return {name: value for one in found for name, value in one(model).items()}

    return validate
