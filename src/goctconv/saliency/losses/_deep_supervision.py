"""A loss on each of several outputs."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ._combine import Loss, check_loss, check_weights, tell_epoch
from ._inputs import check_floating

Resized = Literal["logits", "masks"]


class DeepSupervision:
    """The weighted sum of a loss over several outputs of a network, of any sizes.

    Args:
        loss: A function of logits and masks.
        weights: One for each output; by default 1, ½, ¼, ⅛ and so on, as in KD-SCFNet.
        resize: What is resized where sizes differ: ``"logits"``, bilinearly, to the masks' size; or ``"masks"``, by
            averaging areas, to each output's size, which is faster and keeps shares of pixels as soft values.

    Raises:
        TypeError: ``loss`` cannot be called.
        ValueError: A weight is negative or not finite, or ``resize`` is something else.

    Example:
        >>> import torch
        >>> from goctconv.saliency.losses import DeepSupervision, bce_loss
        >>> outputs = [torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 4, 4)]
        >>> DeepSupervision(bce_loss)(outputs, torch.ones(1, 1, 8, 8))  # 1.5 · 0.6931
        tensor(1.0397)
    """

    def __init__(self, loss: Loss, weights: Sequence[float] | None = None, *, resize: Resized = "logits") -> None:
        check_loss(loss)
        if resize not in get_args(Resized):
            raise ValueError(f"resize is {resize!r}, expected 'logits' or 'masks'.")
        self.loss = loss
        self.weights = None if weights is None else check_weights(weights, len(weights), "outputs")
        self.resize = resize

    def __call__(self, outputs: Sequence[Tensor] | Tensor, masks: Tensor) -> Tensor:
        """Return the sum over the outputs.

        Args:
            outputs: Logits, each of shape (B, 1, h, w), in the order of the weights.
            masks: Of shape (B, 1, H, W), floating point from 0 to 1.

        Raises:
            TypeError: ``outputs`` is a single tensor, or something is no floating point tensor.
            ValueError: There are no outputs, or another number than weights, or shapes do not fit.
        """
        if isinstance(outputs, Tensor):
            raise TypeError("outputs is one tensor, expected several outputs: pass a list, [logits], or call the loss.")
        halved = [0.5**index for index in range(len(outputs))]
        weights = check_weights(halved if self.weights is None else self.weights, len(outputs), "outputs")
        total = torch.zeros((), device=masks.device)
        for weight, logits in zip(weights, outputs, strict=True):
            total = total + weight * self.loss(*self._match(logits, masks))
        return total

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, from 0, to a loss that changes from epoch to epoch."""
        tell_epoch(self.loss, epoch)

    def __repr__(self) -> str:
        weights = None if self.weights is None else list(self.weights)
        return f"DeepSupervision({getattr(self.loss, '__name__', self.loss)}, {weights}, resize={self.resize!r})"

    def _match(self, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Bring both to one size, in full precision."""
        check_floating("an output", logits)
        check_floating("masks", masks)
        if logits.ndim != 4 or masks.ndim != 4 or logits.shape[2:] == masks.shape[2:]:
            return logits, masks  # where that is wrong, the loss says what it expects
        if self.resize == "masks":
            return logits, F.interpolate(_full(masks), logits.shape[2:], mode="area")
        return F.interpolate(_full(logits), masks.shape[2:], mode="bilinear", align_corners=False), masks


def _full(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
