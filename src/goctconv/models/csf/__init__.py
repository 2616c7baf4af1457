"""CSF: its variants as timm registers them, with backbones and configurations."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..backbone import CONVOLUTIONS, on_backbone
from ..hub import build_model, map_cfgs, register_variants
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


def _create_csf(variant: str, *, pretrained: bool, arguments: dict[str, Any], backbone: str | None = None) -> nn.Module:
    arguments = on_backbone(backbone, "csf", variant, arguments)
    return build_model(CSF, variant, pretrained=pretrained, arguments=arguments, **(CONVOLUTIONS if backbone else {}))


register_variants(
    __name__,
    _create_csf,
    {
        "csf": ("Cross-stage fusion on the backbone that ``backbone=`` names, any of timm's that gives features.", {}),
        "csf_resnet18": ("CSF on ResNet-18.", {"backbone": "resnet18"}),
        "csf_resnet50": ("CSF on ResNet-50: 36.37 M parameters.", {"backbone": "resnet50"}),
        "csf_resnet101": ("CSF on ResNet-101.", {"backbone": "resnet101"}),
        "csf_res2net50": ("CSF on Res2Net-50 v1b: 36,528,489 parameters.", {"backbone": "res2net50d"}),
        "csf_res2net101": ("CSF on Res2Net-101 v1b.", {"backbone": "res2net101d"}),
        "test_csf_resnet": ("CSF on timm's tiny ResNet, for tests.", {"backbone": "test_resnet"}),
    },
)
