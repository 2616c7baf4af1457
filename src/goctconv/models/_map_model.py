"""What the networks of this package share: a prediction layer of maps, as timm handles classifiers."""

from __future__ import annotations

from torch import nn

from .._features import width_of
from ._hub import HubModel


class MapModel(HubModel):
    """A network whose last layer, ``classifier``, predicts maps from ``num_features`` channels."""

    classifier: nn.Module
    num_features: int
    num_classes: int
    grad_checkpointing: bool

    def _make_classifier(self, num_classes: int) -> nn.Module:
        return nn.Conv2d(self.num_features, num_classes, 1) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the prediction layer."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the prediction layer by a fresh one with ``num_classes`` channels, or by none.

        Raises:
            ValueError: A ``global_pool``: a saliency map is not pooled.
        """
        if global_pool:
            name = type(self).__name__
            raise ValueError(f"global_pool={global_pool!r}: {name} predicts maps and pools nothing; leave it out")
        if width_of(num_classes, f"num_classes={num_classes!r}") < 0:
            raise ValueError(f"num_classes={num_classes!r} must be at least 0")
        self.num_classes = num_classes
        like = next(self.parameters())
        self.classifier = self._make_classifier(num_classes).to(like.device, like.dtype)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Choose whether training recomputes activations to save memory."""
        self.grad_checkpointing = enable
