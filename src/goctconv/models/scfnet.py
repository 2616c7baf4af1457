"""SCFNet's registered variants: their backbones and configurations."""

from __future__ import annotations

from typing import Any

import timm
from timm.models import generate_default_cfgs, register_model
from torch import nn

from ._backbone import check_backbone_name
from ._build import build_model
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
    given = arguments.setdefault("backbone", backbone)
    if str(given).partition(".")[0] != backbone:
        raise ValueError(f"backbone={given!r}: {variant} stands on {backbone}; use create_scfnet({given!r}) instead")
    return _create_scfnet(variant, pretrained=pretrained, arguments=arguments, **defaults)


# Networks of convolutions take images of any size and give a stem and four stages, of which the stages are fused.
_CONVOLUTIONS: dict[str, Any] = {"levels": (1, 2, 3, 4), "image_sizes": (1, 1, None)}


@register_model
def scfnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Scale-correlated fusion on the backbone that ``backbone=`` names, any of timm's that gives features."""
    if "backbone" not in kwargs:
        raise ValueError("scfnet needs the name of one of timm's networks: backbone='resnet50', for example")
    check_backbone_name(kwargs["backbone"])
    cfg = timm.models.get_pretrained_cfg(kwargs["backbone"], allow_unregistered=True)
    if cfg is not None:
        told = {"mean": cfg.mean, "std": cfg.std}
        kwargs["pretrained_cfg_overlay"] = {**told, **(kwargs.get("pretrained_cfg_overlay") or {})}
    return _create_scfnet("scfnet", pretrained=pretrained, arguments=kwargs)


@register_model
def scfnet_mobilenetv3_050(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """SCFNet on MobileNetV3-large ×0.5, the student: 788,298 parameters."""
    backbone = "paddle_mobilenetv3_large_050"
    return _create_on(
        "scfnet_mobilenetv3_050", backbone, pretrained=pretrained, arguments=kwargs, width=16, **_CONVOLUTIONS
    )


@register_model
def scfnet_resnet50(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """SCFNet on ResNet-50, a teacher: 26,093,508 parameters."""
    return _create_on("scfnet_resnet50", "resnet50", pretrained=pretrained, arguments=kwargs, width=64, **_CONVOLUTIONS)


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
        "test_scfnet", "test_efficientnet", pretrained=pretrained, arguments=kwargs, width=8, **_CONVOLUTIONS
    )
