"""Dice of the boundaries alone, in a band that narrows as training goes on."""

import torch.nn.functional as F
from torch import Tensor

from ..._checks import ArgumentError, check_integer
from ._basic import check_smooth, dice, prepare

_WIDEST = 13
_EPOCHS = 10  # after which the band is two pixels narrower


def boundary_dice_loss(logits: Tensor, masks: Tensor, *, width: int = _WIDEST, smooth: float = 1.0) -> Tensor:
    """One minus the soft dice coefficient of the boundaries of map and mask, the mean over images, as in KD-SCFNet.

    The boundary of v is maxpool₃(1 − v) − (1 − v), widened by a max-pool over ``width`` pixels.

    Args:
        logits: Of shape (B, 1, H, W).
        masks: Of the same shape, floating point from 0 to 1.
        width: Of the band, in pixels: odd.
        smooth: What is added to intersection and sum, in pixels, as in `dice_loss`.

    Returns:
        A scalar from 0 to 1.

    Raises:
        ArgumentError: They are no floating point tensors of one such shape, ``width`` is no odd integer, or ``smooth``
            is not positive.

    Example:
        >>> import torch
        >>> from goctconv.saliency.losses._boundary import boundary_dice_loss
        >>> masks = torch.zeros(1, 1, 8, 8)
        >>> masks[..., 2:6, 2:6] = 1
        >>> boundary_dice_loss(20 * masks - 10, masks, width=1).round(decimals=3)
        tensor(0.)
    """
    check_smooth(smooth)
    if check_integer("width", width, least=1) % 2 == 0:
        raise ArgumentError("width", width, "an odd number of pixels")
    logits, masks = prepare(logits, masks)
    return dice(_band(logits.sigmoid(), width), _band(masks, width), smooth)


def boundary_width(epoch: int) -> int:
    """Return the published width of the band in an epoch: 13 pixels at first, 2 fewer every 10 epochs, at least 1."""
    return max(1, _WIDEST - 2 * ((check_integer("epoch", epoch, least=0) + 1) // _EPOCHS))


class BoundaryDice:
    """`boundary_dice_loss` in a band that narrows as published.

    It is 13 pixels wide at first, 2 fewer every 10 epochs, and at least 1.

    Training with `goctconv.learn_channels`, `goctconv.saliency.learn` or ``goctconv learn`` tells it the epoch
    that begins; other loops call `set_epoch`.

    Args:
        smooth: As in `dice_loss`.

    Raises:
        ArgumentError: ``smooth`` is not positive.

    Example:
        >>> from goctconv.saliency.losses import get_loss
        >>> loss = get_loss("boundary_dice")
        >>> loss.set_epoch(25)
        >>> loss.width
        9
    """

    def __init__(self, smooth: float = 1.0) -> None:
        check_smooth(smooth)
        self.smooth = smooth
        self.width = _WIDEST

    def set_epoch(self, epoch: int) -> None:
        """Choose the width of an epoch, from 0."""
        self.width = boundary_width(epoch)

    def __call__(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Return the loss for logits and masks."""
        return boundary_dice_loss(logits, masks, width=self.width, smooth=self.smooth)

    def __repr__(self) -> str:
        return "BoundaryDice()" if self.smooth == 1 else f"BoundaryDice({self.smooth})"


def _band(values: Tensor, width: int) -> Tensor:
    outside = 1 - values
    boundary = F.max_pool2d(outside, 3, 1, 1) - outside
    return F.max_pool2d(boundary, width, 1, width // 2)
