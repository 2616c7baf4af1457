"""distill: a small network learns from a large one on photographs without masks, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ...graph import evaluating
from ...options import explains_options
from ...training import Callback, TrainingResult, learn_channels
from ..data import Photographs, comparison_loader
from ..inference import check_model
from ..learning import Pairs, SaliencyValidation, found_pairs, warn_of_skipped
from ..transforms._sample import Transform
from ._config import DistillationConfig
from ._teacher import Teacher

Validate: TypeAlias = Callable[[nn.Module], dict[str, float]]


@explains_options(DistillationConfig)
def distill(
    student: nn.Module,
    teacher: nn.Module | str | os.PathLike[str],
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
        teacher: A trained network; in eval mode while it runs, and never changed. Or a folder of maps that were made
            before, grey pictures from 0 to 255 with the names of the photographs, but for the suffix, and of any size.
        images: Photographs: a folder, files, or a data set, whose masks are not looked at.
        validation: Photographs with masks to compare maps with after each epoch: ``mae`` and ``max_f``.
        config: All options of the run; ``get_preset("scfnet", DistillationConfig)`` returns those of KD-SCFNet.
        held_out: Photographs that are not learned from, to compare with the teacher after each epoch: ``teacher_mae``.
        transforms: Of photographs, in place of those that the options name.
        optimizer: As in `goctconv.learn_channels`, in place of ``config.optimizer``.
        scheduler: As in `goctconv.learn_channels`, in place of ``config.schedule``.
        callbacks: As in `goctconv.learn_channels`.
        resume: As in `goctconv.learn_channels`, also with more epochs.

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
    place = config.device or next((parameter.device for parameter in student.parameters()), None)
    with _running(teacher, place) as placed:
        masks = validation if held_out is None else None
        task = config.distillation_task(placed, images, masks, held_out=held_out, transforms=transforms)
        validate, both = task.validate, None
        if held_out is not None and validation is not None:
            both = comparison_loader(found_pairs(validation), **config.loader_options())
            validate = _both(validate, SaliencyValidation(both))
        result = learn_channels(
            student,
            task.loaders.train,
            config=config,
            step=task.step,
            optimizer=optimizer,
            scheduler=scheduler,
            validate=validate,
            callbacks=callbacks,
            resume=resume,
        )
    task.loaders.close()
    skipped = task.loaders.skipped
    if both is not None:
        both.close()
        skipped |= both.skipped
    warn_of_skipped(skipped)
    return result


def _running(
    teacher: nn.Module | str | os.PathLike[str], place: torch.device | str | None
) -> AbstractContextManager[nn.Module | str | os.PathLike[str]]:
    """Return a context with the teacher in eval mode on a device, or its folder of maps."""
    if isinstance(teacher, str | os.PathLike):
        return nullcontext(teacher)
    Teacher(teacher)  # checks it
    return evaluating(teacher, place)


def _both(first: Validate | None, second: Validate) -> Validate:
    return lambda model: {**(first(model) if first else {}), **second(model)}
