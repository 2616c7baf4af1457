"""MobileNetV3-large at half its width as PaddlePaddle has it, made of timm's blocks and registered with timm."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from timm.layers.activations import HardSwish
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.mobilenetv3 import MobileNetV3, MobileNetV3Features
from torch import Tensor, nn

__all__: list[str] = []  # timm adds the registered names

# Widths of outputs at ×1, and expansions (e) from the rounded widths that come in to the rounded ones at ×½. Other than
# in timm's network, the first block expands too.
_BLOCKS = [
    ["ir_r1_k3_s1_e1_c16_nre"],
    ["ir_r1_k3_s2_e4_c24_nre", "ir_r1_k3_s1_e2.5_c24_nre"],
    ["ir_r1_k5_s2_e2.5_c40_se0.25_nre", "ir_r2_k5_s1_e2.6667_c40_se0.25_nre"],
    ["ir_r1_k3_s2_e5_c80", "ir_r1_k3_s1_e2.6_c80", "ir_r2_k3_s1_e2.4_c80"],
    ["ir_r2_k3_s1_e6_c112_se0.25"],
    ["ir_r1_k5_s2_e6_c160_se0.25", "ir_r2_k5_s1_e6_c160_se0.25"],
]
# Arguments of the classifier; timm's annotation means one name only.
_HEAD: Any = ("num_classes", "num_features", "head_conv", "head_bias", "head_norm", "global_pool")
_decode: Callable[[list[list[str]]], Any] = decode_arch_def  # which timm does not annotate

default_cfgs = generate_default_cfgs(
    {
        "paddle_mobilenetv3_large_050.untrained": {
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "pool_size": (7, 7),
            "crop_pct": 0.875,
            "interpolation": "bilinear",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "conv_stem",
            "classifier": "classifier",
        }
    }
)


class SteepHardSigmoid(nn.Module):
    """PaddlePaddle's hard sigmoid, of slope 0.2 where PyTorch's has 1/6."""

    def __init__(self, inplace: bool = False) -> None:  # noqa: ARG002  # timm's interface
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return values from 0 to 1."""
        return F.hardtanh(0.2 * x + 0.5, 0.0, 1.0)


@register_model
def paddle_mobilenetv3_large_050(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """MobileNetV3-large at half its width, as PaddlePaddle has it: features of 16, 24, 56 and 80 channels."""
    features_only = kwargs.pop("features_only", False)
    return build_model_with_cfg(
        MobileNetV3Features if features_only else MobileNetV3,
        "paddle_mobilenetv3_large_050",
        pretrained,
        pretrained_strict=not features_only,
        kwargs_filter=_HEAD if features_only else None,
        block_args=_decode(_BLOCKS),
        stem_size=16,
        round_chs_fn=functools.partial(round_channels, multiplier=0.5),
        act_layer=HardSwish,
        se_layer=functools.partial(SqueezeExcite, gate_layer=SteepHardSigmoid, force_act_layer=nn.ReLU),
        **kwargs,
    )
