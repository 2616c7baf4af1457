"""CSNet: in-layer multi-scale blocks and cross-stage fusion, for salient object detection from scratch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

from timm.models import register_notrace_function
from torch import Tensor, nn

from ..._features import Features, ScaleError, checks_enabled, spatial_size
from ...layers import FusionHead, ILBlock
from .._fusion_head import make_head, widths_of_head
from .._map_model import MapModel
from ._checkpoint import LAYOUT
from ._widths import PUBLISHED_DEPTHS, CSNetChannels, parse_csnet_channels, published_channels

_REDUCTIONS = (1, 1, 2, 4, 8)
_SMALLEST = 2 * _REDUCTIONS[-1]
_FEATURE_STAGES = (1, 2, 3, 4)
_COST_EXPONENTS = (3, 3, 2, 1, 0)


class CSNet(MapModel):
    """CSNet: five stages of `ILBlock`, a `FusionHead` over the last of them, and a 1x1 prediction.

    Shapes:
        - Input: (B, in_chans, H, W), H and W at least 16, odd ones too; at least 32 to train on single images, because
          BatchNorm then needs more than one pixel of the coarsest scale, 1/16.
        - Output: logits (B, num_classes, H, W); with ``num_classes=0`` the fused map at the finest fused resolution.

    Fresh weights act 100 times larger than they are (``weight_scale``): until BatchNorm has seen data, eval mode
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

    head: FusionHead | None
    layout = LAYOUT
    forgotten_args = MapModel.forgotten_args | {"base_width", "split", "depths"}
    card_tags = ("salient-object-detection", "csnet", "goctconv")

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
        if channels is None:
            self.channels = published_channels(base_width, split, depths, self.fuse_stages)
        else:
            self.channels = parse_csnet_channels(channels, self.fuse_stages)
        self.simplified = simplified
        self._set_channels(in_chans, num_classes)
        self.stages = _make_stages(self.channels, in_chans, simplified=simplified)
        ends = [self.channels["stages"][stage][-1] for stage in self.fuse_stages]
        reductions = [_REDUCTIONS[stage] for stage in self.fuse_stages]
        self.head = make_head(ends, self.channels, reductions) if ends else None
        self.feature_info = [_feature_info(self.channels, stage) for stage in _FEATURE_STAGES]
        self.num_features = self.channels["fused"] if self.fuse_stages else self.feature_info[-1]["num_chs"]
        self.head_hidden_size = self.num_features
        self._reduction = _REDUCTIONS[self.fuse_stages[0] if self.fuse_stages else -1]
        self.classifier = self._make_classifier(num_classes)

    def model_args(self) -> dict[str, Any]:
        """Return the arguments, as JSON holds them, that make a network of this shape.

        Raises:
            ValueError: Stages have been cut off, so that no arguments make it.
        """
        if len(self.stages) != len(_REDUCTIONS):
            raise ValueError("this CSNet has lost stages to prune_intermediate_layers: save the whole network instead")
        return {
            "channels": self.channels,
            "fuse_stages": list(self.fuse_stages),
            "simplified": self.simplified,
            "in_chans": self.in_chans,
            "num_classes": self.num_classes,
        }

    def dynamic_decay_names(self) -> list[str]:
        """Return the BatchNorm layers that dynamic weight decay was published for: all in the blocks, none in the head.

        Example:
            >>> from goctconv import DynamicWeightDecay, create_model
            >>> import torch
            >>> model = create_model("csnet_x1")
            >>> adam = torch.optim.Adam(model.parameters(), 1e-4, betas=(0.9, 0.99), weight_decay=5e-3)
            >>> optimizer = DynamicWeightDecay(adam, model, include=model.dynamic_decay_names())
        """
        return list(self.dynamic_decay_cost())

    def dynamic_decay_cost(self, expand: float = 2.0) -> dict[str, float]:
        """Return the published cost of the layers of `dynamic_decay_names`, by the resolution of what they put out.

        It is ``expand`` to the power of 3, 3, 2, 1, 0 for stages 0 to 4, plus 1 for the finer one of two scales.

        Args:
            expand: The base; 1 makes all layers equal, as in the published training.
        """
        costs = {}
        for name, module in self.stages.named_modules():
            stage, _, rest = name.partition(".")
            if isinstance(module, nn.BatchNorm2d):
                scale = int(rest.rpartition(".")[2])
                scales = self._scales_of(int(stage), int(rest.partition(".")[0]))
                costs[f"stages.{name}"] = float(expand ** (_COST_EXPONENTS[int(stage)] + scales - 1 - scale))
        return costs

    def _scales_of(self, stage: int, block: int) -> int:
        width = self.channels["stages"][stage][block]
        return 1 if isinstance(width, int) else len(width)

    def resize_channels(self, _in_widths: Sequence[int]) -> None:
        """Take other widths over, after channels have been cut out of the layers."""
        blocks = [[cast("ILBlock", block) for block in cast("nn.Sequential", stage)] for stage in self.stages]
        widths = [[block.norm1.in_channels for block in stage] for stage in blocks]
        channels: dict[str, Any] = {
            "stages": [[width if isinstance(width, int) else list(width) for width in stage] for stage in widths]
        }
        if self.head is not None:
            channels |= widths_of_head(self.head)
        self.channels = parse_csnet_channels(channels, self.fuse_stages)
        self.feature_info = [
            _feature_info(self.channels, stage) for stage in _FEATURE_STAGES if stage < len(self.stages)
        ]
        fused = self.channels["fused"] if self.head is not None else self.feature_info[-1]["num_chs"]
        self.num_features = self.head_hidden_size = fused

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Return patterns that group parameters by depth, for layer-wise learning rates in timm."""
        return {"stem": r"^stages\.0", "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"}

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that must not decay: none; the paper decays all, γ dynamically."""
        return set()

    def _cut_behind(self, feature: int) -> int:
        self.stages = self.stages[: _FEATURE_STAGES[feature] + 1]
        return feature

    def _remove_head(self, feature: int) -> None:
        super()._remove_head(feature)
        self._reduction = self.feature_info[feature]["reduction"]

    def _forward_stages(
        self, x: Tensor, count: int = len(_REDUCTIONS), wanted: Collection[int] = range(len(_REDUCTIONS))
    ) -> list[Tensor | Features]:
        """Return the last features of the first stages, a tuple of (high, low) where a stage ends in two scales.

        Of stages that are not wanted an empty tuple, so that their memory is free.
        """
        check_image(x)
        features: Tensor | Features = x
        outputs: list[Tensor | Features] = []
        for index, stage in enumerate(self.stages[:count]):
            for block in cast("nn.Sequential", stage):
                features = self._run(block, features)
            outputs.append(features if index in wanted else ())
        return outputs

    def _features_up_to(self, x: Tensor, last: int) -> list[Any]:
        return self._forward_stages(x, _FEATURE_STAGES[last] + 1)

    def _feature(self, features: list[Any], index: int) -> Tensor:
        return self._finest(features, _FEATURE_STAGES[index])

    def _finest(self, outputs: list[Tensor | Features], stage: int) -> Tensor:
        output, width = outputs[stage], self.channels["stages"][stage][-1]
        return cast("Tensor", output if isinstance(width, int) else output[_finest_scale(width)])

    def _fused(self, features: list[Any]) -> Tensor:
        if self.head is None or len(features) < len(_REDUCTIONS):
            return self._finest(features, len(features) - 1)
        return cast("Tensor", self.head(tuple(features[stage] for stage in self.fuse_stages)))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the fused map (B, num_features, H/2, W/2); of the extractor alone, stage 4's (B, C, H/8, W/8)."""
        wanted = self.fuse_stages if self.head is not None else (len(self.stages) - 1,)
        return self._fused(self._forward_stages(x, wanted=wanted))

    def _stride(self) -> int:
        return self._reduction

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the image's size."""
        return super().forward(x)  # torch.fx keeps `check_image` whole only in the file where it finds forward()


def check_image(x: Tensor) -> None:
    """Check that the coarsest scale of an image has a pixel."""
    if checks_enabled(x) and min(spatial_size(x)) < _SMALLEST:
        least = f"{_SMALLEST}x{_SMALLEST}, as CSNet's coarsest scale is 1/{_SMALLEST}"
        expected = f"the size of an image of at least {least}"
        raise ScaleError("x", spatial_size(x), expected, "resize or pad the image")


_keep_whole: Callable[[Callable[..., None]], object] = register_notrace_function  # which timm does not annotate
_keep_whole(check_image)


def _finest_scale(widths: list[int]) -> int:
    return next(scale for scale, width in enumerate(widths) if width)


def _feature_info(channels: CSNetChannels, stage: int) -> dict[str, Any]:
    width = channels["stages"][stage][-1]
    scale = 0 if isinstance(width, int) else _finest_scale(width)
    count = width if isinstance(width, int) else width[scale]
    return {"num_chs": count, "reduction": _REDUCTIONS[stage] * 2**scale, "module": f"stages.{stage}"}


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
