"""SCFNet: its variants as timm registers them, with backbones and configurations."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..backbone import CONVOLUTIONS, on_backbone
from ..hub import build_model, map_cfgs, register_variants
from ._model import SCFNet

__all__ = ["SCFNet"]  # timm adds the registered names

default_cfgs = map_cfgs(
    {
        "scfnet.untrained": {"first_conv": None},
        "scfnet_mobilenetv3_050.untrained": {},
        "scfnet_resnet50.untrained": {"first_conv": "backbone.conv1"},
        "scfnet_swin_base.untrained": {"first_conv": "backbone.patch_embed.proj", "input_size": (3, 224, 224)},
        "test_scfnet.untrained": {"input_size": (3, 64, 64)},
    },
    first_conv="backbone.conv_stem",
    classifier=("classifier", "side_classifiers.0", "side_classifiers.1", "side_classifiers.2"),
    paper_name="KD-SCFNet: Towards More Accurate and Efficient Salient Object Detection via Knowledge Distillation",
    origin_url="https://github.com/zhangjinCV/KD-SCFNet",
)


def _create_scfnet(
    variant: str, *, pretrained: bool, arguments: dict[str, Any], backbone: str | None = None, **defaults: Any
) -> nn.Module:
    arguments = on_backbone(backbone, "scfnet", variant, arguments)
    return build_model(SCFNet, variant, pretrained=pretrained, arguments=arguments, **defaults)


_SWIN: dict[str, Any] = {"backbone": "swin_base_patch4_window7_224", "final_norm": True, "image_sizes": (4, 4, None)}

register_variants(
    __name__,
    _create_scfnet,
    {
        "scfnet": (
            "Scale-correlated fusion on the backbone that ``backbone=`` names, any of timm's that gives features.",
            {},
        ),
        "scfnet_mobilenetv3_050": (
            "SCFNet on MobileNetV3-large ×0.5, the student: 788,298 parameters.",
            {"backbone": "paddle_mobilenetv3_large_050", "width": 16, **CONVOLUTIONS},
        ),
        "scfnet_resnet50": (
            "SCFNet on ResNet-50, a teacher: 26,093,508 parameters.",
            {"backbone": "resnet50", "width": 64, **CONVOLUTIONS},
        ),
        "scfnet_swin_base": ("SCFNet on Swin-B, a teacher: 88,222,780 parameters.", {"width": 64, **_SWIN}),
        "test_scfnet": (
            "SCFNet on timm's tiny EfficientNet, for tests.",
            {"backbone": "test_efficientnet", "width": 8, **CONVOLUTIONS},
        ),
    },
)
