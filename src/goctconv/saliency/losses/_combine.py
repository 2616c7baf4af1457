"""Losses by name, weighted sums of losses, and a loss on each of several outputs."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._checks import ArgumentError, ArgumentTypeError, check_choice, nearest
from ._basic import BoundaryDice, bce_loss, check_floating, dice_loss, iou_loss, ssim_loss, without_ignored

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]

_LOSSES: dict[str, Loss] = {"bce": bce_loss, "iou": iou_loss, "ssim": ssim_loss, "dice": dice_loss}
_CHANGING: dict[str, type[BoundaryDice]] = {"boundary_dice": BoundaryDice}  # from epoch to epoch: each has its own
_NAMES = (*_LOSSES, *_CHANGING)


class WeightedSum:
    """A sum of losses, each with its weight, by default 1."""

    def __init__(self, losses: Sequence[Loss], weights: Sequence[float] | None = None) -> None:
        self.losses = tuple(losses)
        for loss in self.losses:
            check_loss(loss)
        weights = [1.0] * len(self.losses) if weights is None else weights
        self.weights = check_weights(weights, len(self.losses), "losses")

    def __call__(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Return the sum for logits and masks."""
        terms = (
            weight * apply_loss(loss, logits, masks) for weight, loss in zip(self.weights, self.losses, strict=True)
        )
        return functools.reduce(torch.add, terms)

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, from 0, to losses that change from epoch to epoch."""
        for loss in self.losses:
            tell_epoch(loss, epoch)

    def __repr__(self) -> str:
        names = ", ".join(getattr(loss, "__name__", repr(loss)) for loss in self.losses)
        return f"WeightedSum([{names}], {list(self.weights)})"


def apply_loss(loss: Loss, logits: Tensor, masks: Tensor) -> Tensor:
    """Return a loss; ones that do not know of ignored pixels, where masks are NaN, see certain background there."""
    if (
        loss not in _LOSSES.values()
        and not isinstance(loss, BoundaryDice | WeightedSum)
        and logits.shape == masks.shape
    ):
        logits, masks = without_ignored(logits, masks, ~masks.isnan())
    return loss(logits, masks)


def get_loss(name: str) -> Loss:
    """Return a loss by its name, for command lines and configuration files.

    The names are ``bce`` (`bce_loss`), ``iou`` (`iou_loss`), ``ssim`` (`ssim_loss`), ``dice`` (`dice_loss`) and
    ``boundary_dice``: one minus the soft dice coefficient of the boundaries of map and mask, as in KD-SCFNet. The
    boundary of v is maxpool₃(1 - v) - (1 - v), widened by a max-pool to a band of 13 pixels at first, 2 fewer every 10
    epochs, and at least 1. Training with `goctconv.learn_channels`, `goctconv.saliency.learn` or ``goctconv learn``
    tells such a loss the epoch that begins; other loops call its method ``set_epoch(epoch)``, with epochs from 0.

    Args:
        name: One of these names, or a sum of them, such as ``bce+iou`` or ``bce+0.5*ssim``.

    Returns:
        A function of logits and masks, (B, 1, H, W), that returns a scalar. Of ``boundary_dice``, and of sums with it,
        each call makes a new one.

    Raises:
        ArgumentError: A name is not known, or a factor is no positive number.

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
    if callable(set_epoch := getattr(loss, "set_epoch", None)):
        set_epoch(epoch)


def check_loss(loss: Loss) -> None:
    """Refuse what cannot be called."""
    if not callable(loss) or isinstance(loss, type):
        raise ArgumentTypeError("loss", loss, "a function of (logits, masks)", "pass bce_loss, or get_loss('bce')")


def check_weights(weights: Sequence[float], count: int, what: str) -> tuple[float, ...]:
    """Return weights as numbers."""
    if len(weights) != count or not count:
        raise ArgumentError("weights", list(weights), f"one for each of {count} {what}")
    if not all(0 <= weight < math.inf for weight in weights):
        raise ArgumentError("weights", list(weights), "numbers of at least 0")
    return tuple(float(weight) for weight in weights)


