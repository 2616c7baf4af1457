"""Making a saliency network of any of timm's backbones."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from ._create import create_model
from ._csf import CSF, HeadNorm
from ._csf_channels import CSFChannels


def create_csf(
    backbone: str,
    *,
    pretrained_backbone: bool | str | os.PathLike[str] = False,
    checkpoint_path: str | os.PathLike[str] | None = None,
    backbone_args: Mapping[str, Any] | None = None,
    levels: Sequence[int] | None = None,
    fuse_channels: Sequence[int] | None = None,
    channels: CSFChannels | None = None,
    norm: HeadNorm | None = None,
    image_sizes: Sequence[int | None] | None = None,
    in_chans: int = 3,
    num_classes: int = 1,
) -> CSF:
    """Return a saliency network: a cross-stage fusion head on any of timm's networks that gives features.

    The same as ``goctconv.create_model("csf", backbone=backbone, ...)``, so that timm reloads what it saves.

    Args:
        backbone: Name of the network, such as "convnext_nano"; a tag names weights, such as "convnext_nano.in12k".
        pretrained_backbone: True downloads the weights that timm has for it, whose licence then goes along with the
            network; or a file of its weights, which is loaded strictly.
        checkpoint_path: A file of weights of the whole network.
        backbone_args: Further arguments of the backbone, such as ``{"img_size": 352}``.
        levels: Which of its features to fuse, as timm's ``out_indices``; see `CSF`.
        fuse_channels: Channels of every level in the head; see `CSF`.
        channels: All widths of the head, instead of ``fuse_channels``.
        norm: "group" (if not given) or "batch", which can be pruned.
        image_sizes: What sides the backbone takes; see `CSF`.
        in_chans: Channels of the image.
        num_classes: Channels of the logits.

    Raises:
        UnknownModelError: timm has no such network; the nearest names are suggested.
        ValueError: It gives no features, or not these ones; arguments that are not its own.
        ChannelError: Widths that cannot be.
        CheckpointError: A file cannot be read or does not fit; all mismatches are listed.
        FileNotFoundError: There is no such file.

    Example:
        >>> import torch
        >>> from goctconv.models import create_csf
        >>> model = create_csf("test_convnext")
        >>> model(torch.rand(1, 3, 65, 97)).shape
        torch.Size([1, 1, 65, 97])
    """
    options: dict[str, Any] = {
        "backbone_args": dict(backbone_args) if backbone_args else None,
        "levels": levels,
        "fuse_channels": fuse_channels,
        "channels": channels,
        "norm": norm,
        "image_sizes": image_sizes,
    }
    given = {name: value for name, value in options.items() if value is not None}
    model = create_model(
        "csf",
        checkpoint_path=checkpoint_path,
        backbone=backbone,
        pretrained_backbone=pretrained_backbone,
        in_chans=in_chans,
        num_classes=num_classes,
        **given,
    )
    return cast("CSF", model)
