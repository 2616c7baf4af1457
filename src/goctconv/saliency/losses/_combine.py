"""Weighted sums of losses."""

import difflib
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor

from ._boundary import BoundaryDice
from ._overlap import dice_loss, iou_loss
from ._pixelwise import bce_loss
from ._ssim import ssim_loss

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]

_LOSSES: dict[str, Loss] = {"bce": bce_loss, "iou": iou_loss, "ssim": ssim_loss, "dice": dice_loss}
_CHANGING: dict[str, type[BoundaryDice]] = {"boundary_dice": BoundaryDice}  # from epoch to epoch: each has its own
_NAMES = (*_LOSSES, *_CHANGING)


class WeightedSum:
    """A weighted sum of losses.

    Args:
        losses: Functions of logits and masks.
        weights: One for each; by default all 1.

    Raises:
        TypeError: One of the losses cannot be called.
        ValueError: There are none, or another number of weights, or a weight is negative or not finite.

    Example:
        >>> import torch
        >>> from goctconv.saliency.losses import WeightedSum, bce_loss, iou_loss
        >>> WeightedSum([bce_loss, iou_loss], [1, 2])(torch.zeros(1, 1, 3, 3), torch.ones(1, 1, 3, 3))
        tensor(1.5931)
    """

    def __init__(self, losses: Sequence[Loss], weights: Sequence[float] | None = None) -> None:
        self.losses = tuple(losses)
        for loss in self.losses:
            check_loss(loss)
        self.weights = check_weights(
            [1.0] * len(self.losses) if weights is None else weights, len(self.losses), "losses"
        )

    def __call__(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Return the sum for logits and masks."""
        terms = [weight * loss(logits, masks) for weight, loss in zip(self.weights, self.losses, strict=True)]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, from 0, to losses that change from epoch to epoch."""
        for loss in self.losses:
            tell_epoch(loss, epoch)

    def __repr__(self) -> str:
        names = ", ".join(getattr(loss, "__name__", repr(loss)) for loss in self.losses)
        return f"WeightedSum([{names}], {list(self.weights)})"


def get_loss(name: str) -> Loss:
    """Return a loss by its name, for command lines and configuration files.

    Args:
        name: ``bce``, ``iou``, ``ssim``, ``dice``, ``boundary_dice``, or a sum of these, such as ``bce+iou`` or
            ``bce+0.5*ssim``.

    Raises:
        ValueError: A name is not known, or a factor is no positive number.

    Example:
        >>> from goctconv.saliency.losses import get_loss
        >>> get_loss("bce + 0.5*ssim")
        WeightedSum([bce_loss, ssim_loss], [1.0, 0.5])
    """
    terms = [_parse(term, name) for term in name.split("+")]
    if len(terms) == 1 and terms[0][0] == 1:
        return terms[0][1]
    return WeightedSum([loss for _, loss in terms], [weight for weight, _ in terms])


def tell_epoch(loss: object, epoch: int) -> None:
    """Tell the epoch, from 0, to a loss that has a ``set_epoch``."""
    set_epoch = getattr(loss, "set_epoch", None)
    if callable(set_epoch):
        set_epoch(epoch)


def check_loss(loss: Loss) -> None:
    """Refuse what cannot be called.

    Raises:
        TypeError: It cannot.
    """
    if not callable(loss) or isinstance(loss, type):
        raise TypeError(
            f"{loss!r} is no loss: pass a function of (logits, masks), such as bce_loss or get_loss('bce')."
        )


def check_weights(weights: Sequence[float], count: int, what: str) -> tuple[float, ...]:
    """Return weights as numbers.

    Raises:
        ValueError: There are none or not ``count``, or one is negative or not finite.
    """
    if len(weights) != count or not count:
        raise ValueError(f"there are {len(weights)} weights {list(weights)} for {count} {what}: pass one for each.")
    if not all(0 <= weight < math.inf for weight in weights):
        raise ValueError(f"weights is {list(weights)}, expected numbers from 0 on.")
    return tuple(float(weight) for weight in weights)


def _parse(term: str, name: str) -> tuple[float, Loss]:
    factor, star, loss = term.rpartition("*")
    loss = loss.strip()
    if loss not in _NAMES:
        near = difflib.get_close_matches(loss, _NAMES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"{loss!r} in {name!r} is no loss, expected one of {', '.join(_NAMES)}, or a sum.{hint}")
    try:
        weight = float(factor) if star else 1.0
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise ValueError(f"{factor.strip()!r} in {name!r} is no factor, expected a positive number as in 0.5*{loss}.")
    return weight, _CHANGING[loss]() if loss in _CHANGING else _LOSSES[loss]
