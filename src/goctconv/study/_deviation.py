"""Deviation of the outputs of a layer's channels: Fig. 4 of the paper."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import ArgumentError, ArgumentTypeError, nearest
from .._torch import BatchNorm
from ..graph import named_batch_norms, unwrapped
from ..optim import find_activations, global_average_pool


def measure_output_deviation(
    model: nn.Module, batches: Iterable[Tensor], *, layers: Sequence[str] | None = None
) -> dict[str, float]:
    """Measure how far apart the outputs of the channels are, behind each BatchNorm and its activation.

    Of a channel, the output is M, the metric of dynamic weight decay: the mean over images of abs(mean over pixels). Of
    a layer, the result is the standard deviation of M among its channels (dividing by their number). The network works
    in eval mode, as a copy: the model stays as it is. The activation behind a BatchNorm is found as
    `goctconv.DynamicWeightDecay` finds it; where there is none, the BatchNorm's own output counts.

    Args:
        model: Any network with BatchNorm.
        batches: Inputs of shape (B, C, H, W), of any device.
        layers: Which BatchNorms, such as ``model.dynamic_decay_names()``; all that have γ by default.

    Returns:
        The standard deviation by the layer's name, in the network's order; layers that no input reaches are absent.

    Raises:
        ArgumentTypeError: ``batches`` is a single tensor, or ``model`` is no network.
        ArgumentError: The model has no such BatchNorm, or there are no batches.

    Example:
        >>> import torch
        >>> from goctconv.study import measure_output_deviation
        >>> norm = torch.nn.BatchNorm2d(2)
        >>> _ = norm.bias.data.copy_(torch.tensor([1.0, 3.0]))
        >>> model = torch.nn.Sequential(norm, torch.nn.ReLU())
        >>> measure_output_deviation(model, [torch.zeros(1, 2, 4, 4)])
        {'0': 1.0}

    Source: Cheng et al., "A Highly Efficient Model to Study the Semantics of Salient Object Detection", TPAMI 2021,
    Fig. 4, which does not say how it was measured.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError("model", model, "a torch.nn.Module", "pass a network, such as create_model(...)")
    if isinstance(batches, Tensor):
        raise ArgumentTypeError("batches", batches, "several batches", "pass a list, [tensor]")
    network = copy.deepcopy(unwrapped(model))
    norms = _chosen(network, layers)
    totals: dict[str, Tensor] = {}
    like = next(network.parameters())
    images = 0
    for batch in batches:
        inputs = batch.to(like)
        if not images:
            for name, activation in _activations(network, norms, inputs).items():
                norms[name].register_forward_hook(functools.partial(_add, totals, name, activation))
        with torch.inference_mode():
            network(inputs)
        images += len(inputs)
    if not images:
        raise ArgumentError("batches", batches, "at least one tensor of shape (B, C, H, W)")
    return {name: (totals[name] / images).std(correction=0).item() for name in norms if name in totals}


def _add(
    totals: dict[str, Tensor], name: str, activation: Callable[[Tensor], Tensor], _: nn.Module, __: Any, output: Tensor
) -> None:
    """Add M of the images of a BatchNorm's output to that of its layer: a forward hook."""
    metric = global_average_pool(activation(output.detach())).sum(0, dtype=torch.float64)
    totals[name] = totals[name] + metric if name in totals else metric


def _chosen(network: nn.Module, layers: Sequence[str] | None) -> dict[str, BatchNorm]:
    norms = named_batch_norms(network)
    if not norms:
        raise ArgumentError("model", network, "a network that has a BatchNorm with γ")
    for name in layers or ():
        if name not in norms:
            raise ArgumentError("layers", name, f"the name of a BatchNorm with γ{nearest(name, norms)}")
    return norms if layers is None else {name: norms[name] for name in layers}


def _activations(
    network: nn.Module, norms: dict[str, BatchNorm], inputs: Tensor
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return what computes the activation behind each layer, from one training forward that leaves no trace."""
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.train()
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            pair = torch.cat([inputs[:1], inputs[-1:]])  # two images: of one, BatchNorm may have a single pixel
            paths = find_activations(network, norms, pair)
    finally:
        network.eval()
    for name, buffer in network.named_buffers():
        buffer.copy_(buffers[name])
    return {name: path.reproduce for name, path in paths.items()}
