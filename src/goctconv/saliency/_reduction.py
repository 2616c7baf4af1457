"""How the loss of an image is made of those of its pixels."""

from typing import Literal, TypeAlias, get_args

from torch import Tensor

Reduction: TypeAlias = Literal["mean", "sum"]


def check_reduction(reduction: Reduction) -> Reduction:
    """Return a reduction.

    Raises:
        ValueError: There is none of that name.
    """
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction is {reduction!r}, expected one of {', '.join(map(repr, get_args(Reduction)))}.")
    return reduction


def reduced(loss: Tensor, masks: Tensor, reduction: Reduction) -> Tensor:
    """Return a loss that is a mean over pixels of masks (B, 1, H, W), as the reduction wants it."""
    height, width = masks.shape[-2:]
    return loss if reduction == "mean" else loss * (height * width)
