"""CSF: cross-stage fusion on the features of an ImageNet backbone, for salient object detection."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from ..._checks import ArgumentError, check_choice
from ..._features import ChannelError, parse_channels
from ...layers import FusionHead
from .._fusion_head import (
    HeadChannels,
    check_keys,
    head_in,
    make_head,
    parse_head,
    places_of_head,
    published_head,
    widths_of_head,
)
from ..backbone import BackboneModel, first_convs
from ..hub import PUBLISHED_LICENSE, Layout, Published, StateDict, moved

HeadNorm: TypeAlias = Literal["group", "batch"]
_GROUPS = 32
_WIDEST, _STEP = 512, 32
_DRAWN = 0.01  # the standard deviation of new convolutions in the published training


class CSFChannels(HeadChannels):
    """All widths of a CSF's fusion head, as JSON holds them.

    "fuse" and "dilated" name every level of the backbone, the finest first: the outputs of the first layer, and of each
    of the branches of dilation 1, 2, 4, 8 and 16, where 0 means absent. "fused" is the width of the last layer.
    """


def _places(model: Any) -> Iterator[Published]:
    """Yield where every tensor of the model lies in the authors' checkpoint."""
    yield from moved(model.backbone, "backbone", "base")
    if model.pyramid is not None:  # no such thing was published; it keeps its name
        yield from moved(model.pyramid, "pyramid", "pyramid")
    yield from places_of_head(model.head, "head", "", "weights")
    yield from moved(model.classifier, "classifier", "cls_layer")


def _widths_in(state: StateDict) -> dict[str, Any] | None:
    """Return the arguments ``channels`` and ``norm`` of a state dict in either layout; None if it does not tell."""
    channels = head_in(state, "")
    if channels is None:
        return None
    by_batch = any(re.match(r"(head\.norm1|fuse\.bns)\.\d\.running_mean", key) for key in state)
    return {"channels": channels, "norm": "batch" if by_batch else "group"}


