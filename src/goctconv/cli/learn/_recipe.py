"""``goctconv learn``: from options to what the library calls them."""

import functools
from typing import Any

from ...saliency.transforms import ColorJitter, GaussianBlur, RandomCrop, RandomFlip
from ...saliency.transforms._sample import Transform
from ...training import cosine_schedule, create_optimizer, step_schedule, warmup_cosine_schedule
from ...training._optimizers import OptimizerFactory, SchedulerFactory
from ._config import Config


def learning_arguments(config: Config) -> dict[str, Any]:
    """Return the arguments of `goctconv.learn_channels` that options set."""
    return {
        "epochs": config.epochs,
        "finetune_epochs": config.finetune_epochs,
        "optimizer": _optimizer(config),
        "scheduler": _scheduler(config),
        "weight_decay": config.weight_decay,
        "threshold": None if config.threshold == "none" else config.threshold,
        "criterion": None if config.criterion == "auto" else config.criterion,
        "accumulate": config.accumulate,
        "clip_grad": config.clip_grad,
        "amp": None if config.amp == "none" else config.amp,
        "channels_last": config.channels_last,
        "compile": config.compile,
        "freeze_batch_norm": config.freeze_batch_norm,
        "seed": config.seed,
    }


def transforms(config: Config) -> tuple[Transform, ...]:
    """Return how photographs are changed at random."""
    crop = (RandomCrop(config.crop),) if config.crop else ()
    flip = () if config.flip == "none" else (RandomFlip(vertical=0.5 if config.flip == "both" else 0),)
    color = (ColorJitter(*config.color),) if any(config.color) else ()
    blur = (GaussianBlur(probability=config.blur),) if config.blur else ()
    return (*crop, *flip, *color, *blur)


def _optimizer(config: Config) -> OptimizerFactory:
    return functools.partial(
        create_optimizer,
        kind=config.optimizer,
        lr=config.lr,
        weight_decay=config.ordinary_weight_decay,
        betas=config.betas,
        backbone_rate=config.backbone_rate,
    )


def _scheduler(config: Config) -> SchedulerFactory | None:
    if config.schedule == "step":
        return functools.partial(step_schedule, milestones=config.milestones)
    if config.schedule == "warmup-cosine":
        return functools.partial(warmup_cosine_schedule, warmup=config.warmup)
    return cosine_schedule if config.schedule == "cosine" else None
