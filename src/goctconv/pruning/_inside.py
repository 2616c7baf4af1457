"""Comparison of what modules put out, for networks that put out nothing on an input, such as detectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .._torch import BatchNorm, ConvNd
from ._inputs import tensors_of


def outputs_inside(model: nn.Module, run: Callable[[], object]) -> dict[str, list[Tensor]]:
    """Return what the modules of a model put out, by path, at their first calls.

    Those are left out that constants of channels may be moved into, and the model itself.
    """
    found: dict[str, list[Tensor]] = {}

    def remember(path: str, output: Any) -> None:
        if path not in found:
            found[path] = [tensor.clone() for tensor in tensors_of(output) if tensor.is_floating_point()]

    handles = [
        module.register_forward_hook(lambda _, __, output, path=path: remember(path, output))
        for path, module in model.named_modules()
        if path and not isinstance(module, BatchNorm | ConvNd | nn.Linear)
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found


def comparable(
    expected: dict[str, list[Tensor]], actual: dict[str, list[Tensor]]
) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Return pairs of tensors, of equal shapes, that two networks put out inside, by path."""
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for path, outputs in expected.items():
        others = actual.get(path, [])
        if [output.shape for output in outputs] == [other.shape for other in others]:
            pairs[path] = [(a, b) for a, b in zip(outputs, others, strict=True) if a.numel()]
    return {path: found for path, found in pairs.items() if found}
