"""Structural similarity."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ._basic import prepare

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
        masks: Of the same shape, floating point from 0 to 1.

    Returns:
        A scalar from 0 to 2.

    Raises:
        TypeError: They are no floating point tensors.
        ValueError: Their shapes are others.

    References:
        Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004.

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
