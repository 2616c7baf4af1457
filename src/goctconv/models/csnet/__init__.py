"""CSNet: its variants as timm registers them, with widths, configurations and released weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..._checks import ArgumentError
from ..hub import PACKAGED, PUBLISHED_LICENSE, build_model, map_cfgs, register_variants
from ._checkpoint import FIRST_CONVS
from ._model import CSNet
from ._widths import X1_L, X2_L, CSNetChannels

__all__ = ["CSNet", "CSNetChannels"]  # timm adds the registered names

_RELEASED = "https://github.com/ShangHua-Gao/SOD100K/raw/master/CSNet/checkpoints"

default_cfgs = map_cfgs(
    {
        "csnet_x1.untrained": {},
        "csnet_x1_2.untrained": {},
        "csnet_x1_5.untrained": {},
        "csnet_x1_8.untrained": {},
        "csnet_x2.untrained": {},
        "csnet_x1_l.distilled": {
            "url": f"{PACKAGED}csnet_x1_l.distilled.safetensors",
            "license": "apache-2.0",
            "input_size": (3, 128, 128),
            "origin_url": None,
        },
        "csnet_x1_l.duts": {"url": f"{_RELEASED}/csnet-L-x1/csnet-L-x1.pth.tar", "license": PUBLISHED_LICENSE},
        "csnet_x2_l.duts": {"url": f"{_RELEASED}/csnet-L-x2/csnet-L-x2.pth.tar", "license": PUBLISHED_LICENSE},
        "test_csnet.untrained": {"input_size": (3, 64, 64)},
    },
    input_size=(3, 224, 224),
    first_conv=FIRST_CONVS,
    paper_name="A Highly Efficient Model to Study the Semantics of Salient Object Detection",
    origin_url="https://github.com/ShangHua-Gao/SOD100K",
)


def _create_csnet(variant: str, *, pretrained: bool, arguments: dict[str, Any], **defaults: Any) -> nn.Module:
    ignored = [name for name in ("base_width", "split", "depths") if name in arguments]
    if ignored and "channels" in {*arguments, *defaults}:
        problem = f"would have no effect in {variant} beside {{channels}}, which set every width"
        cure = "leave it out, or start from a network whose widths follow the published rules, such as csnet_x1"
        raise ArgumentError(ignored[0], arguments[ignored[0]], problem=problem, cure=cure)
    if not pretrained and variant == "csnet_x1_l" and arguments.get("pretrained_cfg") is None:
        arguments = {**arguments, "pretrained_cfg": "duts"}  # 224 x 224: the size of our weights is theirs alone
    return build_model(CSNet, variant, pretrained=pretrained, arguments=arguments, **defaults)


register_variants(
    __name__,
    _create_csnet,
    {
        "csnet_x1": ("CSNet-×1, split 5/5: 210,985 parameters.", {"base_width": 20}),
        "csnet_x1_2": ("CSNet-×1.2, split 5/5: 298,633 parameters.", {"base_width": 24}),
        "csnet_x1_5": ("CSNet-×1.5, split 5/5: 455,631 parameters.", {"base_width": 30}),
        "csnet_x1_8": ("CSNet-×1.8, split 5/5: 645,565 parameters.", {"base_width": 36}),
        "csnet_x2": ("CSNet-×2, split 5/5: 788,631 parameters.", {"base_width": 40}),
        "csnet_x1_l": ("CSNet-×1-L, the published widths learned from ×1: 93,647 parameters.", {"channels": X1_L}),
        "csnet_x2_l": ("CSNet-×2-L, the published widths learned from ×2: 140,894 parameters.", {"channels": X2_L}),
        "test_csnet": ("A tiny CSNet of one block a stage, for tests.", {"base_width": 4, "depths": (1, 1, 1, 1, 1)}),
    },
)
