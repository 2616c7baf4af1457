"""distill: a small network learns from a large one on photographs without masks, in one call."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ...graph import evaluating
from ...options import explains_options
from ...training import Callback, TrainingResult, learn_channels
from .._resize import Size, check_size_or_own
from ..data import BothLoaders, DataSet, Photographs, SaliencyLoader, both_loaders, comparison_loader, find_images
from ..inference import check_model
from ..learning import Pairs, SaliencyValidation, found_pairs, warn_of_skipped
from ..transforms._sample import Transform
from ._config import DistillationConfig
from ._teacher import DistillationStep, Teacher, TeacherAgreement, with_maps


@dataclass(frozen=True)
class DistillationTask:
    """What a student learns: photographs, and what a teacher makes of them."""

    config: DistillationConfig
    network: nn.Module  # the teacher, on the device where the student is
    transforms: Iterable[Transform] | None = None  # of photographs, in place of those that the options name
    pin_memory: bool = False  # whether tensors are put into page-locked memory, from where GPUs copy faster

    @property
    def teacher(self) -> Teacher:
        """The network with its options; it is checked."""
        return Teacher(self.network, size=self.config.teacher_size, amp=self.config.teacher_amp)

    @property
    def largest(self) -> Size:
        """The size of the most pixels; that of each photograph where it keeps its own."""
        return max(self.config.sizes, key=lambda size: math.prod(check_size_or_own(size) or [math.inf]))

    def step(self) -> DistillationStep:
        """Return the loss of a batch; with maps on the disk the teacher is not needed any more, but named."""
        config, teacher = self.config, self.teacher
        step = DistillationStep(teacher, loss=config.loss, weights=config.output_weights, reduction=config.reduction)
        if config.maps:
            step.teacher = None
            step.maps = f"maps of teacher {teacher.fingerprint()}, {config.teacher_size or self.largest}"
        return step

    def pairs(self, photographs: Photographs) -> DataSet:
        """Return photographs, with the teacher's maps of them where these are kept."""
        data, config = find_images(photographs), self.config
        if config.maps is None:
            return data
        return with_maps(data, self.teacher, config.maps, size=self.largest, batch_size=config.batch_size)

    def loaders(self, train: DataSet, compared: DataSet | None) -> BothLoaders:
        """Return the loaders of what is learned from and of what maps are compared with."""
        options = self.config.loader_options()
        if self.transforms is not None:
            options["transforms"] = self.transforms
        return both_loaders(train, compared, **options, pin_memory=self.pin_memory)


@explains_options(DistillationConfig)
def distill(
    student: nn.Module,
    teacher: nn.Module,
    images: Photographs,
    validation: Pairs | None = None,
    config: DistillationConfig | None = None,
    *,
    held_out: Photographs | None = None,
    transforms: Iterable[Transform] | None = None,
    optimizer: Callable[[nn.Module], Optimizer] | Optimizer | None = None,
    scheduler: Callable[[Optimizer, int], LRScheduler] | None = None,
    callbacks: Iterable[Callback] = (),
    resume: bool | str | os.PathLike[str] = False,
) -> TrainingResult:
    """Train a student to make the maps that a teacher makes of photographs, which need no masks.

    Any network that returns logits can learn from any other. With a ``weight_decay`` the student's channels fade while
    it learns, those below the ``threshold`` are removed, and ``finetune_epochs`` of distillation follow. A run goes on
    from its checkpoints bit for bit as if it had not been interrupted, and runs data-parallel, as
    `goctconv.learn_channels`.

    Without ``config.maps`` the teacher sees each batch as the student does, crops and flips included, in every epoch.
    With it the teacher sees every photograph once; its maps are kept as 8-bit pictures and go through crops and flips
    as masks do, so that all epochs but the first come without it.

    Args:
        student: Is trained; to lose channels it needs BatchNorm. Of one with a ``forward_multi``, such as
            `goctconv.models.SCFNet`, every output is compared with the teacher's first.
        teacher: A trained network; in eval mode while it runs, and never changed.
        images: Photographs: a folder, files, or a data set, whose masks are not looked at.
        validation: Photographs with masks to compare maps with after each epoch: ``mae`` and ``max_f``.
        config: All options of the run; ``get_preset("scfnet", DistillationConfig)`` returns those of KD-SCFNet.
        held_out: Photographs that are not learned from, to compare with the teacher after each epoch: ``teacher_mae``.
        transforms: Of photographs, in place of those that the options name.
        optimizer: As in `goctconv.learn_channels`, in place of ``config.optimizer``.
        scheduler: As in `goctconv.learn_channels`, in place of ``config.schedule``.
        callbacks: As in `goctconv.learn_channels`.
        resume: As in `goctconv.learn_channels`.

    Returns:
        The student, slim where channels were removed, the report of these, and the history.

    Raises:
        DataSetError: There are no photographs, or too few for a batch.
        ArgumentTypeError: Student or teacher is no network; an argument that there is not.
        ArgumentError: As in `goctconv.learn_channels`; or the teacher returns something else than logits.
        TrainingError: As in `goctconv.learn_channels`; a run is resumed with another teacher.

    Example:
        >>> import pathlib, tempfile
        >>> import goctconv
        >>> from goctconv.saliency import DistillationConfig, distill, synthetic_images
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for index, (photograph, _) in enumerate(synthetic_images(4, seed=0)):
        ...     photograph.save(folder / f"{index}.png")
        >>> teacher, student = goctconv.create_model("test_scfnet"), goctconv.create_model("test_csnet")
        >>> config = DistillationConfig(epochs=1, sizes=32, batch_size=2, workers=0)
        >>> result = distill(student, teacher, folder, config=config, held_out=folder)
        >>> list(result.history.epochs[-1].validation)
        ['teacher_mae']

    Source: Zhang et al., "KD-SCFNet", 2022; Cheng et al., TPAMI 2021, Algorithm 1.
    """
    check_model(student, "student")
    config = DistillationConfig() if config is None else config
    Teacher(teacher)  # checks it
    place = config.device or next((parameter.device for parameter in student.parameters()), None)
    with evaluating(teacher, place) as placed:
        task = DistillationTask(config, placed, transforms)
        step = task.step()
        loaders = task.loaders(task.pairs(images), None if held_out is None else task.pairs(held_out))
        compared = None if validation is None else comparison_loader(found_pairs(validation), **config.loader_options())
        result = learn_channels(
            student,
            loaders.train,
            config=config,
            step=step,
            optimizer=optimizer,
            scheduler=scheduler,
            validate=_validation(step, loaders.validation, compared),
            callbacks=callbacks,
            resume=resume,
        )
    loaders.close()
    skipped = loaders.skipped
    if compared is not None:
        compared.close()
        skipped |= compared.skipped
    warn_of_skipped(skipped)
    return result


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
        return {name: value for compare in found for name, value in compare(model).items()}

    return validate