class CSF(BackboneModel):
    """A `FusionHead` on the features of any of timm's networks, and a 1x1 prediction.

    Shapes:
        - Input: (B, in_chans, H, W) of any size. Where the backbone refuses it, the image is padded right and below and
          the logits are cropped.
        - Output: logits (B, num_classes, H, W); with ``num_classes=0`` the fused map at the finest level's resolution.

    A plain transformer, whose features all have one stride, gets a pyramid of four resolutions first.

    Args:
        backbone: Name of one of timm's networks, such as "resnet50" or "swin_tiny_patch4_window7_224".
        backbone_args: Further arguments of it, such as ``{"img_size": 352}``. What lets a transformer take any size is
            added where timm has it.
        pretrained_backbone: True downloads the weights that timm has for it; or a file of its weights.
        levels: Which of its features to fuse, as timm's ``out_indices``; by default those of its last four strides.
        fuse_channels: Channels of every level after the head's first layer; by default half of the backbone's, at most
            512. The other widths follow from them.
        channels: All widths of the head (`CSFChannels`), such as pruning leaves; replaces ``fuse_channels``.
        norm: "group" as published: `torch.nn.GroupNorm` of 32 groups, or the largest number that divides both 32 and
            the width; "batch": `torch.nn.BatchNorm2d`, so that the head can be pruned.
        image_sizes: What sides the backbone takes: multiples of a number, a smallest, and a largest one or None; by
            default found by running small images through it.
        in_chans: Channels of the image.
        num_classes: Channels of the logits; 1 for saliency, 0 for no prediction.

    Raises:
        UnknownModelError: timm has no such backbone.
        ValueError: A backbone without features, levels that it has not, or another ``norm``.
        ChannelError: Widths that cannot be.
        CheckpointError: The backbone's file cannot be read or does not fit.
        ScaleError: At the call, an image larger than a backbone of a fixed size takes.

    Example:
        >>> import torch
        >>> from goctconv.models import CSF
        >>> model = CSF("test_resnet")
        >>> model(torch.rand(2, 3, 67, 83)).shape
        torch.Size([2, 1, 67, 83])

    Source: Cheng et al., "A Highly Efficient Model to Study the Semantics of Salient Object Detection", TPAMI 2021,
    section 4.4.
    """

    layout = Layout(
        keys=re.compile(r"base\.|fuse\.conv\.|fuse\.bns\.|ms\.convs\.|fuse1x1\.|cls_layer\."),
        places=lambda model, _: list(_places(model)),
        widths=_widths_in,
        first_convs=first_convs,
        ignored=re.compile(r"^base\.(fc|classifier|head)\."),
        license=PUBLISHED_LICENSE,
    )
    head: FusionHead | None
    forgotten_args = BackboneModel.forgotten_args | {"fuse_channels"}
    card_tags = ("salient-object-detection", "csf", "goctconv")

    def __init__(
        self,
        backbone: str = "res2net50d",
        *,
        backbone_args: Mapping[str, Any] | None = None,
        pretrained_backbone: bool | str | os.PathLike[str] = False,
        levels: Sequence[int] | None = None,
        fuse_channels: Sequence[int] | None = None,
        channels: CSFChannels | None = None,
        norm: HeadNorm = "group",
        image_sizes: Sequence[int | None] | None = None,
        in_chans: int = 3,
        num_classes: int = 1,
    ) -> None:
        check_choice("norm", norm, get_args(HeadNorm))
        if fuse_channels is not None and channels is not None:
            problem = "would have no effect beside {channels}, which set every width"
            raise ArgumentError("fuse_channels", fuse_channels, problem=problem, cure="leave it out")
        super().__init__(
            backbone,
            backbone_args=backbone_args,
            pretrained_backbone=pretrained_backbone,
            levels=levels,
            image_sizes=image_sizes,
            in_chans=in_chans,
            num_classes=num_classes,
        )
        self.norm = norm
        self.channels = _parse_widths(fuse_channels, channels, self.widths)
        self._initial_channels = self.channels
        options: dict[str, Any] = {"weight_scale": 1.0, "downsample": "bilinear"}
        options["norm"] = group_norm if norm == "group" else nn.BatchNorm2d
        self.head = make_head(self.widths, self.channels, self.reductions, **options)
        self.num_features = self.head_hidden_size = self.channels["fused"]
        self.classifier = self._make_classifier(num_classes)
        self._draw()

    def _draw(self) -> None:
        """Draw the convolutions that no backbone's weights are for, as published."""
        for module in (*self.head.modules(), *self.classifier.modules()) if self.head is not None else ():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=_DRAWN)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def model_args(self) -> dict[str, Any]:
        """Return the arguments, as JSON holds them, that make a network of this shape.

        Of a network whose backbone is pruned, those of the network before: the plan that pruned it has the rest.

        Raises:
            ValueError: The head has been cut off, so that no arguments make it.
        """
        return {
            **self.backbone_model_args(),
            "channels": self._initial_channels if self.backbone_is_pruned else self.channels,
            "norm": self.norm,
        }

    def resize_channels(self, _in_widths: Sequence[int]) -> None:
        """Take other widths over, after channels have been cut out of the layers."""
        if self.head is None:
            return
        self.channels = widths_of_head(self.head)
        for info, width in zip(self.feature_info, self.head.fuse.in_widths, strict=True):
            info["num_chs"] = width
        self.num_features = self.head_hidden_size = self.channels["fused"]


class SmallGroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm` that takes a single value per group too, which small images have at the coarsest level."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name that PyTorch gives it
        """Normalise; a single value becomes the shift."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def group_norm(width: int) -> nn.GroupNorm:
    """Return the published normalisation: 32 groups, or the largest number that divides 32 and the width."""
    return SmallGroupNorm(math.gcd(_GROUPS, width), width)


def _parse_widths(
    fuse_channels: Sequence[int] | None, channels: CSFChannels | None, backbone_channels: Sequence[int]
) -> CSFChannels:
    """Return all widths of the head; by default those published on a ResNet-50, half of the backbone's, at most 512."""
    if channels is not None:
        check_keys(channels, ("fuse", "dilated", "fused"), ChannelError)
        return parse_head(channels, len(backbone_channels))
    if fuse_channels is None:
        fuse_channels = [min(_WIDEST, max(_STEP, round(width / 2 / _STEP) * _STEP)) for width in backbone_channels]
    if not isinstance(fuse_channels, Sequence) or len(fuse_channels) != len(backbone_channels):
        levels = f"the {len(backbone_channels)} levels of {tuple(backbone_channels)} channels"
        raise ChannelError("fuse_channels", fuse_channels, f"one width for each of {levels}")
    return published_head(parse_channels(tuple(fuse_channels), "fuse_channels"))
