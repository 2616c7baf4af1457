"""Binary cross-entropy."""

import torch.nn.functional as F
from torch import Tensor

from ._inputs import prepare


def bce_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy, the mean over all pixels: what CSNet is trained with.

    Computed in float32 (float64 for float64 logits), under autocast too.

    Args:
        logits: Of shape (B, 1, H, W).
        masks: Of the same shape, floating point from 0 to 1.

    Returns:
        A scalar.

    Raises:
        TypeError: They are no floating point tensors.
        ValueError: Their shapes are others.

    Example:
        >>> import torch
        >>> from goctconv.saliency.losses import bce_loss
        >>> bce_loss(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
        tensor(0.6931)
    """
    logits, masks = prepare(logits, masks)
    return F.binary_cross_entropy_with_logits(logits, masks)
