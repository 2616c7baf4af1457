"""SCFNet's registered variants: their backbones and configurations."""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

from ._build import build_model
from ._on_backbone import CONVOLUTIONS, on_any_backbone, on_own_backbone
from ._scfnet import SCFNet
from ._scfnet_checkpoint import LAYOUT

__all__: list[str] = []  # timm adds the registered names


def _cfg(**overrides: Any) -> dict[str, Any]:
    cfg: dict[str, Any] = {
        "num_classes": 1,
        "input_size": (3, 352, 352),
        "min_input_size": (3, 32, 32),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "first_conv": "backbone.conv_stem",
        "classifier": ("classifier", "side_classifiers.0", "side_classifiers.1", "side_classifiers.2"),
        "paper_name": "KD-SCFNet: Towards More Accurate and Efficient Salient Object Detection via Knowledge "
        "Distillation",
        "origin_url": "https://github.com/zhangjinCV/KD-SCFNet",
    }
    return {**cfg, **overrides}


default_cfgs = generate_default_cfgs(
    {
        "scfnet.untrained": _cfg(first_conv=None),
        "scfnet_mobilenetv3_050.untrained": _cfg(),
        "scfnet_resnet50.untrained": _cfg(first_conv="backbone.conv1"),
        "scfnet_swin_base.untrained": _cfg(first_conv="backbone.patch_embed.proj", input_size=(3, 224, 224)),
        "test_scfnet.untrained": _cfg(input_size=(3, 64, 64)),
    }
)


def _create_scfnet(variant: str, *, pretrained: bool, arguments: dict[str, Any], **defaults: Any) -> nn.Module:
    return build_model(
        SCFNet,
        variant,
        pretrained=pretrained,
        filter_fn=LAYOUT.adapted,
        out_indices=(0, 1, 2, 3),
        arguments={**defaults, **arguments},
    )


def _create_on(
    variant: str, backbone: str, *, pretrained: bool, arguments: dict[str, Any], **defaults: Any
) -> nn.Module:
    arguments = on_own_backbone(variant, backbone, arguments, "create_scfnet")
    return _create_scfnet(variant, pretrained=pretrained, arguments=arguments, **defaults)


@register_model
def scfnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Scale-correlated fusion on the backbone that ``backbone=`` names, any of timm's that gives features."""
    return _create_scfnet("scfnet", pretrained=pretrained, arguments=on_any_backbone("scfnet", kwargs))


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
