"""Losses that compare whole regions: intersection over union, and dice."""

from torch import Tensor

from ._inputs import prepare

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
        TypeError: They are no floating point tensors.
        ValueError: Their shapes are others, or ``smooth`` is not positive.

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
        TypeError: They are no floating point tensors.
        ValueError: Their shapes are others, or ``smooth`` is not positive.

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
        TypeError: They are no floating point tensors.
        ValueError: Their shapes are others, or ``smooth`` is not positive.

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
    """Refuse what would not keep empty masks harmless.

    Raises:
        ValueError: It is not positive.
    """
    if not smooth > 0:
        raise ValueError(f"smooth is {smooth}, expected more than 0: without it, an empty mask gives 0 / 0.")
