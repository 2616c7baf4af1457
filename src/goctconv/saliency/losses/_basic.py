"""Losses of pixels and of whole regions: binary cross-entropy, intersection over union, dice."""

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._checks import ArgumentError, ArgumentTypeError, check_number


def prepare(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and masks in float32, or in float64 where the logits are."""
    check_floating("logits", logits)
    check_floating("masks", masks)
    if logits.shape != masks.shape or logits.ndim != 4 or logits.shape[1] != 1 or not logits.numel():
        expected = f"(B, 1, H, W) as the logits {tuple(logits.shape)}, none of them 0"
        raise ArgumentError("masks", masks, expected, "resize one to the other, as DeepSupervision does")
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return logits.to(dtype), masks.to(dtype)


def check_floating(name: str, values: object) -> None:
    """Refuse what is no floating point tensor."""
    if not isinstance(values, Tensor):
        raise ArgumentTypeError(name, values, "a tensor of shape (B, 1, H, W)")
    if not values.is_floating_point():
        cure = "pass the network's logits, and masks from 0 to 1 (masks.float(), or masks / 255 of 8-bit levels)"
        raise ArgumentTypeError(name, values, "floating point", cure, problem=f"is of type {values.dtype}")


def bce_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy, the mean over all pixels: what CSNet is trained with.

    Computed in float32 (float64 for float64 logits), under autocast too.

    Args:
        logits: Of shape (B, 1, H, W).
        masks: Of the same shape, floating point from 0 to 1.

    Returns:
        A scalar.

    Raises:
        ArgumentError: They are no floating point tensors of one such shape.

    Example:
        >>> import torch
        >>> from goctconv.saliency.losses import bce_loss
        >>> bce_loss(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
        tensor(0.6931)
    """
    logits, masks = prepare(logits, masks)
    return F.binary_cross_entropy_with_logits(logits, masks)


_PIXELS = (1, 2, 3)


def iou_loss(logits: Tensor, masks: Tensor, *, smooth: float = 1.0) -> Tensor:
    """One minus the soft intersection over union, the mean over images.

    With probabilities p and mask m, 1 - (Σ p·m + s) / (Σ p + Σ m - Σ p·m + s) for each image.

    Args:
        logits: Of shape (B, 1, H, W).
        masks: Of the same shape, floating point from 0 to 1.
        smooth: The s of the formula, in pixels: what makes empty masks harmless.

    Returns:
        A scalar from 0 to 1.

    Raises:
        ArgumentError: They are no floating point tensors of one such shape, or ``smooth`` is not positive.

    Example:
        >>> import torch
        >>> from goctconv.saliency.losses import iou_loss
        >>> iou_loss(torch.zeros(1, 1, 3, 3), torch.ones(1, 1, 3, 3))  # 1 - 5.5 / 10
        tensor(0.4500)
    """
    check_smooth(smooth)
    logits, masks = prepare(logits, masks)
    probabilities = logits.sigmoid()
    both = (probabilities * masks).sum(_PIXELS)
    either = probabilities.sum(_PIXELS) + masks.sum(_PIXELS) - both
    return (1 - (both + smooth) / (either + smooth)).mean()


def dice_loss(logits: Tensor, masks: Tensor, *, smooth: float = 1.0) -> Tensor:
    """One minus the soft dice coefficient, the mean over images, as in KD-SCFNet.

    With probabilities p and mask m, 1 - (2·Σ p·m + s) / (Σ p + Σ m + s) for each image.

    Args:
        logits: Of shape (B, 1, H, W).
        masks: Of the same shape, floating point from 0 to 1.
        smooth: The s of the formula, in pixels: what makes empty masks harmless.

    Returns:
        A scalar from 0 to 1.

    Raises:
        ArgumentError: They are no floating point tensors of one such shape, or ``smooth`` is not positive.

    Example:
        >>> import torch
        >>> from goctconv.saliency.losses import dice_loss
        >>> dice_loss(torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3))  # 1 - 1 / 5.5
        tensor(0.8182)
    """
    check_smooth(smooth)
    logits, masks = prepare(logits, masks)
    return dice(logits.sigmoid(), masks, smooth)


def distillation_dice_loss(logits: Tensor, teacher_logits: Tensor, *, smooth: float = 1.0) -> Tensor:
    """`dice_loss` between a student's probabilities and a teacher's, as in KD-SCFNet.

    Args:
        logits: The student's, (B, 1, H, W).
        teacher_logits: The teacher's, of the same shape; no gradient goes there.
        smooth: As in `dice_loss`.

    Returns:
        A scalar from 0 to 1; above 0 for equal maps too, unless all their pixels are 0 or 1.

    Raises:
        ArgumentError: They are no floating point tensors of one such shape, or ``smooth`` is not positive.

    Example:
        >>> import torch
        >>> from goctconv.saliency.losses import distillation_dice_loss
        >>> distillation_dice_loss(torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3))  # 1 - 5.5 / 10
        tensor(0.4500)
    """
    check_smooth(smooth)
    logits, teacher_logits = prepare(logits, teacher_logits)
    return dice(logits.sigmoid(), teacher_logits.detach().sigmoid(), smooth)


def dice(probabilities: Tensor, targets: Tensor, smooth: float) -> Tensor:
    """Return one minus the soft dice coefficient of two maps, the mean over images."""
    both = (probabilities * targets).sum(_PIXELS)
    total = probabilities.sum(_PIXELS) + targets.sum(_PIXELS)
    return (1 - (2 * both + smooth) / (total + smooth)).mean()


def check_smooth(smooth: float) -> None:
    """Refuse what would not keep empty masks harmless."""
    check_number("smooth", smooth, above=0, cure="pass 1.0: with 0, an empty mask gives 0 / 0")


Reduction: TypeAlias = Literal["mean", "sum"]


def reduced(loss: Tensor, masks: Tensor, reduction: Reduction) -> Tensor:
    """Return a loss that is a mean over pixels of masks (B, 1, H, W), as the reduction wants it."""
    height, width = masks.shape[-2:]
    return loss if reduction == "mean" else loss * (height * width)
