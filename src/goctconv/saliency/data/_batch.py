"""Examples put together."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._preprocess import MIN_SIZE
from ._check import SkippedPair
from ._dataset import Dropped, Example


class Batch(NamedTuple):
    """Photographs and masks of one size.

    Args:
        images: Of shape (B, 3, H, W), normalised, in float32.
        masks: Of shape (B, 1, H, W), from 0 to 1, in float32.
        names: The photographs' files.
        skipped: Pairs that could not be read.

    Example:
        >>> import torch
        >>> from goctconv.saliency import Batch
        >>> batch = Batch(torch.zeros(2, 3, 64, 64), torch.zeros(2, 1, 64, 64), ("cat.jpg", "dog.jpg"))
        >>> batch.to("cpu").images.dtype
        torch.float32
    """

    images: Tensor
    masks: Tensor
    names: tuple[str, ...]
    skipped: tuple[SkippedPair, ...] = ()

    def to(self, device: torch.device | str | int, *, non_blocking: bool = False) -> "Batch":
        """Return the batch with its tensors on a device."""
        return self._replace(
            images=self.images.to(device, non_blocking=non_blocking),
            masks=self.masks.to(device, non_blocking=non_blocking),
        )


def collate(examples: Sequence[Example | Dropped]) -> Batch:
    """Put the examples of a `SaliencyDataset` together to a batch.

    Examples that could not be made are left out, so that a batch may be smaller, or empty: (0, 3, H, W).

    Args:
        examples: At least one; all of one size.

    Raises:
        ValueError: The sizes differ.

    Example:
        >>> import torch
        >>> from goctconv.saliency import Example, collate
        >>> cat = Example(torch.zeros(3, 64, 64), torch.zeros(1, 64, 64), "cat.jpg")
        >>> collate([cat, cat]).images.shape
        torch.Size([2, 3, 64, 64])
    """
    kept = [example for example in examples if isinstance(example, Example)]
    skipped = tuple(pair for example in examples for pair in example.skipped)
    if not kept:
        size = next(example.size for example in examples if isinstance(example, Dropped))
        height, width = size or (MIN_SIZE, MIN_SIZE)
        return Batch(torch.zeros(0, 3, height, width), torch.zeros(0, 1, height, width), (), skipped)
    sizes = {tuple(example.image.shape[1:]) for example in kept}
    if len(sizes) > 1:
        raise ValueError(f"the images of a batch have the sizes {sorted(sizes)}, expected one: give all the same size.")
    images = torch.stack([example.image for example in kept])
    masks = torch.stack([example.mask for example in kept])
    return Batch(images, masks, tuple(example.name for example in kept), skipped)
