"""Base class of the layers for features of several scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor, nn

from .._features import Channels, Features, as_features, parse_channels
from ._convolution import PLAIN, Kernels

Ends: TypeAlias = Sequence[Callable[[Tensor], Tensor] | None]
"""Applied to every output scale as soon as it is computed; None for nothing."""


class ScaleLayer(nn.Module):
    """A layer between features of several scales.

    Subclasses set their widths, and implement `compute`, or `compute_scale` if no scale depends on another.

    Attributes:
        in_widths: Channels of every input scale.
        out_widths: Channels of every output scale.
        takes_tensor: Whether the input is a plain tensor instead of a tuple.
        gives_tensor: Whether the output is a plain tensor instead of a tuple.
    """

    in_widths: tuple[int, ...]
    out_widths: tuple[int, ...]
    takes_tensor: bool
    gives_tensor: bool

    def _set_channels(self, in_channels: Channels, out_channels: Channels, names: Sequence[str]) -> None:
        """Set the widths of inputs and outputs from arguments of these names."""
        self.in_widths = parse_channels(in_channels, names[0])
        self.out_widths = parse_channels(out_channels, names[-1])
        self.takes_tensor = not isinstance(in_channels, Sequence)
        self.gives_tensor = not isinstance(out_channels, Sequence)

    @property
    def in_channels(self) -> int | tuple[int, ...]:
        """Channels of the input: an integer for a plain tensor, else one for each scale."""
        return self.in_widths[0] if self.takes_tensor else self.in_widths

    @property
    def out_channels(self) -> int | tuple[int, ...]:
        """Channels of the output: an integer for a plain tensor, else one for each scale."""
        return self.out_widths[0] if self.gives_tensor else self.out_widths

    def forward(self, features: Tensor | Features) -> Tensor | Features:
        """Return the output scales: a plain tensor or a tuple, depending on how the channels were given."""
        outputs = self.compute(list(self.check_inputs(features)))
        return outputs[0] if self.gives_tensor else tuple(outputs)

    def check_inputs(self, features: Tensor | Features) -> Features:
        """Return the input scales, having checked them."""
        return as_features(features, self.in_widths, plain=self.takes_tensor)

    def compute(self, features: list[Tensor], kernels: Kernels = PLAIN, ends: Ends | None = None) -> list[Tensor]:
        """Return the output scales.

        Args:
            features: The input scales, checked; the list is emptied, which frees memory early.
            kernels: What computes the convolutions.
            ends: What follows at each output scale.
        """
        outputs = []
        for scale in range(len(features)):
            x = self.compute_scale(scale, features.pop(0), kernels)
            outputs.append(finished(x, scale, ends))
        return outputs

    def compute_scale(self, scale: int, x: Tensor, kernels: Kernels) -> Tensor:
        """Return one output scale."""
        raise NotImplementedError


def finished(x: Tensor, scale: int, ends: Ends | None) -> Tensor:
    """Return an output scale after what follows there."""
    end = None if ends is None else ends[scale]
    return x if end is None else end(x)