def _parse(term: str, name: str) -> tuple[float, Loss]:
    factor, star, loss = term.rpartition("*")
    loss = loss.strip()
    if loss not in _NAMES:
        known = f"a sum of {', '.join(_NAMES)}{nearest(loss, _NAMES)}"
        raise ArgumentError("loss", name, known, problem=f"names {loss!r}")
    try:
        weight = float(factor) if star else 1.0
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        expected = f"a positive number as in 0.5*{loss}"
        raise ArgumentError("loss", name, expected, problem=f"has the factor {factor.strip()!r}")
    return weight, _CHANGING[loss]() if loss in _CHANGING else _LOSSES[loss]


Resized = Literal["logits", "masks"]


class DeepSupervision:
    """The weighted sum of a loss over several outputs of a network, of any sizes.

    Args:
        loss: A function of logits and masks.
        weights: One for each output; by default 1, ½, ¼, ⅛ and so on, as in KD-SCFNet.
        resize: What is resized where sizes differ: ``"logits"``, bilinearly, to the masks' size; or ``"masks"``, by
            averaging areas, to each output's size, which is faster and keeps shares of pixels as soft values.

    Raises:
        ArgumentError: ``loss`` cannot be called, a weight is negative or not finite, or ``resize`` is something else.

    Example:
        >>> import torch
        >>> from goctconv.saliency.losses import DeepSupervision, bce_loss
        >>> outputs = [torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 4, 4)]
        >>> DeepSupervision(bce_loss)(outputs, torch.ones(1, 1, 8, 8))  # 1.5 · 0.6931
        tensor(1.0397)
    """

    def __init__(self, loss: Loss, weights: Sequence[float] | None = None, *, resize: Resized = "logits") -> None:
        check_loss(loss)
        self.loss = loss
        self.weights = None if weights is None else check_weights(weights, len(weights), "outputs")
        self.resize = check_choice("resize", resize, get_args(Resized))

    def __call__(self, outputs: Sequence[Tensor] | Tensor, masks: Tensor) -> Tensor:
        """Return the sum over the outputs.

        Args:
            outputs: Logits, each of shape (B, 1, h, w), in the order of the weights.
            masks: Of shape (B, 1, H, W), floating point from 0 to 1.

        Raises:
            ArgumentError: ``outputs`` is a single tensor, there are no outputs or another number than weights, shapes
                do not fit, or something is no floating point tensor.
        """
        if isinstance(outputs, Tensor):
            raise ArgumentTypeError("outputs", outputs, "several outputs", "pass a list, [logits], or call the loss")
        halved = [0.5**index for index in range(len(outputs))]
        weights = check_weights(halved if self.weights is None else self.weights, len(outputs), "outputs")
        total = torch.zeros((), device=masks.device)
        for weight, logits in zip(weights, outputs, strict=True):
            total = total + weight * apply_loss(self.loss, *self._match(logits, masks))
        return total

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, from 0, to a loss that changes from epoch to epoch."""
        tell_epoch(self.loss, epoch)

    def __repr__(self) -> str:
        weights = None if self.weights is None else list(self.weights)
        return f"DeepSupervision({getattr(self.loss, '__name__', self.loss)}, {weights}, resize={self.resize!r})"

    def _match(self, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Bring both to one size, in full precision."""
        check_floating("outputs", logits)
        check_floating("masks", masks)
        if logits.ndim != 4 or masks.ndim != 4 or logits.shape[2:] == masks.shape[2:]:
            return logits, masks  # where that is wrong, the loss says what it expects
        changed = masks if self.resize == "masks" else logits
        full = changed if changed.dtype == torch.float64 else changed.float()
        if self.resize == "masks":
            return logits, F.interpolate(full, logits.shape[2:], mode="area")
        return F.interpolate(full, masks.shape[2:], mode="bilinear", align_corners=False), masks
