"""Other ways to train than CSNet's: all arguments of learn_saliency that they need."""

from __future__ import annotations

import functools
from typing import Any

from ..training import cosine_schedule, create_optimizer, step_schedule, warmup_cosine_schedule
from .transforms import ColorJitter, GaussianBlur, RandomCrop, RandomFlip

CSF_MILESTONES = (15 / 24,)


def csf_recipe(*, lr: float = 5e-5, backbone_rate: float = 1.0) -> dict[str, Any]:
    """Return how CSF was trained, as arguments of `learn_saliency`.

    24 epochs of single photographs at their own size, ten of them for each step of Adam; binary cross-entropy, summed
    over the pixels of a photograph; a tenth of the learning rate after 15 epochs; weight decay of 5e-4; half of the
    photographs mirrored left to right; the backbone's BatchNorm frozen. The channels stay as they are.

    Args:
        lr: The learning rate.
        backbone_rate: The backbone learns with this times ``lr``; below 1 for longer runs.

    Example:
        >>> import goctconv
        >>> from goctconv.saliency import csf_recipe, learn_saliency
        >>> recipe = csf_recipe() | {"epochs": 12}
        >>> recipe["size"], recipe["batch_size"], recipe["accumulate"]
        ('own', 1, 10)
        >>> def train(folder):
        ...     model = goctconv.create_model("csf_res2net50", pretrained_backbone=True)
        ...     return learn_saliency(model, folder, **recipe)

    Source: Cheng et al., TPAMI 2021, and the training settings released with it.
    """
    return {
        "epochs": 24,
        "finetune_epochs": 0,
        "size": "own",
        "batch_size": 1,
        "accumulate": 10,
        "loss": "bce",
        "reduction": "sum",
        "transforms": (RandomFlip(vertical=0),),
        "optimizer": functools.partial(
            create_optimizer, kind="adam", lr=lr, weight_decay=5e-4, betas=(0.9, 0.999), backbone_rate=backbone_rate
        ),
        "scheduler": functools.partial(step_schedule, milestones=CSF_MILESTONES),
        "freeze_batch_norm": True,
        "weight_decay": 0.0,
        "threshold": None,
    }


def scfnet_recipe(*, lr: float = 0.064, backbone_rate: float = 0.1) -> dict[str, Any]:
    """Return how KD-SCFNet was trained, as arguments of `learn_saliency`, and of `distill` with ``loss="dice"``.

    69 epochs in batches of 128, each of one of the sizes 224, 256 … 352; SGD with momentum, from a hundredth of the
    rate over five epochs up to it and along a cosine back, the backbone at a tenth; weight decay of 5e-4; dice and
    boundary dice of every output, in a band that narrows; crops, half of the photographs mirrored left to right, blur
    and brightness, whose strengths are not published. The channels stay as they are.

    Args:
        lr: The learning rate; of smaller batches a smaller one.
        backbone_rate: The backbone learns with this times ``lr``; 1 for a network without a backbone.

    Example:
        >>> from goctconv.saliency import scfnet_recipe
        >>> recipe = scfnet_recipe() | {"batch_size": 16, "loss": "dice"}
        >>> recipe["sizes"], recipe["epochs"]
        ((224, 256, 288, 320, 352), 69)

    Source: Zhang et al., "KD-SCFNet", 2022.
    """
    return {
        "epochs": 69,
        "finetune_epochs": 0,
        "sizes": (224, 256, 288, 320, 352),
        "batch_size": 128,
        "loss": "dice+boundary_dice",
        "transforms": (RandomCrop(15), RandomFlip(vertical=0), ColorJitter(0.2, 0, 0), GaussianBlur()),
        "optimizer": functools.partial(
            create_optimizer, kind="sgd", lr=lr, weight_decay=5e-4, backbone_rate=backbone_rate
        ),
        "scheduler": warmup_cosine_schedule,
        "weight_decay": 0.0,
        "threshold": None,
    }


def modern_recipe(*, lr: float = 1e-4, backbone_rate: float = 0.1) -> dict[str, Any]:
    """Return how such networks are trained today, as arguments of `learn_saliency`.

    30 epochs at 352×352 in batches of 16 and mixed precision (bfloat16); AdamW along half a cosine, the backbone a
    tenth as fast, gradients clipped to a norm of 1; binary cross-entropy and IoU; crops, half of the photographs
    mirrored left to right. The channels stay as they are; other values of ``weight_decay``, ``threshold`` and
    ``finetune_epochs``, such as 3.0, ``"valley"`` and 10, learn them.

    Args:
        lr: The learning rate.
        backbone_rate: The backbone learns with this times ``lr``; 1 for a network without a backbone.

    Example:
        >>> from goctconv.saliency import modern_recipe
        >>> recipe = modern_recipe(lr=2e-4) | {"batch_size": 32, "amp": None}
        >>> recipe["size"], recipe["loss"]
        (352, 'bce+iou')
    """
    return {
        "epochs": 30,
        "finetune_epochs": 0,
        "size": 352,
        "batch_size": 16,
        "loss": "bce+iou",
        "transforms": (RandomCrop(15), RandomFlip(vertical=0)),
        "optimizer": functools.partial(
            create_optimizer, kind="adamw", lr=lr, weight_decay=1e-2, betas=(0.9, 0.999), backbone_rate=backbone_rate
        ),
        "scheduler": cosine_schedule,
        "clip_grad": 1.0,
        "amp": "bf16",
        "channels_last": True,
        "weight_decay": 0.0,
        "threshold": None,
    }
