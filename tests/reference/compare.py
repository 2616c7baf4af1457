"""Comparison of a layer's result with an oracle's, and inputs to feed both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}


def assert_equal(actual: Tensor, expected: np.ndarray, tolerance: float | None = None) -> None:
    """Shape and values: within ``tolerance`` (the dtype's by default) of the largest expected value."""
    assert isinstance(actual, Tensor), f"expected a tensor, got {type(actual).__name__}"
    assert tuple(actual.shape) == expected.shape
    if expected.size == 0:
        return
    tolerance = TOLERANCE[actual.dtype] if tolerance is None else tolerance
    values = actual.detach().numpy().astype(np.float64)
    assert np.isfinite(values).all()
    error = np.abs(values - expected).max() / max(np.abs(expected).max(), 1e-30)
    assert error <= tolerance, f"differs by {error:.2e} of the largest value, at most {tolerance:.0e} allowed"


def assert_features_equal(
    actual: tuple[Tensor, ...], expected: Sequence[np.ndarray], tolerance: float | None = None
) -> None:
    """`assert_equal` at every scale of a tuple."""
    assert isinstance(actual, tuple), f"expected a tuple, got {type(actual).__name__}"
    assert len(actual) == len(expected)
    for tensor, array in zip(actual, expected, strict=True):
        assert_equal(tensor, array, tolerance)


def sizes_of(size: tuple[int, int], reductions: Sequence[int]) -> list[tuple[int, int]]:
    """The sizes of the scales, each rounded down, where the finest has ``size``."""
    return [(size[0] * reductions[0] // reduction, size[1] * reductions[0] // reduction) for reduction in reductions]


def random_features(
    channels: int | Sequence[int],
    sizes: Sequence[tuple[int, int]],
    *,
    batch: int = 2,
    dtype: torch.dtype = torch.float64,
) -> Tensor | tuple[Tensor, ...]:
    """Normal noise: a tensor for an int, a tuple for a sequence; drawn alike for every dtype."""
    if isinstance(channels, int):
        return torch.randn(batch, channels, *sizes[0]).to(dtype)
    return tuple(torch.randn(batch, width, *size).to(dtype) for width, size in zip(channels, sizes, strict=True))


def as_arrays(features: Tensor | tuple[Tensor, ...]) -> list[np.ndarray]:
    """Features as a list of float64 arrays."""
    features = (features,) if isinstance(features, Tensor) else features
    return [x.detach().numpy().astype(np.float64) for x in features]
