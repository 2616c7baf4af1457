"""Statistics of the activation behind a BatchNorm, summed over images until the optimizer takes a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._checks import ArgumentError
from .._torch import BatchNorm, FakeTensor, forward_hooks_of, in_backward, is_transformed, split, version_of
from ..graph import OwnedHook
from ._activations import ActivationPath
from ._metrics import Metric, precise
from ._results import StatisticsError

_CHUNK_BYTES = 1 << 18  # above it, an activation is reproduced image by image, in the processor's cache


class Sums(NamedTuple):
    """A copy of what was summed, and of what the layer costs."""

    total: Tensor
    images: Tensor
    is_fresh: bool
    resolution: float
    macs: float


class ActivationStatistics:
    """What the hooks of one BatchNorm have summed since the last step."""

    def __init__(self, name: str, metric: Metric) -> None:
        self.name = name
        self.metric = metric
        self.path: ActivationPath | None = None  # until a forward pass has shown it
        self.resolution = 0.0  # side length of the activation's maps, the geometric mean of height and width
        self.macs = 0.0  # per image and channel
        self.total: Tensor | None = None  # the metric summed over images, (C,)
        self.count: Tensor | None = None  # of images: a tensor, for compiled code adds to it
        self.is_fresh = False  # whether something was summed since the last step
        self._pending: tuple[Tensor, int] | None = None
        self._was_read_in_forward = False

    def after_norm(self, module: nn.Module, _: Any, output: Tensor) -> None:
        """Read the activation, or wait for the module that computes it: the BatchNorm's forward hook."""
        if not (module.training and torch.is_grad_enabled()) or isinstance(output, FakeTensor):
            return
        if torch.compiler.is_compiling():
            self._add_compiled(output)
        elif self.path is not None and not is_transformed() and self.counts_this_pass():
            self.flush()
            if self.path.module is None:
                self._read(self.path, output)
            else:
                self._pending = (output, version_of(output))

    def after_activation(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Read a module's output if its input is the BatchNorm's output: the activation's forward hook."""
        if torch.compiler.is_compiling() or self._pending is None:
            return
        if args and args[0] is self._pending[0] and self.path is not None and self.path.module is module:
            self._pending = None
            self.add(self.metric(output.detach()), output.shape[0])

    def counts_this_pass(self) -> bool:
        """Whether this call is the first one of its images, not activation checkpointing's recomputation.

        A recomputation happens inside the backward pass. Where the first run was without gradients (reentrant
        checkpointing), it was not counted, and the recomputation is.
        """
        if not in_backward():
            self._was_read_in_forward = True
            return True
        return not self._was_read_in_forward

    def flush(self) -> None:
        """Read what still waits for an activation module that was not called this time."""
        pending, self._pending = self._pending, None
        if pending is None or self.path is None:
            return
        output, version = pending
        if version_of(output) != version:
            raise StatisticsError(
                f"the output of {self.name!r} was changed in place before its activation could be read: "
                "it is followed by different operations at different calls; exclude this layer"
            )
        self._read(self.path, output)

    @torch.no_grad()
    def add(self, values: Tensor, images: int) -> None:
        """Add the metric of some images, (B, C)."""
        if values.dim() != 2 or values.shape[0] != images:
            returned = f"returned shape {tuple(values.shape)} for the activation of {self.name!r} and {images} images"
            raise ArgumentError(
                "metric", self.metric, "(images, channels)", "reduce all dimensions but the first two", problem=returned
            )
        total, count = self.allocate(values.shape[1], values.dtype, values.device)
        total.add_(values.sum(0))
        count.add_(images)
        self.is_fresh = True

    def allocate(self, channels: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """Make the sums, or move them to where and what the activations are now; return them."""
        dtype = precise(dtype)
        if self.total is None or self.count is None:
            self.total = torch.zeros(channels, dtype=dtype, device=device)
            self.count = torch.zeros((), dtype=dtype, device=device)
        elif self.total.dtype != dtype or self.total.device != device:
            self.total, self.count = self.total.to(device, dtype), self.count.to(device, dtype)
        return self.total, self.count

    def learn_cost(self, shape: Sequence[int], writing_macs: float, reading_macs: float) -> None:
        """Note what a channel costs: the size of its map, and the operations per image that make and read it."""
        self.resolution = math.prod(shape[2:]) ** (1 / max(len(shape) - 2, 1))
        self.macs = (writing_macs + reading_macs) / max(shape[0], 1)

    def sums(self) -> Sums | None:
        """Return a copy of what was summed; None if nothing ever was."""
        if self.total is None or self.count is None:
            return None
        return Sums(self.total.clone(), self.count.clone(), self.is_fresh, self.resolution, self.macs)

    def restore(self, sums: Sums | None) -> None:
        """Return to what was summed at an earlier time."""
        self.reset()
        if sums is not None:
            total, count = self.allocate(len(sums.total), sums.total.dtype, sums.total.device)
            total.copy_(sums.total)
            count.copy_(sums.images)
            self.is_fresh = sums.is_fresh
            if sums.resolution:  # a copy has not run yet
                self.resolution, self.macs = sums.resolution, sums.macs

    def reset(self, kept: Tensor | None = None, *, are_sums_zero: bool = False) -> None:
        """Forget the images, unless ``kept`` is positive; the sums keep their memory, which compiled code knows."""
        for tensor in () if are_sums_zero else (self.total, self.count):
            if tensor is not None and kept is None:
                tensor.zero_()
            elif tensor is not None and kept is not None:
                tensor.copy_(torch.where(kept.to(tensor.device) > 0, tensor, 0))
        self._pending = None
        self._was_read_in_forward = False
        self.is_fresh = False

    def _add_compiled(self, output: Tensor) -> None:
        if self.path is None or self.total is None or self.count is None:
            raise StatisticsError(
                f"the compiled model runs {self.name!r}, which the tracing of its activations did not: "
                "run one training forward of the model before it is compiled"
            )
        values = self.metric(self.path.reproduce(output.detach()))
        self.total.add_(values.sum(0))
        self.count.add_(output.shape[0])
        self.is_fresh = True

    def _read(self, path: ActivationPath, output: Tensor) -> None:
        output = output.detach()
        if path.steps:
            values = _by_image(lambda image: self.metric(path.reproduce(image)), output)
        else:
            values = self.metric(output)
        self.add(values, output.shape[0])

    def measure_reproduced(self, activation: Tensor) -> Tensor:
        """Return the metric of an activation, summed in the order in which a reproduced one would be."""
        return _by_image(self.metric, activation)


def _by_image(measure: Callable[[Tensor], Tensor], output: Tensor) -> Tensor:
    """Measure images one by one where all together are too large for the processor's cache."""
    if output.device.type != "cpu" or output.numel() * output.element_size() <= _CHUNK_BYTES:
        return measure(output)
    return torch.cat([measure(image) for image in split(output, 1)])


def attach(norm: BatchNorm, statistics: ActivationStatistics) -> torch.utils.hooks.RemovableHandle:
    """Register the hook that reads a BatchNorm's calls."""
    return norm.register_forward_hook(OwnedHook(statistics.after_norm))


def owner_of(norm: BatchNorm) -> ActivationStatistics | None:
    """Return the statistics that are attached to a BatchNorm."""
    for hook in forward_hooks_of(norm).values():
        owner = getattr(getattr(hook, "function", None), "__self__", None)
        if isinstance(hook, OwnedHook) and isinstance(owner, ActivationStatistics):
            return owner
    return None
