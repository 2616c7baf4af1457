"""Maps and masks as batches of 8-bit levels."""

import math
from typing import Literal

import torch
from torch import Tensor

_SHAPES = "(H, W), (B, H, W) or (B, 1, H, W)"


def to_levels(prediction: Tensor, mask: Tensor, rounding: Literal["truncate", "nearest"]) -> tuple[Tensor, Tensor]:
    """Return maps and masks as uint8 tensors of shape (B, H, W) on the maps' device.

    Args:
        prediction: Levels (uint8), probabilities (floating point) or bool, of shape (H, W), (B, H, W) or (B, 1, H, W).
        mask: The same types and sizes; one of the three shapes.
        rounding: How probabilities become levels. Masks are always rounded to the nearest level.

    Raises:
        TypeError: One is not a tensor, or of another type.
        ValueError: Sizes differ, or values are out of range or not a number.
    """
    maps, truth = _as_batch(prediction, "prediction"), _as_batch(mask, "mask")
    if maps.shape != truth.shape:
        raise ValueError(
            f"prediction has shape {tuple(prediction.shape)}, mask {tuple(mask.shape)}, expected the same number and "
            "size of images: resize the predictions to their masks' sizes first, and pass images of different sizes in "
            "separate calls."
        )
    if truth.dtype == torch.uint8 and int(truth.max()) == 1:
        raise ValueError(
            "mask is of type uint8 and its values are 0 and 1, expected 0 to 255: a foreground of 1 would count as "
            "background. Pass mask.bool(), or mask * 255."
        )
    return _quantize(maps, "prediction", rounding), _quantize(truth.to(maps.device), "mask", "nearest")


def _as_batch(tensor: Tensor, name: str) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}, expected a tensor: torch.as_tensor(numpy.asarray(...)).")
    batch = tensor.detach()
    if batch.ndim == 4 and batch.shape[1] == 1:
        batch = batch[:, 0]
    elif batch.ndim == 2:
        batch = batch[None]
    if batch.ndim != 3 or 0 in batch.shape:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}, expected {_SHAPES} with at least one pixel: pass one channel "
            "of grey levels."
        )
    return batch


def _quantize(tensor: Tensor, name: str, rounding: Literal["truncate", "nearest"]) -> Tensor:
    if tensor.dtype == torch.uint8:
        return tensor
    if tensor.dtype == torch.bool:
        return tensor.to(torch.uint8) * 255
    if not tensor.is_floating_point():
        raise TypeError(
            f"{name} is of type {tensor.dtype}, expected uint8 (0 to 255), bool or floating point (0 to 1): convert "
            f"with {name}.to(torch.uint8)."
        )
    low, high = (float(bound) for bound in torch.aminmax(tensor))  # NaN where any value is NaN
    if not (low >= 0 and high <= 1):
        if math.isnan(low) or math.isnan(high):
            raise ValueError(
                f"{name} holds NaN: the model's weights or BatchNorm statistics do not fit (see "
                "goctconv.saliency.calibrate_batch_norm)."
            )
        cure = "divide by 255, or pass uint8" if low >= 0 and high <= 255 else "apply torch.sigmoid to logits first"
        raise ValueError(f"{name} has values from {low:.6g} to {high:.6g}, expected 0 to 1: {cure}.")
    scaled = (tensor if tensor.dtype == torch.float64 else tensor.float()) * 255
    return (scaled.round() if rounding == "nearest" else scaled).to(torch.uint8)
