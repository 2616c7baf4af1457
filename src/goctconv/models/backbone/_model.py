"""The base of networks that predict maps from the features of one of timm's networks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from ..._features import Size
from .._map_model import MapModel
from ._features import SimplePyramid, make_backbone
from ._image_sizes import find_image_sizes, parse_image_sizes
from ._timm import is_channels_last


class BackboneModel(MapModel):
    """A backbone, and a head that brings its features together to one map.

    A plain transformer, whose features all have one stride, gets a pyramid of four resolutions first. A class of this
    kind makes ``head``, which takes the features as a tuple, and ``classifier``. The arguments are those of `CSF`.
    """

    forgotten_args = MapModel.forgotten_args | {"pretrained_backbone"}

    def __init__(
        self,
        backbone: str,
        *,
        backbone_args: Mapping[str, Any] | None,
        pretrained_backbone: bool | str | os.PathLike[str],
        levels: Sequence[int] | None,
        image_sizes: Sequence[int | None] | None,
        in_chans: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self._set_channels(in_chans, num_classes)
        made = make_backbone(backbone, dict(backbone_args or {}), levels, pretrained_backbone, in_chans)
        self.backbone_name, self.backbone_args, self.levels = backbone, made.arguments, made.levels
        self.backbone = made.network
        self._channels_last = is_channels_last(made.network)
        self._backbone_size = numel(made.network)
        plain = len(set(made.strides)) < len(made.strides) or len(made.strides) == 1
        self.pyramid = SimplePyramid(made.channels[0]) if plain else None
        widths = self.pyramid.channels if self.pyramid else made.channels
        self.reductions = SimplePyramid.reductions(made.strides[0]) if plain else made.strides
        self.image_sizes = (
            find_image_sizes(made.network, in_chans, max(made.strides), made.arguments.get("img_size"))
            if image_sizes is None
            else parse_image_sizes(image_sizes)
        )
        self.feature_info = [
            {"num_chs": width, "reduction": reduction, "module": "backbone"}
            for width, reduction in zip(widths, self.reductions, strict=True)
        ]
        if pretrained_backbone is True:
            self.weights_license = self.backbone_cfg.get("license")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of every feature that the head fuses."""
        return tuple(info["num_chs"] for info in self.feature_info)

    @property
    def backbone_cfg(self) -> dict[str, Any]:
        """What timm says of the backbone's weights and of the images that they were made with."""
        return dict(getattr(self.backbone, "pretrained_cfg", None) or {})

    @property
    def backbone_is_pruned(self) -> bool:
        """Whether channels have been cut out of the backbone, so that no arguments make this network."""
        return numel(self.backbone) != self._backbone_size

    def backbone_model_args(self) -> dict[str, Any]:
        """Return the arguments of this class, as JSON holds them."""
        if self.head is None:
            problem = f"this {type(self).__name__} has lost its head to prune_intermediate_layers"
            raise ValueError(f"{problem}: save the whole network instead")
        return {
            "backbone": self.backbone_name,
            "backbone_args": self.backbone_args,
            "levels": list(self.levels),
            "image_sizes": list(self.image_sizes),
            "in_chans": self.in_chans,
            "num_classes": self.num_classes,
        }

    def save_pretrained(self, directory: str | os.PathLike[str], *, license: str | None = None) -> None:  # noqa: A002
        """Save the network, as `CSNet.save_pretrained`.

        Raises:
            ValueError: It is pruned where no argument holds its widths: `save_pruned` takes the plan along; or it was
                not made by its name.
        """
        if self.backbone_is_pruned:
            raise ValueError(
                f"the backbone of this {type(self).__name__} is pruned, and no argument of it holds its widths: save "
                "what prune_channels gave with goctconv.models.save_pruned, which takes the plan along"
            )
        super().save_pretrained(directory, license=license)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:  # noqa: ARG002  # backbones name blocks differently
        """Return patterns that group parameters by depth, the head last, for layer-wise learning rates in timm."""
        stem = r"^backbone\.(?:model\.)?(?:stem|conv_stem|conv1|bn1|patch_embed|cls_token|pos_embed)"
        return {"stem": stem, "blocks": r"^backbone\D*(\d+)"}

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that must not decay: those that the backbone names."""
        inner = getattr(self.backbone, "model", None)
        names = inner.no_weight_decay() if inner is not None and hasattr(inner, "no_weight_decay") else ()
        return {f"backbone.model.{name}" for name in names}

    def _features_up_to(self, x: Tensor, last: int) -> list[Any]:
        """Return what the head takes, of an image of any size; the backbone runs as a whole."""
        features = list(self._run(self.backbone, self.image_sizes.pad(x)))
        if self._channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        if self.pyramid is not None:
            features = self.pyramid(features)
        return self._normalized(features)[: last + 1]

    def _normalized(self, features: list[Tensor]) -> list[Tensor]:
        return features

    def _feature(self, features: list[Any], index: int) -> Tensor:
        return cast("Tensor", features[index])

    def _fused(self, features: list[Any]) -> Tensor:
        if self.head is None or len(features) < len(self.feature_info):
            return cast("Tensor", features[-1])
        return cast("Tensor", self._run(self.head, tuple(features)))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the fused map (B, num_features, h, w) at the finest level's resolution, of the padded image."""
        return self._fused(self._features_up_to(x, len(self.feature_info)))

    def _upsampled(self, logits: Tensor, size: Size) -> Tensor:
        """Bring logits to the size of the padded image, and cut off what was padded."""
        height, width = size
        return super()._upsampled(logits, self.image_sizes.padded((height, width)))[..., :height, :width]


def numel(module: nn.Module) -> int:
    """Return the number of values that a network holds."""
    return sum(tensor.numel() for tensor in module.state_dict().values())
