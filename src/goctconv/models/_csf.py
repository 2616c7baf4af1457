"""CSF: cross-stage fusion on the features of an ImageNet backbone, for salient object detection."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast, get_args

import torch
import torch.nn.functional as F
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from .._features import ChannelError, Size, width_of
from ..layers import FusionHead
from ._csf_backbone import is_channels_last, make_backbone, sizes_taken
from ._csf_channels import DILATIONS, CSFChannels, csf_channels, default_fuse_channels, parse_csf_channels
from ._hub import HubModel
from ._image_sizes import parse_image_sizes
from ._map_model import MapModel
from ._recompute import recomputed
from ._simple_pyramid import SimplePyramid

HeadNorm: TypeAlias = Literal["group", "batch"]
_GROUPS = 32
_DRAWN = 0.01  # the standard deviation that the published recipe draws new convolutions with


class CSF(MapModel):
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

    forgotten_args = HubModel.forgotten_args | {"pretrained_backbone", "fuse_channels"}
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
        super().__init__()
        for name, value, smallest in (("in_chans", in_chans, 1), ("num_classes", num_classes, 0)):
            if width_of(value, f"{name}={value!r}") < smallest:
                raise ValueError(f"{name}={value!r} must be at least {smallest}")
        if norm not in get_args(HeadNorm):
            raise ValueError(f"norm={norm!r} must be one of {get_args(HeadNorm)}")
        if fuse_channels is not None and channels is not None:
            raise ValueError("fuse_channels would have no effect beside channels, which set every width: leave it out")
        made = make_backbone(backbone, dict(backbone_args or {}), levels, pretrained_backbone, in_chans)
        self.backbone_name, self.backbone_args, self.levels = backbone, made.arguments, made.levels
        self.norm = norm
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.grad_checkpointing = False
        self.backbone = made.network
        self._channels_last = is_channels_last(made.network)
        self._backbone_size = _numel(made.network)
        plain = len(set(made.strides)) < len(made.strides) or len(made.strides) == 1
        self.pyramid = SimplePyramid(made.channels[0]) if plain else None
        widths = self.pyramid.channels if self.pyramid else made.channels
        self.reductions = SimplePyramid.reductions(made.strides[0]) if plain else made.strides
        self.image_sizes = (
            sizes_taken(made, in_chans, made.arguments.get("img_size"))
            if image_sizes is None
            else parse_image_sizes(image_sizes)
        )
        self.channels = _parse_widths(fuse_channels, channels, widths)
        self._initial_channels = self.channels
        self.head: FusionHead | None = self._make_head(widths)
        self.feature_info: list[dict[str, Any]] = [
            {"num_chs": width, "reduction": reduction, "module": "backbone"}
            for width, reduction in zip(widths, self.reductions, strict=True)
        ]
        self.num_features = self.head_hidden_size = self.channels["fused"]
        self.classifier = self._make_classifier(num_classes)
        self._draw()
        if pretrained_backbone is True:
            self.weights_license = self.backbone_cfg.get("license")

    @property
    def backbone_cfg(self) -> dict[str, Any]:
        """What timm says of the backbone's weights and of the images that they were made with."""
        return dict(getattr(self.backbone, "pretrained_cfg", None) or {})

    @property
    def backbone_is_pruned(self) -> bool:
        """Whether channels have been cut out of the backbone, so that no arguments make this network."""
        return _numel(self.backbone) != self._backbone_size

    def _make_head(self, widths: Sequence[int]) -> FusionHead:
        return FusionHead(
            list(widths),
            self.channels["fuse"],
            self.channels["dilated"],
            self.channels["fused"],
            in_reductions=self.reductions,
            dilations=DILATIONS,
            weight_scale=1.0,
            downsample="bilinear",
            norm=group_norm if self.norm == "group" else nn.BatchNorm2d,
        )

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
        if self.head is None:
            raise ValueError("this CSF has lost its head to prune_intermediate_layers: save the whole network instead")
        return {
            "backbone": self.backbone_name,
            "backbone_args": self.backbone_args,
            "levels": list(self.levels),
            "channels": self._initial_channels if self.backbone_is_pruned else self.channels,
            "norm": self.norm,
            "image_sizes": list(self.image_sizes),
            "in_chans": self.in_chans,
            "num_classes": self.num_classes,
        }

    def save_pretrained(self, directory: str | os.PathLike[str], *, license: str | None = None) -> None:  # noqa: A002
        """Save the network, as `CSNet.save_pretrained`.

        Raises:
            ValueError: Its backbone is pruned: `save_pruned` takes the plan along; or it was not made by its name.
        """
        if self.backbone_is_pruned:
            raise ValueError(
                "the backbone of this CSF is pruned, and no argument of it holds its widths: save what prune_channels "
                "gave with goctconv.models.save_pruned, which takes the plan along"
            )
        super().save_pretrained(directory, license=license)

    def resize_channels(self, _in_widths: Sequence[int]) -> None:
        """Take other widths over, after channels have been cut out of the layers."""
        if self.head is None:
            return
        self.channels = {
            "fuse": list(self.head.norm1.widths),
            "dilated": [list(widths) for widths in self.head.dilated.branch_channels],
            "fused": self.head.out_channels,
        }
        for info, width in zip(self.feature_info, self.head.fuse.in_widths, strict=True):
            info["num_chs"] = width
        self.num_features = self.head_hidden_size = self.channels["fused"]

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:  # noqa: ARG002  # backbones name blocks differently
        """Return patterns that group parameters by depth, the head last, for layer-wise learning rates in timm."""
        stem = r"^backbone\.(?:model\.)?(?:stem|conv_stem|conv1|bn1|patch_embed|cls_token|pos_embed)"
        return {"stem": stem, "blocks": r"^backbone\D*(\d+)"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Choose whether training recomputes activations to save memory: the head's, and the whole backbone's."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that must not decay: those that the backbone names."""
        inner = getattr(self.backbone, "model", None)
        names = inner.no_weight_decay() if inner is not None and hasattr(inner, "no_weight_decay") else ()
        return {f"backbone.model.{name}" for name in names}

    def _features(self, images: Tensor) -> list[Tensor]:
        """Return what the head takes, of images that the backbone takes."""
        recompute = self.grad_checkpointing and self.training
        features = list(recomputed(self.backbone, images) if recompute else self.backbone(images))
        if self._channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return features if self.pyramid is None else self.pyramid(features)

    def _fused(self, features: list[Tensor]) -> Tensor:
        if self.head is None:
            return features[-1]
        recompute = self.grad_checkpointing and self.training
        return cast("Tensor", recomputed(self.head, tuple(features)) if recompute else self.head(tuple(features)))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the fused map (B, num_features, h, w) at the finest level's resolution, of the padded image."""
        return self._fused(self._features(self.image_sizes.pad(x)))

    def forward_head(self, x: Tensor, size: Size | None = None, pre_logits: bool = False) -> Tensor:
        """Predict from the fused map, and upsample the logits.

        Args:
            x: The fused map.
            size: Height and width of the image; if not given, the map's times the finest level's stride.
            pre_logits: Whether to return the map itself.
        """
        if pre_logits or not self.num_classes:
            return x
        stride = self.feature_info[0]["reduction"]
        height, width = size or (stride * x.shape[-2], stride * x.shape[-1])
        logits = F.interpolate(
            self.classifier(x), self.image_sizes.padded((height, width)), mode="bilinear", align_corners=False
        )
        return logits[..., :height, :width]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the image's size."""
        return self.forward_head(self.forward_features(x), (x.shape[-2], x.shape[-1]))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,  # noqa: ARG002  # timm's interface
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return what `forward_features` returns, and the features that the head fuses.

        Args:
            x: The image.
            indices: Which of the levels: those of a sequence, the last n for an integer, all if None.
            norm: Has no effect: there is no final normalisation.
            stop_early: Whether to leave out the head; the first result is then the last level asked for.
            output_fmt: "NCHW", the only arrangement.
            intermediates_only: Whether to return the features alone.

        Raises:
            ValueError: Another ``output_fmt``.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt={output_fmt!r} must be 'NCHW'")
        taken, last = feature_take_indices(len(self.feature_info), indices)
        features = self._features(self.image_sizes.pad(x))
        intermediates = [features[index] for index in taken]
        if intermediates_only:
            return intermediates
        return (features[last] if stop_early else self._fused(features)), intermediates

    def prune_intermediate_layers(
        self,
        indices: int | list[int] = 1,
        prune_norm: bool = False,  # noqa: ARG002  # timm's interface
        prune_head: bool = True,
    ) -> list[int]:
        """Remove fusion and prediction if they are not wanted; the backbone stays whole. Returns the levels asked for.

        Args:
            indices: As in `forward_intermediates`.
            prune_norm: Has no effect: there is no final normalisation.
            prune_head: Whether to remove fusion and prediction.
        """
        taken, _ = feature_take_indices(len(self.feature_info), indices)
        if prune_head:
            self.head = None
            self.num_features = self.head_hidden_size = self.feature_info[-1]["num_chs"]
            self.reset_classifier(0)
        return taken


class SmallGroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm` that takes a single value per group too, which small images have at the coarsest level."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name that PyTorch gives it
        """Normalise; a single value becomes the shift."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def group_norm(width: int) -> nn.GroupNorm:
    """Return the published normalisation: 32 groups, or the largest number that divides 32 and the width."""
    return SmallGroupNorm(math.gcd(_GROUPS, width), width)


def _numel(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values())


def _parse_widths(
    fuse_channels: Sequence[int] | None, channels: CSFChannels | None, backbone_channels: Sequence[int]
) -> CSFChannels:
    if channels is not None:
        return parse_csf_channels(channels, len(backbone_channels))
    fuse = default_fuse_channels(backbone_channels) if fuse_channels is None else fuse_channels
    if not isinstance(fuse, Sequence) or len(fuse) != len(backbone_channels):
        raise ChannelError(
            f"fuse_channels={fuse!r} must be one width for each of the {len(backbone_channels)} levels of "
            f"{tuple(backbone_channels)} channels"
        )
    return csf_channels(fuse)
