"""CSNet's registered variants: their widths, configurations and released weights."""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

from ._build import build_model
from ._csnet import CSNet
from ._csnet_channels import X1_L, X2_L
from ._csnet_checkpoint import convert_for_timm
from ._published import PUBLISHED_LICENSE

__all__: list[str] = []  # timm adds the registered names


def _cfg(**overrides: Any) -> dict[str, Any]:
    cfg: dict[str, Any] = {
        "num_classes": 1,
        "input_size": (3, 224, 224),
        "min_input_size": (3, 32, 32),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "first_conv": ("stages.0.0.conv1.paths.0_to_0", "stages.0.0.conv1.paths.0_to_1"),
        "classifier": "classifier",
        "paper_name": "A Highly Efficient Model to Study the Semantics of Salient Object Detection",
        "origin_url": "https://github.com/ShangHua-Gao/SOD100K",
    }
    return {**cfg, **overrides}


_RELEASED = "https://github.com/ShangHua-Gao/SOD100K/raw/master/CSNet/checkpoints"

default_cfgs = generate_default_cfgs(
    {
        "csnet_x1.untrained": _cfg(),
        "csnet_x1_2.untrained": _cfg(),
        "csnet_x1_5.untrained": _cfg(),
        "csnet_x1_8.untrained": _cfg(),
        "csnet_x2.untrained": _cfg(),
        "csnet_x1_l.duts": _cfg(url=f"{_RELEASED}/csnet-L-x1/csnet-L-x1.pth.tar", license=PUBLISHED_LICENSE),
        "csnet_x2_l.duts": _cfg(url=f"{_RELEASED}/csnet-L-x2/csnet-L-x2.pth.tar", license=PUBLISHED_LICENSE),
        "test_csnet.untrained": _cfg(input_size=(3, 64, 64)),
    }
)


def _create_csnet(variant: str, *, pretrained: bool, arguments: dict[str, Any], **defaults: Any) -> nn.Module:
    ignored = sorted({"base_width", "split", "depths"} & set(arguments))
    if ignored and {"channels"} & {*arguments, *defaults}:
        raise ValueError(
            f"{variant}: {', '.join(ignored)} would have no effect beside channels, which set every width; "
            "leave them out, or start from a network whose widths follow the published rules, such as csnet_x1"
        )
    return build_model(
        CSNet,
        variant,
        pretrained=pretrained,
        filter_fn=convert_for_timm,
        out_indices=(0, 1, 2, 3),
        arguments={**defaults, **arguments},
    )


@register_model
def csnet_x1(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CSNet-×1, split 5/5: 210,985 parameters."""
    return _create_csnet("csnet_x1", pretrained=pretrained, arguments=kwargs, base_width=20)


@register_model
def csnet_x1_2(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CSNet-×1.2, split 5/5: 298,633 parameters."""
    return _create_csnet("csnet_x1_2", pretrained=pretrained, arguments=kwargs, base_width=24)


@register_model
def csnet_x1_5(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CSNet-×1.5, split 5/5: 455,631 parameters."""
    return _create_csnet("csnet_x1_5", pretrained=pretrained, arguments=kwargs, base_width=30)


@register_model
def csnet_x1_8(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CSNet-×1.8, split 5/5: 645,565 parameters."""
    return _create_csnet("csnet_x1_8", pretrained=pretrained, arguments=kwargs, base_width=36)


@register_model
def csnet_x2(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CSNet-×2, split 5/5: 788,631 parameters."""
    return _create_csnet("csnet_x2", pretrained=pretrained, arguments=kwargs, base_width=40)


@register_model
def csnet_x1_l(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CSNet-×1-L, the published widths learned from ×1: 93,647 parameters."""
    return _create_csnet("csnet_x1_l", pretrained=pretrained, arguments=kwargs, channels=X1_L)


@register_model
def csnet_x2_l(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CSNet-×2-L, the published widths learned from ×2: 140,894 parameters."""
    return _create_csnet("csnet_x2_l", pretrained=pretrained, arguments=kwargs, channels=X2_L)


@register_model
def test_csnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:  # noqa: PT028  # a model, not a test
    """A tiny CSNet of one block a stage, for tests."""
    return _create_csnet("test_csnet", pretrained=pretrained, arguments=kwargs, base_width=4, depths=(1, 1, 1, 1, 1))
