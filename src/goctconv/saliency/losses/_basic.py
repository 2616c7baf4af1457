"""Losses of pixels, regions, boundaries and structure: cross-entropy, intersection over union, dice, SSIM."""

import math
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._checks import ArgumentError, ArgumentTypeError, check_integer, check_number

_NOTHING = -100.0  # a logit whose probability is 0


def prepare(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and masks in float32, or in float64 where the logits are; of ignored pixels, background in both."""
    return prepared(logits, masks)[:2]


def prepared(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits and masks as `prepare`, and by what a mean over all pixels becomes one over those that count.

    Where the mask is NaN, a pixel is ignored: both become certain background, which no gradient changes. Without such
    pixels, nothing changes, to the bit.
    """
    check_floating("logits", logits)
    check_floating("masks", masks)
    if logits.shape != masks.shape or logits.ndim != 4 or logits.shape[1] != 1 or not logits.numel():
        expected = f"(B, 1, H, W) as the logits {tuple(logits.shape)}, none of them 0"
        raise ArgumentError("masks", masks, expected, "resize one to the other, as DeepSupervision does")
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    counts = ~masks.isnan()
    logits, masks = without_ignored(logits.to(dtype), masks.to(dtype), counts)
    return logits, masks, masks.numel() / counts.sum().clamp(min=1).to(dtype)


def without_ignored(logits: Tensor, masks: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and masks with certain background in place of pixels that do not count."""
    return torch.where(counts, logits, _NOTHING), torch.where(counts, masks, 0.0)


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
        masks: Of the same shape, floating point from 0 to 1; NaN where a pixel is ignored.

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
    logits, masks, factor = prepared(logits, masks)
    return F.binary_cross_entropy_with_logits(logits, masks) * factor


_PIXELS = (1, 2, 3)


def check_smooth(smooth: float) -> None:
    """Refuse what would not keep empty masks harmless."""
    check_number("smooth", smooth, above=0, cure="pass 1.0: with 0, an empty mask gives 0 / 0")


def iou_loss(logits: Tensor, masks: Tensor, *, smooth: float = 1.0) -> Tensor:
    """One minus the soft intersection over union, the mean over images.

    With probabilities p and mask m, 1 - (Σ p·m + s) / (Σ p + Σ m - Σ p·m + s) for each image.

    Args:
        logits: Of shape (B, 1, H, W).
        masks: Of the same shape, floating point from 0 to 1; NaN where a pixel is ignored.
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

    With probabilities p and mask m, 1 - (2·Σ p·m + s) / (Σ p + Σ m + s) for each image. For distillation, a teacher's
    probabilities take the place of the mask: ``dice_loss(logits, teacher_logits.detach().sigmoid())``. The loss is then
    above 0 for equal maps too, unless all their pixels are 0 or 1.

    Args:
        logits: Of shape (B, 1, H, W).
        masks: Of the same shape, floating point from 0 to 1; NaN where a pixel is ignored.
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
    return _dice(logits.sigmoid(), masks, smooth)


def _dice(probabilities: Tensor, targets: Tensor, smooth: float) -> Tensor:
    """Return one minus the soft dice coefficient of two maps, the mean over images."""
    both = (probabilities * targets).sum(_PIXELS)
    total = probabilities.sum(_PIXELS) + targets.sum(_PIXELS)
    return (1 - (2 * both + smooth) / (total + smooth)).mean()


_WIDEST = 13
_EPOCHS = 10  # after which the band is two pixels narrower


def boundary_dice_loss(logits: Tensor, masks: Tensor, *, width: int = _WIDEST, smooth: float = 1.0) -> Tensor:
    """One minus the soft dice coefficient of the boundaries of map and mask, the mean over images, as in KD-SCFNet.

    The boundary of v is maxpool₃(1 − v) − (1 − v), widened by a max-pool over ``width`` pixels, an odd number.
    """
    check_smooth(smooth)
    if check_integer("width", width, least=1) % 2 == 0:
        raise ArgumentError("width", width, "an odd number of pixels")
    logits, masks = prepare(logits, masks)
    return _dice(_band(logits.sigmoid(), width), _band(masks, width), smooth)


def _band(values: Tensor, width: int) -> Tensor:
    outside = 1 - values
    boundary = F.max_pool2d(outside, 3, 1, 1) - outside
    return F.max_pool2d(boundary, width, 1, width // 2)


def boundary_width(epoch: int) -> int:
    """Return the published width of the band in an epoch: 13 pixels at first, 2 fewer every 10 epochs, at least 1."""
    return max(1, _WIDEST - 2 * ((check_integer("epoch", epoch, least=0) + 1) // _EPOCHS))


class BoundaryDice:
    """`boundary_dice_loss` in a band that narrows as published; ``set_epoch`` tells it the epoch that begins."""

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


Reduction: TypeAlias = Literal["mean", "sum"]


def reduced(loss: Tensor, masks: Tensor, reduction: Reduction) -> Tensor:
    """Return a loss that is a mean over pixels of masks (B, 1, H, W), as the reduction wants it."""
    height, width = masks.shape[-2:]
    return loss if reduction == "mean" else loss * (height * width)


_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2
_GAUSSIAN = [math.exp(-0.5 * ((place - _WINDOW // 2) / _SIGMA) ** 2) for place in range(_WINDOW)]
_WEIGHTS = tuple(value / math.fsum(_GAUSSIAN) for value in _GAUSSIAN)


def ssim_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """One minus the structural similarity of probabilities and masks, the mean over all pixels.

    SSIM with a Gaussian window of 11×11 pixels (standard deviation 1.5), C1 = 0.01² and C2 = 0.03², as
    saliency networks use it: beyond the border, both images are taken for 0. It weighs pixels near the boundaries of
    objects most.

    Args:
        logits: Of shape (B, 1, H, W).
        masks: Of the same shape, floating point from 0 to 1; NaN where a pixel is ignored.

    Returns:
        A scalar from 0 to 2.

    Raises:
        ArgumentError: They are no floating point tensors of one such shape.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004.

    Example:
        >>> import torch
        >>> from goctconv.saliency.losses import ssim_loss
        >>> masks = torch.eye(16)[None, None]
        >>> ssim_loss(200 * masks - 100, masks)
        tensor(0.)
    """
    logits, masks = prepare(logits, masks)
    p = logits.sigmoid()
    moments = torch.cat([p, masks, p * p, masks * masks, p * masks], dim=1)
    mean_p, mean_m, square_p, square_m, product = torch.chunk(_windowed(moments), 5, dim=1)
    covariance = product - mean_p * mean_m
    variances = (square_p - mean_p**2) + (square_m - mean_m**2)
    means = mean_p**2 + mean_m**2
    similarity = (2 * mean_p * mean_m + _C1) * (2 * covariance + _C2) / ((means + _C1) * (variances + _C2))
    return 1 - similarity.mean()


def _windowed(images: Tensor) -> Tensor:
    """Return the weighted mean around each pixel, in each image.

    Sums of shifted images: convolutions of one channel are ten times slower on CPUs (torch 2.14), and on GPUs they may
    run in TF32, whose 10 bits are not enough for differences of squares.
    """
    half = _WINDOW // 2
    for axis, padding in ((2, (0, 0, half, half)), (3, (half, half, 0, 0))):
        padded, length = F.pad(images, padding), images.shape[axis]
        images = padded.narrow(axis, half, length) * _WEIGHTS[half]
        for step in range(1, half + 1):
            both = padded.narrow(axis, half - step, length) + padded.narrow(axis, half + step, length)
            images = images.add(both, alpha=_WEIGHTS[half + step])
    return images
