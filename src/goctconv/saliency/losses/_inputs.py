"""What losses take: logits and masks, in full precision.

Only what autocast leaves in float32 is done with them: no convolution and no matrix product.
"""

import torch
from torch import Tensor


def prepare(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and masks in float32, or in float64 where the logits are.

    Raises:
        TypeError: They are no floating point tensors.
        ValueError: They are not of one shape (B, 1, H, W), or empty.
    """
    check_floating("logits", logits)
    check_floating("masks", masks)
    if logits.shape != masks.shape or logits.ndim != 4 or logits.shape[1] != 1 or not logits.numel():
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} and masks {tuple(masks.shape)}, expected the same (B, 1, H, W), "
            "none of them 0: resize one to the other (DeepSupervision does it)."
        )
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return logits.to(dtype), masks.to(dtype)


def check_floating(name: str, values: object) -> None:
    """Refuse what is no floating point tensor.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(values, Tensor):
        raise TypeError(f"{name} is of type {type(values).__name__}, expected a tensor of shape (B, 1, H, W).")
    if not values.is_floating_point():
        raise TypeError(
            f"{name} is of type {values.dtype}, expected floating point: pass the network's logits, and masks from "
            "0 to 1 (masks.float(), divided by 255 where the highest value is 255)."
        )
