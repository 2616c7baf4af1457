"""SCFNet: scale-correlated fusion on the features of an ImageNet backbone, for salient object detection."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from ..._checks import check_integer
from ..._features import Size, spatial_size
from ..backbone import BackboneModel, numel
from ._checkpoint import LAYOUT


class SCFNet(BackboneModel):
    """Fusion of scales on the features of any of timm's networks, with a prediction at every scale.

    `forward` returns the finest prediction alone, `forward_multi` all of them, as training with deep supervision and
    distillation take them.

    Shapes:
        - Input: (B, in_chans, H, W) of any size. Where the backbone refuses it, the image is padded right and below and
          the logits are cropped.
        - Output: logits (B, num_classes, H, W); with ``num_classes=0`` the fused map at the finest level's resolution.

    Args:
        backbone: Name of one of timm's networks, such as "resnet50", or "paddle_mobilenetv3_large_050".
        width: Channels of all maps in the head: published are 16 on a MobileNetV3 and 64 on larger networks.
        final_norm: Whether the deepest feature goes through a layer norm over its channels, as Swin ends with.
        backbone_args: Further arguments of the backbone, such as ``{"img_size": 352}``.
        pretrained_backbone: True downloads the weights that timm has for it; or a file of its weights.
        levels: Which of its features to fuse, as timm's ``out_indices``; by default those of its last four strides.
        image_sizes: What sides the backbone takes: multiples of a number, a smallest, and a largest one or None; by
            default found by running small images through it.
        in_chans: Channels of the image.
        num_classes: Channels of the logits; 1 for saliency, 0 for no prediction.

    Raises:
        UnknownModelError: timm has no such backbone.
        ValueError: A backbone without features, or levels that it has not.
        ArgumentError: A width that cannot be.
        CheckpointError: The backbone's file cannot be read or does not fit.
        ScaleError: At the call, an image larger than a backbone of a fixed size takes.

    Example:
        >>> import torch
        >>> from goctconv.models import SCFNet
        >>> model = SCFNet("test_efficientnet", width=8)
        >>> image = torch.rand(2, 3, 67, 83)
        >>> model(image).shape, [tuple(logits.shape) for logits in model.forward_multi(image)]
        (torch.Size([2, 1, 67, 83]), [(2, 1, 67, 83), (2, 1, 67, 83), (2, 1, 67, 83), (2, 1, 67, 83)])

    Source: Zhang et al., "KD-SCFNet: Towards More Accurate and Efficient Salient Object Detection via Knowledge
    Distillation", 2022.
    """

    layout = LAYOUT
    head: SCFNetHead | None
    card_tags = ("salient-object-detection", "scfnet", "goctconv")

    def __init__(
        self,
        backbone: str = "paddle_mobilenetv3_large_050",
        *,
        width: int = 16,
        final_norm: bool = False,
        backbone_args: Mapping[str, Any] | None = None,
        pretrained_backbone: bool | str | os.PathLike[str] = False,
        levels: Sequence[int] | None = None,
        image_sizes: Sequence[int | None] | None = None,
        in_chans: int = 3,
        num_classes: int = 1,
    ) -> None:
        width = check_integer("width", width, 1)
        super().__init__(
            backbone,
            backbone_args=backbone_args,
            pretrained_backbone=pretrained_backbone,
            levels=levels,
            image_sizes=image_sizes,
            in_chans=in_chans,
            num_classes=num_classes,
        )
        self.width = width
        self.final_norm = nn.LayerNorm(self.widths[-1]) if final_norm else None
        self.head = SCFNetHead(self.widths, width)
        self._head_size = numel(self.head)
        self.num_features = self.head_hidden_size = width
        self.classifier = self._make_classifier(num_classes)
        self.side_classifiers = self._make_sides(num_classes)

    def _make_classifier(self, num_classes: int) -> nn.Module:
        return nn.Conv2d(self.num_features, num_classes, 3, padding=1) if num_classes else nn.Identity()

    def _make_sides(self, num_classes: int) -> nn.ModuleList:
        """Return the prediction layers of the coarser maps."""
        if self.head is None or not num_classes:
            return nn.ModuleList()
        widths = self.head.out_channels[1:]
        return nn.ModuleList(nn.Conv2d(width, num_classes, 3, padding=1) for width in widths)

    @property
    def backbone_is_pruned(self) -> bool:
        """Whether channels have been cut out of backbone or head, so that no arguments make this network."""
        head_changed = self.head is not None and numel(self.head) != self._head_size
        return head_changed or super().backbone_is_pruned

    def model_args(self) -> dict[str, Any]:
        """Return the arguments, as JSON holds them, that make a network of this shape.

        Of a pruned network, those of the network before: the plan that pruned it has the rest.

        Raises:
            ValueError: The head has been cut off, so that no arguments make it.
        """
        return {**self.backbone_model_args(), "width": self.width, "final_norm": self.final_norm is not None}

    def resize_channels(self, _in_widths: Sequence[int]) -> None:
        """Take other widths over, after channels have been cut out of the layers."""
        if self.head is None:
            return
        for info, width in zip(self.feature_info, self.head.in_channels, strict=True):
            info["num_chs"] = width
        self.num_features = self.head_hidden_size = self.head.out_channels[0]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the prediction layers by fresh ones with ``num_classes`` channels, or by none.

        Raises:
            ValueError: A ``global_pool``: a saliency map is not pooled.
        """
        super().reset_classifier(num_classes, global_pool)
        like = next(self.parameters())
        self.side_classifiers = self._make_sides(num_classes).to(like.device, like.dtype)

    def _normalized(self, features: list[Tensor]) -> list[Tensor]:
        if self.final_norm is not None:
            features[-1] = self.final_norm(features[-1].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return features

    def _predicted(self, features: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the finest map, and what the coarser ones predict at their own resolutions."""
        if self.head is None or len(features) < len(self.feature_info):
            return features[-1], []
        maps = self._run(self.head, tuple(features))
        return maps[0], [predict(coarse) for predict, coarse in zip(self.side_classifiers, maps[1:], strict=False)]

    def _fused(self, features: list[Any]) -> Tensor:
        # The coarser predictions are no part of the result and cost next to nothing at their resolutions, but tracing
        # such as pruning's has to see which channels they read.
        return self._predicted(features)[0]

    def forward_multi(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of all scales at the image's size, (B, num_classes, H, W) each, the finest first.

        Example:
            >>> import torch
            >>> from goctconv.models import SCFNet
            >>> len(SCFNet("test_efficientnet", width=8).forward_multi(torch.rand(1, 3, 64, 64)))
            4
        """
        size = spatial_size(x)
        finest, sides = self._predicted(self._features_up_to(x, len(self.feature_info)))
        return self.forward_head(finest, size), *(self._upsampled(logits, size) for logits in sides)


class ConvNormAct(nn.Module):
    """A 3x3 convolution with a bias that keeps the size, BatchNorm, and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same size."""
        features: Tensor = self.act(self.norm(self.conv(x)))
        return features


class ScaleFusion(nn.Module):
    """Fuse a fine feature with a coarser one, under the guidance of the deepest, all of one width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.guide = ConvNormAct(width, width)
        self.gate = ConvNormAct(width, width)
        self.merge = ConvNormAct(width, width)

    def forward(self, fine: Tensor, coarse: Tensor, deepest: Tensor) -> Tensor:
        """Return the fused feature."""
        guided = self.guide(coarse + coarse * resized(deepest, spatial_size(coarse)))
        gated = self.gate(fine + fine * resized(coarse, spatial_size(fine)))
        fused: Tensor = self.merge(gated + resized(guided, spatial_size(fine)))
        return fused


class SCFNetHead(nn.Module):
    """Map features, the finest first, to one width, and fuse them from the coarsest on: the first has seen all."""

    def __init__(self, in_channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(ConvNormAct(channels, width) for channels in in_channels)
        self.bottleneck = ConvNormAct(width, width, dilation=5)
        self.fuse = nn.ModuleList(ScaleFusion(width) for _ in in_channels[1:])

    @property
    def in_channels(self) -> list[int]:
        """Channels of every feature, as the layers are now."""
        return [reduce.conv.in_channels for reduce in cast("list[ConvNormAct]", list(self.reduce))]

    @property
    def out_channels(self) -> list[int]:
        """Channels of every fused map, as the layers are now."""
        fused = [fuse.merge.conv.out_channels for fuse in cast("list[ScaleFusion]", list(self.fuse))]
        return [*fused, self.bottleneck.conv.out_channels]

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the fused maps, the finest first."""
        mapped = [reduce(feature) for reduce, feature in zip(self.reduce, features, strict=True)]
        deepest = self.bottleneck(mapped[-1])
        maps = [deepest]
        for fuse, fine in zip(reversed(self.fuse), reversed(mapped[:-1]), strict=True):
            maps.insert(0, fuse(fine, maps[0], deepest))
        return tuple(maps)


def resized(x: Tensor, size: Size) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
