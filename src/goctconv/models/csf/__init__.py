"""CSF: its variants as timm registers them, with backbones and configurations."""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from torch import nn

from ..backbone import CONVOLUTIONS, on_any_backbone, on_own_backbone
from ..hub import build_model, map_cfgs
from ._model import CSF, CSFChannels

__all__ = ["CSF", "CSFChannels"]  # timm adds the registered names

_DEEP_STEM = "backbone.conv1.0"

default_cfgs = map_cfgs(
    {
        "csf.untrained": {"first_conv": None},
        "csf_resnet18.untrained": {},
        "csf_resnet50.untrained": {},
        "csf_resnet101.untrained": {},
        "csf_res2net50.untrained": {"first_conv": _DEEP_STEM},
        "csf_res2net101.untrained": {"first_conv": _DEEP_STEM},
        "test_csf_resnet.untrained": {"first_conv": _DEEP_STEM, "input_size": (3, 64, 64)},
    },
    first_conv="backbone.conv1",
    paper_name="A Highly Efficient Model to Study the Semantics of Salient Object Detection",
    origin_url="https://github.com/ShangHua-Gao/SOD100K",
)


def _create_residual(variant: str, backbone: str, *, pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    arguments = on_own_backbone(variant, backbone, arguments, "csf")
    return build_model(CSF, variant, pretrained=pretrained, arguments=arguments, **CONVOLUTIONS)


@register_model
def csf(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Cross-stage fusion on the backbone that ``backbone=`` names, any of timm's that gives features."""
    return build_model(CSF, "csf", pretrained=pretrained, arguments=on_any_backbone("csf", kwargs))


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
