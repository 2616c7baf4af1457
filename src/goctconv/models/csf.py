"""CSF's registered variants: their backbones and configurations."""

from __future__ import annotations

from typing import Any

import timm
from timm.models import generate_default_cfgs, register_model
from torch import nn

from ._backbone import check_backbone_name
from ._build import build_model
from ._csf import CSF
from ._csf_checkpoint import LAYOUT

__all__: list[str] = []  # timm adds the registered names


def _cfg(**overrides: Any) -> dict[str, Any]:
    cfg: dict[str, Any] = {
        "num_classes": 1,
        "input_size": (3, 352, 352),
        "min_input_size": (3, 32, 32),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "first_conv": "backbone.conv1",
        "classifier": "classifier",
        "paper_name": "A Highly Efficient Model to Study the Semantics of Salient Object Detection",
        "origin_url": "https://github.com/ShangHua-Gao/SOD100K",
    }
    return {**cfg, **overrides}


_DEEP_STEM = "backbone.conv1.0"

default_cfgs = generate_default_cfgs(
    {
        "csf.untrained": _cfg(first_conv=None),
        "csf_resnet18.untrained": _cfg(),
        "csf_resnet50.untrained": _cfg(),
        "csf_resnet101.untrained": _cfg(),
        "csf_res2net50.untrained": _cfg(first_conv=_DEEP_STEM),
        "csf_res2net101.untrained": _cfg(first_conv=_DEEP_STEM),
        "test_csf_resnet.untrained": _cfg(first_conv=_DEEP_STEM, input_size=(3, 64, 64)),
    }
)

# ResNets take images of any size and give a stem and four stages, of which the stages are fused.
_RESIDUAL: dict[str, Any] = {"levels": (1, 2, 3, 4), "image_sizes": (1, 1, None)}


def _create_csf(variant: str, *, pretrained: bool, arguments: dict[str, Any], **defaults: Any) -> nn.Module:
    return build_model(
        CSF,
        variant,
        pretrained=pretrained,
        filter_fn=LAYOUT.adapted,
        out_indices=(0, 1, 2, 3),
        arguments={**defaults, **arguments},
    )


def _create_residual(variant: str, backbone: str, *, pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    given = arguments.setdefault("backbone", backbone)
    if str(given).partition(".")[0] != backbone:
        raise ValueError(f"backbone={given!r}: {variant} stands on {backbone}; use create_csf({given!r}) instead")
    return _create_csf(variant, pretrained=pretrained, arguments=arguments, **_RESIDUAL)


@register_model
def csf(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Cross-stage fusion on the backbone that ``backbone=`` names, any of timm's that gives features."""
    if "backbone" not in kwargs:
        raise ValueError("csf needs the name of one of timm's networks: backbone='resnet50', for example")
    check_backbone_name(kwargs["backbone"])
    cfg = timm.models.get_pretrained_cfg(kwargs["backbone"], allow_unregistered=True)
    if cfg is not None:
        told = {"mean": cfg.mean, "std": cfg.std}
        kwargs["pretrained_cfg_overlay"] = {**told, **(kwargs.get("pretrained_cfg_overlay") or {})}
    return _create_csf("csf", pretrained=pretrained, arguments=kwargs)


@register_model
def csf_resnet18(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CSF on ResNet-18."""
    return _create_residual("csf_resnet18", "resnet18", pretrained=pretrained, arguments=kwargs)


@register_model
def csf_resnet50(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CSF on ResNet-50: 36.37 M parameters."""
    return _create_residual("csf_resnet50", "resnet50", pretrained=pretrained, arguments=kwargs)


@register_model
def csf_resnet101(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CSF on ResNet-101."""
    return _create_residual("csf_resnet101", "resnet101", pretrained=pretrained, arguments=kwargs)


@register_model
def csf_res2net50(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CSF on Res2Net-50 v1b: 36,528,489 parameters."""
    return _create_residual("csf_res2net50", "res2net50d", pretrained=pretrained, arguments=kwargs)


@register_model
def csf_res2net101(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CSF on Res2Net-101 v1b."""
    return _create_residual("csf_res2net101", "res2net101d", pretrained=pretrained, arguments=kwargs)


@register_model
def test_csf_resnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:  # noqa: PT028  # a model, not a test
    """CSF on timm's tiny ResNet, for tests."""
    return _create_residual("test_csf_resnet", "test_resnet", pretrained=pretrained, arguments=kwargs)
