"""A layer's parameters as the oracles take them, and random ones put into a layer."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from reference.octave import Norm


def array(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as a float64 array."""
    return tensor.detach().numpy().astype(np.float64)


def path_weights(layer: nn.Module) -> dict[tuple[int, int], np.ndarray]:
    """The kernels of a GOctConv by (input scale, output scale)."""
    weights = {}
    for name, convolution in layer.paths.items():
        source, target = name.split("_to_")
        weights[int(source), int(target)] = array(convolution.weight)
    return weights


def path_biases(layer: nn.Module) -> dict[int, np.ndarray]:
    """The biases of a GOctConv by output scale, of which no scale may have two."""
    biases: dict[int, np.ndarray] = {}
    for name, convolution in layer.paths.items():
        scale = int(name.split("_to_")[1])
        if convolution.bias is not None:
            assert scale not in biases, f"output scale {scale} has two biases"
            biases[scale] = array(convolution.bias)
    return biases


def scale_weights(convolutions: nn.ModuleDict) -> dict[int, np.ndarray]:
    """The raw kernels of a SimplifiedGOctConv by scale."""
    return {int(scale): array(convolution.weight) for scale, convolution in convolutions.items()}


def scale_biases(convolutions: nn.ModuleDict) -> dict[int, np.ndarray]:
    """The biases of a SimplifiedGOctConv by scale, empty where it has none."""
    return {
        int(scale): array(convolution.bias)
        for scale, convolution in convolutions.items()
        if convolution.bias is not None
    }


def branch_parameters(layer: nn.Module, name: str) -> dict[tuple[int, int], np.ndarray]:
    """The raw weights or biases of a ParallelDilatedConv by (scale, branch)."""
    return {
        (int(scale), int(branch)): array(getattr(convolution, name))
        for scale, branches in layer.branches.items()
        for branch, convolution in branches.items()
        if getattr(convolution, name) is not None
    }


def norms(layer: nn.Module) -> dict[int, Norm]:
    """What each scale's BatchNorm uses in eval mode."""
    return {
        int(scale): Norm(*map(array, (norm.running_mean, norm.running_var, norm.weight, norm.bias)))
        for scale, norm in layer.named_children()
    }


def slopes(layer: nn.Module) -> dict[int, np.ndarray]:
    """The PReLU slopes of each scale."""
    return {int(scale): array(act.weight) for scale, act in layer.named_children()}


def calibrate(block: nn.Module, features: object) -> nn.Module:
    """Give every norm and activation random parameters and the statistics of ``features``; eval mode.

    With running statistics of 0 and 1, weights times 100 overflow in a chain of blocks.
    """
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
        elif isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0.1, 0.5)
    with torch.no_grad():
        block.train()(features)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return block.eval()
