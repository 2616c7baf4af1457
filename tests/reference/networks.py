"""A hundred and ten networks with BatchNorm, of timm and torchvision, for tests that a method works on any network.

Names are those of the two packages, with the package in front: ``"timm/resnet18"``. All of them exist in timm 1.0.31
and torchvision 0.29.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.utils import _pytree as pytree

_TIMM = """
    resnet18 resnet26d resnet50 resnext50_32x4d seresnet50 resnetblur18 resnetrs50 resnetv2_50d res2net50_14w_8s
    res2next50 regnetx_002 regnety_002 regnetz_005 densenet121 densenetblur121d mobilenetv2_100 mobilenetv3_small_050
    mobilenetv4_conv_small_035 mobilenetv4_hybrid_medium_075 efficientnet_b0 tf_efficientnetv2_b0 efficientnet_lite0
    mixnet_s efficientnet_cc_b0_4e fbnetv3_b lcnet_050 mnasnet_small hardcorenas_a spnasnet_100 tinynet_e ghostnet_050
    ghostnetv2_100 ghostnetv3_050 repghostnet_050 vgg11_bn inception_v3 inception_v4 inception_resnet_v2 dla34 dla46x_c
    dla60_res2net hrnet_w18_small cspdarknet53 cs3darknet_focus_s darknet21 dpn48b dpn68 skresnet18 skresnext50_32x4d
    legacy_seresnet18 resnest14d rexnet_100 legacy_xception xception41 repvgg_a0 mobileone_s0 repvit_m0_9
    ese_vovnet19b_dw selecsls42 tresnet_m gernet_s gcresnext26ts bat_resnext26ts botnet26t_256 eca_halonext26ts
    lambda_resnet26t levit_128s levit_conv_128s mobilevit_xxs mobilevitv2_050 fastvit_t8 fasternet_t0 hgnetv2_b0
    efficientformer_l1 efficientformerv2_s0 efficientvit_b0 efficientvit_m0 convmixer_768_32 starnet_s1 shvit_s1
    visformer_tiny swiftformer_xs nextvit_small tiny_vit_5m_224 inception_next_atto cpubone_nano coatnet_bn_0_rw_224
    ecaresnet26t pnasnet5large nasnetalarge
"""
_TORCHVISION = """
    shufflenet_v2_x0_5 googlenet mobilenet_v3_small mobilenet_v3_large regnet_y_400mf regnet_x_400mf resnet18
    resnext50_32x4d wide_resnet50_2 mobilenet_v2 mnasnet0_5 efficientnet_b0 efficientnet_v2_s vgg11_bn inception_v3
    densenet121 deeplabv3_resnet50 deeplabv3_mobilenet_v3_large fcn_resnet50 lraspp_mobilenet_v3_large
"""

NETWORKS = [f"timm/{name}" for name in _TIMM.split()] + [f"torchvision/{name}" for name in _TORCHVISION.split()]

FIXED_SIZES = {
    "timm/bat_resnext26ts": 256,  # maps must divide into the attention's blocks
    "timm/eca_halonext26ts": 256,
    "timm/botnet26t_256": 256,  # the rest: position embeddings for one size
    "timm/levit_128s": 224,
    "timm/levit_conv_128s": 224,
    "timm/efficientformer_l1": 224,
    "timm/efficientformerv2_s0": 224,
    "timm/visformer_tiny": 224,
    "timm/coatnet_bn_0_rw_224": 224,
    "torchvision/inception_v3": 299,  # the auxiliary head's convolution, in train mode
}
"""Side lengths of the networks that do not take other ones."""

_SMALLEST_SIZES = {
    "timm/inception_v3": 96,  # convolutions without padding
    "timm/inception_v4": 96,
    "timm/inception_resnet_v2": 96,
}

AUXILIARY_HEADS = {"torchvision/googlenet", "torchvision/inception_v3"}
"""Networks that return a named tuple in train mode and a tensor in eval mode, and have BatchNorms that only train."""

MAPPINGS = {name for name in NETWORKS if any(word in name for word in ("deeplab", "fcn_", "lraspp"))}
"""Segmentation networks: they return a dict of maps."""

NEED_TWO_IMAGES = {name for name in NETWORKS if "deeplab" in name}
"""Networks with a BatchNorm behind global pooling, which does not train on one image."""


def make(name: str) -> nn.Module:
    """Return a network without pretrained weights, in train mode, from torch's global generator."""
    package, _, model = name.partition("/")
    if name not in NETWORKS:
        raise KeyError(f"{name!r} is not one of NETWORKS")
    if package == "timm":
        return timm.create_model(model, pretrained=False).train()
    options: dict[str, Any] = {"weights": None}
    if name in MAPPINGS:
        options["weights_backbone"] = None
    if name in AUXILIARY_HEADS:
        options["init_weights"] = False  # the initialisation warns, and takes seconds
    return torchvision.models.get_model(model, **options).train()


def side(name: str, *, smallest: bool = False) -> int:
    """Return a side length in pixels: 128 or the network's own; with ``smallest``, maps of 2 pixels at stride 32."""
    if name in FIXED_SIZES:
        return FIXED_SIZES[name]
    return _SMALLEST_SIZES.get(name, 64) if smallest else 128


def images(name: str, batch: int = 2, *, smallest: bool = False) -> Tensor:
    """Return normally distributed images of a size that a network takes."""
    return torch.randn(batch, 3, side(name, smallest=smallest), side(name, smallest=smallest))


def tensors(output: Any) -> list[Tensor]:
    """Return the tensors of whatever a network returned."""
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
