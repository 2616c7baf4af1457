"""How KD-SCFNet was trained: all arguments of learn_saliency, and of distill, that it needs."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..learning import warmup_cosine_schedule
from .transforms import ColorJitter, GaussianBlur, RandomCrop, RandomFlip
from .transforms._sample import Transform

SIZES = tuple(range(224, 353, 32))
LR, WEIGHT_DECAY, EPOCHS, BATCH_SIZE, BACKBONE_RATE = 0.064, 5e-4, 69, 128, 0.1
LOSS = "dice+boundary_dice"


def scfnet_optimizer(
    model: nn.Module, *, lr: float = LR, weight_decay: float = WEIGHT_DECAY, backbone_rate: float = BACKBONE_RATE
) -> Optimizer:
    """Return SGD with momentum of 0.9, the backbone at a share of the rate.

    Args:
        model: A network; what it calls ``backbone`` learns slower, if it has one.
        lr: The learning rate.
        weight_decay: Of all parameters.
        backbone_rate: The backbone learns with this times ``lr``.

    Example:
        >>> import goctconv
        >>> from goctconv.saliency import scfnet_optimizer
        >>> [group["lr"] for group in scfnet_optimizer(goctconv.create_model("test_scfnet")).param_groups]
        [0.064, 0.0064]
    """
    parts: dict[bool, list[nn.Parameter]] = {False: [], True: []}
    for name, parameter in model.named_parameters():
        parts[name.startswith("backbone.")].append(parameter)
    groups = [{"params": parts[False], "lr": lr}, {"params": parts[True], "lr": lr * backbone_rate}]
    return torch.optim.SGD([one for one in groups if one["params"]], lr, momentum=0.9, weight_decay=weight_decay)


def scfnet_transforms() -> tuple[Transform, ...]:
    """Return crops, flips, blur and brightness, as KD-SCFNet names them; how strong they were is not published.

    Example:
        >>> from goctconv.saliency import scfnet_transforms
        >>> [type(one).__name__ for one in scfnet_transforms()]
        ['RandomCrop', 'RandomFlip', 'GaussianBlur', 'ColorJitter']
    """
    jitter = ColorJitter(brightness=0.2, contrast=0, saturation=0)
    return RandomCrop(15), RandomFlip(vertical=0), GaussianBlur((0.1, 1.0)), jitter


def scfnet_recipe(*, lr: float = LR, backbone_rate: float = BACKBONE_RATE) -> dict[str, Any]:
    """Return how KD-SCFNet was trained, as arguments of `learn_saliency`, and of `distill` with ``loss="dice"``.

    69 epochs in batches of 128, each of one of the sizes 224, 256 … 352; SGD with momentum, from a hundredth of the
    rate over five epochs up to it and along a cosine back, the backbone at a tenth; dice and boundary dice of every
    output, in a band that narrows. The channels stay as they are.

    Args:
        lr: The learning rate; of smaller batches a smaller one.
        backbone_rate: The backbone learns with this times ``lr``.

    Example:
        >>> from goctconv.saliency import scfnet_recipe
        >>> recipe = scfnet_recipe() | {"batch_size": 16, "loss": "dice"}
        >>> recipe["sizes"], recipe["epochs"]
        ((224, 256, 288, 320, 352), 69)

    Source: Zhang et al., "KD-SCFNet", 2022.
    """
    return {
        "epochs": EPOCHS,
        "finetune_epochs": 0,
        "sizes": SIZES,
        "batch_size": BATCH_SIZE,
        "loss": LOSS,
        "transforms": scfnet_transforms(),
        "optimizer": functools.partial(scfnet_optimizer, lr=lr, backbone_rate=backbone_rate),
        "scheduler": warmup_cosine_schedule,
        "weight_decay": 0.0,
        "threshold": 0.0,
    }
