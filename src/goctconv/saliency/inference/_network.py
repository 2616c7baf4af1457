"""Saliency networks: their probabilities, their several outputs, and BatchNorm statistics from data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..._checks import ArgumentError, ArgumentTypeError, check_instance
from ..._torch import BatchNorm
from ...graph import evaluating, unwrapped

Map = NDArray[np.float32]
"""Numbers of pixels: the probabilities (H, W) of an image, or a preprocessed image (3, H, W)."""


class NotANumberError(ArgumentError, FloatingPointError):
    """A network's output is not a number: its weights are untrained, or BatchNorm statistics do not fit them."""


def check_model(model: object, argument: str = "model") -> None:
    """Refuse what is no network."""
    check_instance(argument, model, nn.Module, "a torch.nn.Module, such as goctconv.create_model(...)")


def home(model: nn.Module) -> Tensor:
    """Return an empty tensor of the device and floating point type that the model expects as its input."""
    floating = (tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.is_floating_point())
    return next(floating, torch.empty(0)).new_empty(0)


def each_probability(model: nn.Module, pixels: Sequence[Map]) -> list[Map]:
    """Return the map of each preprocessed image, as `probabilities` does: together where all have one size."""
    if len({image.shape for image in pixels}) > 1:
        return [probabilities(model, [image])[0] for image in pixels]
    return list(probabilities(model, pixels))


@torch.no_grad()
def probabilities(model: nn.Module, pixels: Sequence[Map]) -> NDArray[np.float32]:
    """Return the maps (B, H, W) of preprocessed images of equal size, by a network in eval mode."""
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


def calibrate_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running statistics of every BatchNorm to their average over some batches.

    A network of fresh weights cannot be run in eval mode before its running statistics fit them. Only the BatchNorm
    layers are in training mode meanwhile (dropout is off); their momentum and all training flags are
    restored. Where anything fails, the old statistics are restored too.

    Args:
        model: Any network with BatchNorm layers; changed in place.
        batches: Inputs of shape (B, C, H, W), of any device. Each batch counts the same, so make them equally large.

    Raises:
        ArgumentError: ``model`` is no network or has no BatchNorm with running statistics, or ``batches`` is a single
            tensor or empty.

    Example:
        >>> import torch
        >>> from goctconv.saliency import calibrate_batch_norm
        >>> norm = torch.nn.BatchNorm2d(1)
        >>> calibrate_batch_norm(norm, [torch.full((1, 1, 2, 2), 3.0), torch.full((1, 1, 2, 2), 5.0)])
        >>> norm.running_mean
        tensor([4.])
    """
    check_model(model)
    if isinstance(batches, Tensor):
        raise ArgumentTypeError("batches", batches, "several tensors", "pass a list, [tensor]")
    layers = [layer for layer in model.modules() if isinstance(layer, BatchNorm) and layer.running_mean is not None]
    if not layers:
        raise ArgumentError("model", model, problem="has no BatchNorm layer with running statistics")
    momenta = [layer.momentum for layer in layers]
    statistics = [{name: buffer.clone() for name, buffer in layer.named_buffers()} for layer in layers]
    done = False
    try:
        with evaluating(model):
            for layer in layers:
                layer.train()
                layer.momentum = None  # the cumulative average
                layer.reset_running_stats()
            done = _run(model, batches) > 0
    finally:
        for layer, momentum, saved in zip(layers, momenta, statistics, strict=True):
            layer.momentum = momentum
            if not done:
                for name, buffer in layer.named_buffers():
                    buffer.copy_(saved[name])
    if not done:
        raise ArgumentError("batches", [], "at least one tensor of shape (B, C, H, W)")


@torch.no_grad()
def _run(model: nn.Module, batches: Iterable[Tensor]) -> int:
    like = home(model)
    count = 0
    for batch in batches:
        if not isinstance(batch, Tensor):
            raise ArgumentTypeError(f"batches[{count}]", batch, "a tensor (B, C, H, W)", "pass preprocess(image)")
        model(batch.to(like))
        count += 1
    return count
