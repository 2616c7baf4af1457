"""A trained network as a teacher: its maps of images, in eval mode and without gradients."""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._checks import check_choice
from ...graph import evaluating
from .._resize import check_size
from ..inference import check_model

_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Teacher:
    """A network whose maps a student learns.

    Args:
        network: Returns logits (B, 1, H, W) of normalised images (B, 3, H, W); of several outputs, the first counts.
            It is in eval mode while it runs, and gets its flags back.
        size: Images are resized to this one for it, and its maps back; by default they stay as they are.
        amp: Mixed precision: ``"bf16"``, or ``"fp16"``; by default it runs in its own.
    """

    def __init__(
        self, network: nn.Module, *, size: int | tuple[int, int] | None = None, amp: str | None = None
    ) -> None:
        check_model(network, "teacher")
        if amp is not None:
            check_choice("teacher_amp", amp, tuple(_PRECISIONS), "leave it out for full precision")
        self.network = network
        self.size = None if size is None else check_size(size)
        self.amp = amp

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return probabilities (B, 1, H, W) of images (B, 3, H, W), in float32, or in float64 where images are."""
        given = images if self.size is None else _resized(images, self.size)
        precision = _PRECISIONS.get(self.amp or "", torch.bfloat16)
        with evaluating(self.network), torch.autocast(images.device.type, precision, enabled=self.amp is not None):
            found = self.network(given)
        logits = found[0] if isinstance(found, tuple | list) and found else found
        if not isinstance(logits, Tensor) or logits.shape[:2] != (len(images), 1) or logits.dim() != 4:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"the teacher returned {got} for images of shape {tuple(given.shape)}, expected logits of shape "
                f"({len(images)}, 1, H, W)"
            )
        maps = (logits if logits.dtype == torch.float64 else logits.float()).sigmoid()
        if not torch.isfinite(maps).all():
            raise ValueError("the teacher's map is not a number (NaN): load trained weights into it")
        return maps if maps.shape[-2:] == images.shape[-2:] else _resized(maps, images.shape[-2:])

    def fingerprint(self) -> str:
        """Return a text that tells this teacher from others: of its class, weights, size and precision."""
        digest = hashlib.sha256(f"{type(self.network).__name__} {self.size} {self.amp}".encode())
        for name, tensor in self.network.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


def _resized(images: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    return F.interpolate(images, tuple(size), mode="bilinear", align_corners=False)
