"""``goctconv learn``: the preset of KD-SCFNet, and what it sets beside options."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._config import Config

SUMMARY = "KD-SCFNet as published: 69 epochs of SGD, several sizes, the backbone at a tenth; the channels stay"
DEFAULTS: Mapping[str, Any] = {
    "model": "scfnet_mobilenetv3_050",
    "size": (224, 256, 288, 320, 352),
    "batch-size": 128,
    "epochs": 69,
    "finetune-epochs": 0,
    "lr": 0.064,
    "ordinary-weight-decay": 5e-4,
    "weight-decay": 0.0,
    "threshold": 0.0,
    "loss": "dice+boundary_dice",
}


def training(config: "Config") -> dict[str, Any]:
    """Return the optimizer and the schedule, as arguments of learn_channels."""
    from ...learning import warmup_cosine_schedule  # noqa: PLC0415  (--help needs neither)
    from ...saliency import scfnet_optimizer  # noqa: PLC0415

    return {
        "optimizer": functools.partial(scfnet_optimizer, lr=config.lr, weight_decay=config.ordinary_weight_decay),
        "scheduler": warmup_cosine_schedule,
    }
