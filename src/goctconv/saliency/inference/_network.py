"""A saliency network's outputs: probabilities, and all outputs of networks that have several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..._checks import ArgumentError, check_instance
from ...graph import unwrapped


class NotANumberError(ArgumentError, FloatingPointError):
    """A network's output is not a number: its weights are untrained, or BatchNorm statistics do not fit them."""


def check_model(model: object, argument: str = "model") -> None:
    """Refuse what is no network."""
    check_instance(argument, model, nn.Module, "a torch.nn.Module, such as goctconv.create_model(...)")


def home(model: nn.Module) -> Tensor:
    """Return an empty tensor of the device and floating point type that the model expects as its input."""
    for parameter in (*model.parameters(), *model.buffers()):
        if parameter.is_floating_point():
            return parameter.new_empty(0)
    return torch.empty(0)


def each_probability(model: nn.Module, pixels: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Return the map of each preprocessed image, as `probabilities` does: together where all have one size."""
    if len({image.shape for image in pixels}) > 1:
        return [probabilities(model, [image])[0] for image in pixels]
    return list(probabilities(model, pixels))


@torch.no_grad()
def probabilities(model: nn.Module, pixels: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the maps of a batch of preprocessed images of equal size.

    Args:
        model: A network in eval mode that returns logits of shape (B, 1, H, W).
        pixels: Arrays of shape (3, H, W).

    Returns:
        Probabilities of shape (B, H, W).
    """
    inputs = torch.from_numpy(np.stack(pixels)).to(home(model))
    if inputs.device.type == "cpu":
        # Convolutions keep this order, and CSNet's take half the time in it (torch 2.15, batches of 8 at 224 x 224).
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    return maps_of(model(inputs), tuple(inputs.shape))


def maps_of(logits: object, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the probabilities (B, H, W) of what a network returned for images of a shape (B, C, H, W)."""
    if not isinstance(logits, Tensor) or logits.ndim != 4 or logits.shape[:2] != (shape[0], 1):
        expected = f"one tensor of shape ({shape[0]}, 1, H, W) for images of shape {shape}"
        raise ArgumentError("logits", logits, expected, "pass a {model} with a single output map")
    maps = torch.sigmoid(logits[:, 0].float()).cpu()
    if torch.isnan(maps).any():
        cure = "load trained weights, or call goctconv.saliency.calibrate_batch_norm(model, batches) first"
        raise NotANumberError("logits", logits, problem="is not a number (NaN)", cure=cure)
    return np.asarray(maps.numpy(), dtype=np.float32)


def all_outputs(network: nn.Module, images: Tensor) -> Sequence[Tensor]:
    """Return what ``forward_multi`` of a network returns, or its only output where it has no such method.

    The network may be wrapped in DistributedDataParallel or compiled: both call ``forward`` and nothing else, in whose
    place ``forward_multi`` is put for the call.
    """
    inner = unwrapped(network)
    multi = getattr(inner, "forward_multi", None)
    if multi is None:
        return (network(images),)
    vars(inner)["forward"] = multi
    try:
        outputs: Sequence[Tensor] = network(images)
    finally:
        del vars(inner)["forward"]
    return outputs
