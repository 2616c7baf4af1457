"""CSNet: in-layer multi-scale blocks and cross-stage fusion, for salient object detection from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from .._features import Features, ScaleError, Size, spatial_size
from ..layers import FusionHead, ILBlock
from ._build import TimmModel, build_model
from ._csnet_channels import (
    DILATIONS,
    PUBLISHED_DEPTHS,
    X1_L,
    X2_L,
    CSNetChannels,
    parse_csnet_channels,
    published_channels,
)
from ._csnet_checkpoint import convert_for_timm

__all__ = ["CSNet"]

_REDUCTIONS = (1, 1, 2, 4, 8)
_SMALLEST = 2 * _REDUCTIONS[-1]


class CSNet(TimmModel):
    """CSNet: five stages of `ILBlock`, a `FusionHead` over the last of them, and a 1x1 prediction.

    Shapes:
        - Input: (B, in_chans, H, W), H and W at least 16, odd ones too; at least 32 to train on single images, because
          BatchNorm then needs more than one pixel of the coarsest scale, 1/16.
        - Output: logits (B, num_classes, H, W); with ``num_classes=0`` the fused map at the finest fused resolution.

    Fresh weights act 100 times larger than they are (see `ScaledConv2d`): until BatchNorm has seen data, eval mode
    overflows. Train, load weights, or run some batches in train mode first.

    Args:
        base_width: Channels of stages 0 and 1; 20 for ×1, 40 for ×2.
        split: Shares of high- and low-resolution channels inside the blocks, such as (5, 5), (3, 1) or (0, 1).
        depths: Number of blocks of the five stages.
        fuse_stages: Stages fed to the fusion head; () for the extractor alone, predicting from stage 4.
        channels: Learned widths (`CSNetChannels`): they replace what ``base_width``, ``split`` and ``depths`` give.
        simplified: Whether the blocks' second and third layers are depthwise; False is the paper's "vanilla" network.
        in_chans: Channels of the image.
        num_classes: Channels of the logits; 1 for saliency, 0 for no prediction.

    Raises:
        ChannelError: Widths, ratios or stages that cannot be.
        ScaleError: At the call, an image below 16×16.

    Example:
        >>> import torch
        >>> from goctconv.models import CSNet
        >>> model = CSNet(base_width=20)
        >>> sum(p.numel() for p in model.parameters())
        210985
        >>> model(torch.rand(2, 3, 67, 83)).shape
        torch.Size([2, 1, 67, 83])

    Source: Cheng et al., "A Highly Efficient Model to Study the Semantics of Salient Object Detection", TPAMI 2021,
    section 4; widths and ×100 as in the authors' released models.
    """

    def __init__(
        self,
        base_width: int = 20,
        split: tuple[float, float] = (5, 5),
        depths: Sequence[int] = PUBLISHED_DEPTHS,
        fuse_stages: Sequence[int] = (2, 3, 4),
        channels: CSNetChannels | None = None,
        *,
        simplified: bool = True,
        in_chans: int = 3,
        num_classes: int = 1,
    ) -> None:
        super().__init__()
        self.fuse_stages = tuple(fuse_stages)
        self.channels = (
            published_channels(base_width, split, depths, self.fuse_stages)
            if channels is None
            else parse_csnet_channels(channels, self.fuse_stages)
        )
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.stages = _make_stages(self.channels, in_chans, simplified=simplified)
        self.head = self._make_head() if self.fuse_stages else None
        self.num_features = self.channels["fused"] if self.fuse_stages else self._stage_width(-1)
        self.classifier = self._make_classifier(num_classes)

    def _stage_width(self, stage: int) -> int:
        width = self.channels["stages"][stage][-1]
        return width if isinstance(width, int) else sum(width)

    def _make_head(self) -> FusionHead:
        return FusionHead(
            [self._stage_width(stage) for stage in self.fuse_stages],
            self.channels["fuse"],
            self.channels["dilated"],
            self.channels["fused"],
            in_reductions=[_REDUCTIONS[stage] for stage in self.fuse_stages],
            dilations=DILATIONS,
        )

    def _make_classifier(self, num_classes: int) -> nn.Module:
        return nn.Conv2d(self.num_features, num_classes, 1) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the prediction layer."""
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the prediction layer by a fresh one with ``num_classes`` channels, or by none."""
        self.num_classes = num_classes
        self.classifier = self._make_classifier(num_classes)

    def _forward_stages(self, x: Tensor) -> list[Tensor | Features]:
        """Return the last features of all five stages, a tuple of (high, low) where the stage ends in two scales."""
        if min(spatial_size(x)) < _SMALLEST:
            raise ScaleError(
                f"the image has {spatial_size(x)} pixels; the coarsest of CSNet's scales is 1/{_SMALLEST}, so it needs "
                f"at least {_SMALLEST}x{_SMALLEST}: resize or pad it"
            )
        features: Tensor | Features = x
        outputs = []
        for stage in self.stages:
            features = stage(features)
            outputs.append(features)
        return outputs

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the fused map (B, num_features, H/2, W/2); of the extractor alone, stage 4's (B, C, H/8, W/8)."""
        outputs = self._forward_stages(x)
        if self.head is None:
            last: Tensor = outputs[-1]  # type: ignore[assignment]  # stage 4 ends in one scale
            return last
        fused: Tensor = self.head(tuple(outputs[stage] for stage in self.fuse_stages))
        return fused

    def forward_head(self, x: Tensor, size: Size | None = None, *, pre_logits: bool = False) -> Tensor:
        """Predict from the fused map, and upsample the logits.

        Args:
            x: The fused map.
            size: Height and width of the logits; twice the map's if not given.
            pre_logits: Whether to return the map itself.
        """
        if pre_logits or not self.num_classes:
            return x
        if size is None:
            size = 2 * x.shape[-2], 2 * x.shape[-1]
        return F.interpolate(self.classifier(x), size, mode="bilinear", align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the image's size."""
        return self.forward_head(self.forward_features(x), spatial_size(x))


def _make_stages(channels: CSNetChannels, in_chans: int, *, simplified: bool) -> nn.ModuleList:
    stages = nn.ModuleList()
    previous: int | list[int] = in_chans
    for stage, widths in enumerate(channels["stages"]):
        blocks = nn.Sequential()
        for index, width in enumerate(widths):
            reduces = index == 0 and stage >= 2
            kernel_size = 3 if reduces or (stage, index) == (0, 0) else 1
            blocks.append(ILBlock(previous, width, kernel_size, 2 if reduces else 1, simplified=simplified))
            previous = width
        stages.append(blocks)
    return stages


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
        "csnet_x1_l.duts": _cfg(url=f"{_RELEASED}/csnet-L-x1/csnet-L-x1.pth.tar", license="cc-by-nc-sa-4.0"),
        "csnet_x2_l.duts": _cfg(url=f"{_RELEASED}/csnet-L-x2/csnet-L-x2.pth.tar", license="cc-by-nc-sa-4.0"),
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
        CSNet, variant, pretrained=pretrained, filter_fn=convert_for_timm, arguments={**defaults, **arguments}
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
