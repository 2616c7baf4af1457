"""``goctconv learn``: defaults by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """What differs from the defaults of the options.

    Args:
        summary: One line.
        defaults: Values by the names of options.
    """

    summary: str
    defaults: Mapping[str, Any] = field(default_factory=dict)


_WHOLE = {  # a network that is trained as it is, on a backbone that knows ImageNet
    "model": "csf_res2net50",
    "backbone-weights": "timm",
    "finetune-epochs": 0,
    "weight-decay": 0.0,
    "threshold": "none",
    "betas": (0.9, 0.999),
    "flip": "horizontal",
}

PRESETS: dict[str, Preset] = {
    "csnet": Preset("CSNet as published: 300 epochs with dynamic weight decay on the ILBlocks, 20 of fine-tuning"),
    "csf": Preset(
        "CSF as published: photographs at their own size, ten for a step; all channels stay",
        _WHOLE
        | {
            "epochs": 24,
            "size": ("own",),
            "crop": 0,
            "batch-size": 1,
            "accumulate": 10,
            "freeze-batch-norm": True,
            "lr": 5e-5,
            "milestones": (15 / 24,),
            "ordinary-weight-decay": 5e-4,
            "reduction": "sum",
        },
    ),
    "scfnet": Preset(
        "KD-SCFNet as published: several sizes, SGD, warm-up, a slower backbone; all channels stay",
        {
            "model": "scfnet_mobilenetv3_050",
            "epochs": 69,
            "finetune-epochs": 0,
            "size": (224, 256, 288, 320, 352),
            "flip": "horizontal",
            "color": (0.2, 0.0, 0.0),
            "blur": 0.5,
            "batch-size": 128,
            "optimizer": "sgd",
            "lr": 0.064,
            "backbone-rate": 0.1,
            "schedule": "warmup-cosine",
            "weight-decay": 0.0,
            "ordinary-weight-decay": 5e-4,
            "loss": "dice+boundary_dice",
            "threshold": "none",
        },
    ),
    "modern": Preset(
        "a CSF as networks are trained today: batches, bf16, AdamW, cosine, a slower backbone; all channels stay",
        _WHOLE
        | {
            "epochs": 30,
            "size": (352,),
            "batch-size": 16,
            "optimizer": "adamw",
            "backbone-rate": 0.1,
            "schedule": "cosine",
            "clip-grad": 1.0,
            "ordinary-weight-decay": 1e-2,
            "loss": "bce+iou",
            "amp": "bf16",
            "channels-last": True,
        },
    ),
}
