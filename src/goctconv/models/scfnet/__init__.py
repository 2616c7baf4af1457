"""SCFNet: its variants as timm registers them, with backbones and configurations."""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from torch import nn

from ..backbone import CONVOLUTIONS, on_any_backbone, on_own_backbone
from ..hub import build_model, map_cfgs
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


def _create_on(
    variant: str, backbone: str, *, pretrained: bool, arguments: dict[str, Any], **defaults: Any
) -> nn.Module:
    arguments = on_own_backbone(variant, backbone, arguments, "scfnet")
    return build_model(SCFNet, variant, pretrained=pretrained, arguments=arguments, **defaults)


@register_model
def scfnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Scale-correlated fusion on the backbone that ``backbone=`` names, any of timm's that gives features."""
    return build_model(SCFNet, "scfnet", pretrained=pretrained, arguments=on_any_backbone("scfnet", kwargs))


@register_model
def scfnet_mobilenetv3_050(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """SCFNet on MobileNetV3-large ×0.5, the student: 788,298 parameters."""
    backbone = "paddle_mobilenetv3_large_050"
    return _create_on(
        "scfnet_mobilenetv3_050", backbone, pretrained=pretrained, arguments=kwargs, width=16, **CONVOLUTIONS
    )


@register_model
def scfnet_resnet50(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """SCFNet on ResNet-50, a teacher: 26,093,508 parameters."""
    return _create_on("scfnet_resnet50", "resnet50", pretrained=pretrained, arguments=kwargs, width=64, **CONVOLUTIONS)


@register_model
def scfnet_swin_base(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """SCFNet on Swin-B, a teacher: 88,222,780 parameters."""
    return _create_on(
        "scfnet_swin_base",
        "swin_base_patch4_window7_224",
        pretrained=pretrained,
        arguments=kwargs,
        width=64,
        final_norm=True,
        image_sizes=(4, 4, None),
    )


@register_model
def test_scfnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:  # noqa: PT028  # a model, not a test
    """SCFNet on timm's tiny EfficientNet, for tests."""
    return _create_on(
        "test_scfnet", "test_efficientnet", pretrained=pretrained, arguments=kwargs, width=8, **CONVOLUTIONS
    )
