"""Making SCFNet on any of timm's backbones."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from ._create import create_model
from ._scfnet import SCFNet


def create_scfnet(
    backbone: str,
    *,
    width: int | None = None,
    pretrained_backbone: bool | str | os.PathLike[str] = False,
    checkpoint_path: str | os.PathLike[str] | None = None,
    backbone_args: Mapping[str, Any] | None = None,
    levels: Sequence[int] | None = None,
    final_norm: bool | None = None,
    image_sizes: Sequence[int | None] | None = None,
    in_chans: int = 3,
    num_classes: int = 1,
) -> SCFNet:
    """Return an SCFNet: scale-correlated fusion on any of timm's networks that gives features.

    The same as ``goctconv.create_model("scfnet", backbone=backbone, ...)``, so that timm reloads what it saves.

    Args:
        backbone: Name of the network, such as "mobilenetv4_conv_small"; a tag names weights.
        width: Channels of all maps in the head; 16 if not given, and as the file has it with ``checkpoint_path``.
        pretrained_backbone: True downloads the weights that timm has for it, whose licence then goes along with the
            network; or a file of its weights, which is loaded strictly.
        checkpoint_path: A file of weights of the whole network; the authors' ``.pdparams`` too.
        backbone_args: Further arguments of the backbone, such as ``{"img_size": 352}``.
        levels: Which of its features to fuse, as timm's ``out_indices``; see `SCFNet`.
        final_norm: Whether the deepest feature is normalised; see `SCFNet`.
        image_sizes: What sides the backbone takes; see `SCFNet`.
        in_chans: Channels of the image.
        num_classes: Channels of the logits.

    Raises:
        UnknownModelError: timm has no such network; the nearest names are suggested.
        ValueError: It gives no features, or not these ones; arguments that are not its own.
        ChannelError: A width that cannot be.
        CheckpointError: A file cannot be read or does not fit; all mismatches are listed.
        FileNotFoundError: There is no such file.

    Example:
        >>> import torch
        >>> from goctconv.models import create_scfnet
        >>> model = create_scfnet("test_convnext", width=8)
        >>> model(torch.rand(1, 3, 65, 97)).shape
        torch.Size([1, 1, 65, 97])
    """
    options: dict[str, Any] = {
        "width": width,
        "backbone_args": dict(backbone_args) if backbone_args else None,
        "levels": levels,
        "final_norm": final_norm,
        "image_sizes": image_sizes,
    }
    given = {name: value for name, value in options.items() if value is not None}
    model = create_model(
        "scfnet",
        checkpoint_path=checkpoint_path,
        backbone=backbone,
        pretrained_backbone=pretrained_backbone,
        in_chans=in_chans,
        num_classes=num_classes,
        **given,
    )
    return cast("SCFNet", model)
