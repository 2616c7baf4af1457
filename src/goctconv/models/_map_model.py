"""The base of all networks here: timm's interface of a network whose classifier predicts maps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch.nn.functional as F
from timm.models._features import feature_take_indices
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .._checks import ArgumentError, check_integer
from .._features import Size, spatial_size
from .._torch import BatchNorm
from ..layers.kernels import kernels_now
from .hub import HubModel


class MapModel(HubModel):
    """A network whose last layer, ``classifier``, predicts maps from what ``head``, if it has one, fuses."""

    head: nn.Module | None
    classifier: nn.Module
    feature_info: list[dict[str, Any]]
    num_features: int
    num_classes: int
    grad_checkpointing: bool = False

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the fused map (B, num_features, h, w)."""
        raise NotImplementedError

    def _features_up_to(self, x: Tensor, last: int) -> list[Any]:
        """Return the features of an image, as they flow, at least up to this entry of ``feature_info``."""
        raise NotImplementedError

    def _feature(self, features: list[Any], index: int) -> Tensor:
        """Return the feature that an entry of ``feature_info`` describes."""
        raise NotImplementedError

    def _fused(self, features: list[Any]) -> Tensor:
        """Return the fused map; the last feature where the head is off, or features are missing."""
        raise NotImplementedError

    def _set_channels(self, in_chans: int, num_classes: int) -> None:
        """Keep the channels of image and logits, having checked them."""
        self.in_chans = check_integer("in_chans", in_chans, 1)
        self.num_classes = check_integer("num_classes", num_classes, 0)

    def _make_classifier(self, num_classes: int) -> nn.Module:
        return nn.Conv2d(self.num_features, num_classes, 1) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the prediction layer."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the prediction layer by a fresh one with ``num_classes`` channels, or by none.

        Raises:
            ArgumentError: A ``global_pool``: a saliency map is not pooled.
        """
        if global_pool:
            raise ArgumentError("global_pool", global_pool, problem="would pool a map away", cure="leave it out")
        self.num_classes = check_integer("num_classes", num_classes, 0)
        like = next(self.parameters())
        self.classifier = self._make_classifier(num_classes).to(like.device, like.dtype)

    def prune_intermediate_layers(
        self,
        indices: int | list[int] = 1,
        prune_norm: bool = False,  # noqa: ARG002  # timm's interface
        prune_head: bool = True,
    ) -> list[int]:
        """Remove what lies behind the last of the features asked for, as far as it can go; returns their indices.

        Of a CSNet, stages go; a backbone stays whole.

        Args:
            indices: As in `forward_intermediates`.
            prune_norm: Has no effect: there is no final normalisation.
            prune_head: Whether to remove fusion and prediction even where all features stay.
        """
        taken, last = feature_take_indices(len(self.feature_info), indices)
        end = self._cut_behind(last)
        if prune_head or end < len(self.feature_info) - 1:
            self._remove_head(end)
        return taken

    def _cut_behind(self, feature: int) -> int:  # noqa: ARG002
        """Remove layers behind a feature if possible, and return the last feature that is left."""
        return len(self.feature_info) - 1

    def _remove_head(self, feature: int) -> None:
        """Remove fusion and prediction; the output is then one of the features."""
        self.head = None
        self.num_features = self.head_hidden_size = self.feature_info[feature]["num_chs"]
        self.reset_classifier(0)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Choose whether training recomputes activations to save memory."""
        self.grad_checkpointing = enable

    def _run(self, module: nn.Module, features: Any) -> Any:
        """Run a module; in training with `set_grad_checkpointing`, the backward pass recomputes its activations."""
        if not (self.grad_checkpointing and self.training):
            return module(features)
        again = _recomputing(module, kernels_now())
        return checkpoint(module, features, use_reentrant=False, context_fn=lambda: (nullcontext(), again))

    def forward_head(self, x: Tensor, size: Size | None = None, pre_logits: bool = False) -> Tensor:
        """Predict from the fused map, and upsample the logits.

        Args:
            x: The fused map.
            size: Height and width of the logits; if not given, the map's times its stride, which is 2 in the published
                CSNets. Images of odd sizes need it, for the map was rounded.
            pre_logits: Whether to return the map itself.
        """
        if pre_logits or not self.num_classes:
            return x
        stride = self._stride()
        return self._upsampled(self.classifier(x), size or (stride * x.shape[-2], stride * x.shape[-1]))

    def _stride(self) -> int:
        """Return the stride of the fused map."""
        return int(self.feature_info[0]["reduction"])

    def _upsampled(self, logits: Tensor, size: Size) -> Tensor:
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the image's size."""
        return self.forward_head(self.forward_features(x), spatial_size(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,  # noqa: ARG002  # timm's interface
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return what `forward_features` returns, and the features on the way: stages 1-4, or the backbone's.

        A stage that ends in two scales is represented by the finer one that has channels.

        Args:
            x: The image.
            indices: Which of the features: those of a sequence, the last n for an integer, all if None.
            norm: Has no effect, as in timm's convolutional networks: there is no final normalisation.
            stop_early: Whether to stop after the last feature asked for; the first result is then that feature.
            output_fmt: "NCHW", the only arrangement.
            intermediates_only: Whether to return the features alone.

        Raises:
            ArgumentError: Another ``output_fmt``.
        """
        if output_fmt != "NCHW":
            raise ArgumentError("output_fmt", output_fmt, "'NCHW'")
        taken, last = feature_take_indices(len(self.feature_info), indices)
        end = last if stop_early or intermediates_only else len(self.feature_info) - 1
        features = self._features_up_to(x, end)
        intermediates = [self._feature(features, index) for index in taken]
        return intermediates if intermediates_only else (self._fused(features), intermediates)


@contextmanager
def _recomputing(module: nn.Module, kernels: AbstractContextManager[object]) -> Iterator[None]:
    """Leave running statistics alone, which PyTorch's checkpointing updates again in the recomputation."""
    norms = [norm for norm in module.modules() if isinstance(norm, BatchNorm) and norm.track_running_stats]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # the same kernel runs and saves the same tensors, and adds nothing
        norm.num_batches_tracked = None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
    try:
        with kernels:
            yield
    finally:
        for norm, momentum, counter in before:
            norm.momentum, norm.num_batches_tracked = momentum, counter
