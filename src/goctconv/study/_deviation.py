"""How far apart the outputs of a layer's channels are."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .._torch import BatchNorm
from ..graph import named_batch_norms, unwrapped
from ..optim import find_activations, global_average_pool


def measure_output_deviation(
    model: nn.Module, batches: Iterable[Tensor], *, layers: Sequence[str] | None = None
) -> dict[str, float]:
    """Measure how far apart the outputs of the channels are, behind each BatchNorm and its activation.

    Of a channel, the output is M, what dynamic weight decay measures: the mean over images of abs(mean over pixels).
    Of a layer, the result is the standard deviation of M among its channels (dividing by their number). The network
    works in eval mode, as a copy: the model stays as it is. The activation behind a BatchNorm is found as
    `goctconv.DynamicWeightDecay` finds it; where there is none, the BatchNorm's own output counts.

    Args:
        model: Any network with BatchNorm.
        batches: Inputs of shape (B, C, H, W), of any device.
        layers: Which BatchNorms, such as ``model.dynamic_decay_names()``; all that have a scale by default.

    Returns:
        The standard deviation by the layer's name, in the network's order; layers that no input reaches are absent.

    Raises:
        TypeError: ``batches`` is a single tensor, or ``model`` is no network.
        ValueError: The model has no such BatchNorm, or there are no batches.

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
        raise TypeError(f"model is {model!r}, expected a torch.nn.Module, such as goctconv.create_model(...).")
    if isinstance(batches, Tensor):
        raise TypeError(
            f"batches is one tensor of shape {tuple(batches.shape)}, expected several batches: pass a list, [tensor]."
        )
    network = copy.deepcopy(unwrapped(model))
    norms = _chosen(network, layers)
    sums: dict[str, Tensor] = {}
    images = 0
    handles: list[Any] = []
    like = next(network.parameters())
    for batch in batches:
        inputs = batch.to(like)
        if not handles:
            for name, activation in _activations(network, norms, inputs).items():
                handles.append(norms[name].register_forward_hook(partial(_add, sums, name, activation)))
        with torch.inference_mode():
            network(inputs)
        images += len(inputs)
    if not images:
        raise ValueError("there are no batches to measure on: pass at least one tensor of shape (B, C, H, W).")
    return {name: (sums[name] / images).std(correction=0).item() for name in norms if name in sums}


def _chosen(network: nn.Module, layers: Sequence[str] | None) -> dict[str, BatchNorm]:
    norms = named_batch_norms(network)
    unknown = [name for name in layers or () if name not in norms]
    if unknown:
        raise ValueError(f"layers names {unknown[0]!r}, which is no BatchNorm with a scale of the model")
    chosen = norms if layers is None else {name: norms[name] for name in layers}
    if not chosen:
        raise ValueError(f"{type(network).__name__} has no BatchNorm with a scale: there is nothing to measure")
    return chosen


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


def _add(
    sums: dict[str, Tensor],
    name: str,
    activation: Callable[[Tensor], Tensor],
    module: nn.Module,
    inputs: tuple[Any, ...],
    output: Tensor,
) -> None:
    del module, inputs
    total = global_average_pool(activation(output.detach())).sum(0, dtype=torch.float64)
    sums[name] = sums[name] + total if name in sums else total
