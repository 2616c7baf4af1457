"""Saliency maps of photographs."""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ..graph import evaluating
from ._images import ImageLike
from ._network import each_probability
from ._pipeline import default_workers, run_pipeline
from ._preprocess import Prepared, Size, check_size_or_own, prepare
from ._resize import resize_bilinear


def predict(
    model: nn.Module,
    images: Iterable[ImageLike],
    *,
    size: Size = 224,
    batch_size: int = 8,
    device: str | torch.device = "auto",
) -> list[NDArray[np.float32]]:
    """Predict the saliency map of each image, as published.

    Images are resized to ``size``, the network's probabilities are resized back. Files are decoded in threads while the
    network runs. The model is in eval mode during the call and gets its flags back.

    Args:
        model: A network that takes normalised images (B, 3, H, W) and returns logits (B, 1, H, W).
        images: Paths, the bytes of image files, PIL images, or uint8 arrays of shape (H, W, 3) or (H, W). EXIF
            orientation is applied.
        size: The network's input size: one integer or (height, width), at least 32; or ``"own"``: images keep the size
            that they have, and those of different sizes go through the network one by one.
        batch_size: Images per forward pass. It changes speed and memory, not the maps (beyond rounding).
        device: "auto" is where the model is. On another device a copy of the model runs; yours stays where it is.

    Returns:
        For each image a float32 array (H, W) of its own upright size, with values from 0 to 1.

    Raises:
        ImageError: An image cannot be read.
        TypeError: ``images`` is a single image, ``model`` no network, or ``size`` or ``batch_size`` no integer.
        ValueError: ``size`` or ``batch_size`` is too small, or the model's output is not a map.

    Example:
        >>> import numpy as np, torch
        >>> from goctconv.saliency import predict
        >>> model = torch.nn.Conv2d(3, 1, 1)  # any network that returns logits
        >>> [saliency.shape for saliency in predict(model, [np.zeros((30, 40, 3), np.uint8)])]
        [(30, 40)]
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {model!r}, expected a torch.nn.Module, such as goctconv.create_model(...).")
    refuse_single(images)
    network_size = check_size_or_own(size)
    check_batch_size(batch_size)
    with evaluating(model, device) as network:
        return predict_all(images, lambda pixels: each_probability(network, pixels), network_size, batch_size)


def predict_all(
    images: Iterable[ImageLike],
    infer: Callable[[Sequence[NDArray[np.float32]]], Sequence[NDArray[np.float32]]],
    size: tuple[int, int] | None,
    batch_size: int,
) -> list[NDArray[np.float32]]:
    """Return the maps of images, at their own sizes; ``infer`` returns those of a batch at the network's."""

    def load(source: tuple[int, ImageLike]) -> Prepared:
        index, image = source
        name = str(image) if isinstance(image, (str, os.PathLike)) else f"images[{index}]"
        return prepare(image, size, name=name)

    def finish(_: object, probability: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
        return resize_bilinear(probability, shape, dtype=np.float32)

    maps = []
    pipeline = run_pipeline(enumerate(images), load, infer, finish, batch_size=batch_size, workers=default_workers())
    with closing(pipeline) as outcomes:
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
            if outcome.value is not None:
                maps.append(outcome.value)
    return maps


def check_batch_size(batch_size: int) -> int:
    """Return the batch size.

    Raises:
        TypeError: It is no integer.
        ValueError: It is less than 1.
    """
    if not hasattr(batch_size, "__index__"):
        raise TypeError(f"batch_size is {batch_size!r}, expected an integer of at least 1.")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected at least 1.")
    return int(batch_size)


def refuse_single(images: object) -> None:
    """Refuse what is not a collection of images.

    Raises:
        TypeError: It is one image.
    """
    if isinstance(images, (str, os.PathLike, bytes, Image.Image)):
        raise TypeError(f"images is a single {type(images).__name__}, expected a list: predict(model, [image]).")
    if isinstance(images, (np.ndarray, Tensor)):
        raise TypeError(
            f"images is one {type(images).__name__} of shape {tuple(images.shape)}, expected a list of uint8 arrays "
            "(H, W, 3): predict(model, [image]), or predict(model, list(images)) for a stack of images."
        )
