"""Statistics of the activation behind a BatchNorm, summed over images until the optimizer takes a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from .._checks import ArgumentError
from .._torch import (
    BatchNorm,
    FakeTensor,
    forward_hooks_of,
    in_backward,
    is_transformed,
    parameters_of,
    split,
    version_of,
)
from ..graph import OwnedHook, gamma_parameters
from ._activations import ActivationPath, Call
from ._metrics import Metric, precise
from ._results import StatisticsError

_CHUNK_BYTES = 1 << 18  # above it, an activation is reproduced image by image, in the processor's cache


class Sums(NamedTuple):
    """What was summed, and what the layer costs."""

    total: Tensor
    images: Tensor
    is_fresh: bool
    resolution: float
    macs: float


class WatchedLayer:
    """A BatchNorm, the parameters that make its γ, and what its hooks have summed since the last step."""

    def __init__(self, name: str, norm: BatchNorm, metric: Metric) -> None:
        self.name = name
        self.norm = norm
        self.parameters = gamma_parameters(norm)
        self.metric = metric
        self.path: ActivationPath | None = None  # until a forward pass has shown it
        self.resolution = 0.0  # side length of the activation's maps, the geometric mean of height and width
        self.macs = 0.0  # per image and channel
        self.total: Tensor | None = None  # the metric summed over images, (C,)
        self.count: Tensor | None = None  # of images: a tensor, for compiled code adds to it
        self.is_fresh = False  # whether something was summed since the last step
        self._pending: tuple[Tensor, int] | None = None
        self._was_read_in_forward = False

    @property
    def gamma(self) -> Tensor:
        """γ, (C,)."""
        return cast("Tensor", self.norm.weight)

    def gradient_of_penalty(self, weight: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of ½ Σ weight·γ² for each parameter that makes γ; None where it needs none."""
        if parameters_of(self.norm).get("weight") is self.parameters[0]:
            return (weight * self.parameters[0].detach(),)
        trained = [parameter for parameter in self.parameters if parameter.requires_grad]
        with torch.enable_grad():
            gamma = self.gamma
            outer = (weight * gamma.detach()).to(gamma.dtype)
            found = iter(torch.autograd.grad(gamma, trained, outer, allow_unused=True) if trained else ())
        return tuple(next(found) if parameter.requires_grad else None for parameter in self.parameters)

    def after_norm(self, module: BatchNorm, _: Any, output: Tensor) -> None:
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

    def after_activation(self, module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Read a module's output if its input is the BatchNorm's output: the activation's forward hook."""
        if torch.compiler.is_compiling() or self._pending is None:
            return
        if args and args[0] is self._pending[0] and self.path is not None and self.path.module is module:
            self._pending = None
            self.add(self.metric(output.detach()), output.shape[0])

    def reads_only(self, activation: torch.nn.Module) -> bool:
        """Whether both hooks read the output of this activation and nothing else."""
        return self.path is not None and self.path.module is activation

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
            cure = "reduce all dimensions but the first two"
            raise ArgumentError("metric", self.metric, "(images, channels)", cure, problem=returned)
        total, count = self.allocate(values.shape[1], values)
        total.add_(values.sum(0))
        count.add_(images)
        self.is_fresh = True

    def allocate(self, channels: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Make the sums, or move them to where and what the activations are now; return them."""
        dtype, device = precise(like.dtype), like.device
        if self.total is None or self.count is None:
            self.total = torch.zeros(channels, dtype=dtype, device=device)
            self.count = torch.zeros((), dtype=dtype, device=device)
        elif self.total.dtype != dtype or self.total.device != device:
            self.total, self.count = self.total.to(device, dtype), self.count.to(device, dtype)
        return self.total, self.count

    def learn(self, path: ActivationPath, call: Call, output: Tensor) -> None:
        """Note what follows the layer, and what a channel costs: the size of its map, and operations per image."""
        images, channels, *sides = call.shape
        self.path = path
        self.resolution = math.prod(sides) ** (1 / max(len(sides), 1))
        self.macs = (call.writing_macs + call.reading_macs) / max(images, 1)
        self.allocate(channels, output)

    @property
    def sums(self) -> Sums | None:
        """What was summed; None if nothing ever was."""
        if self.total is None or self.count is None:
            return None
        return Sums(self.total, self.count, self.is_fresh, self.resolution, self.macs)

    def restore(self, sums: Sums | None) -> None:
        """Return to what was summed at an earlier time."""
        self.begin_step()
        if sums is not None:
            total, count = self.allocate(len(sums.total), sums.total)
            total.copy_(sums.total)
            count.copy_(sums.images)
            self.is_fresh = sums.is_fresh
            if sums.resolution:  # a copy has not run yet
                self.resolution, self.macs = sums.resolution, sums.macs
        elif self.total is not None and self.count is not None:
            self.total.zero_()
            self.count.zero_()

    def begin_step(self) -> None:
        """Forget what was seen; the sums keep their memory, which compiled code knows."""
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
            values = by_image(lambda image: self.metric(path.reproduce(image)), output)
        else:
            values = self.metric(output)
        self.add(values, output.shape[0])


def by_image(measure: Callable[[Tensor], Tensor], output: Tensor) -> Tensor:
    """Measure images one by one where all together are too large for the processor's cache."""
    if output.device.type != "cpu" or output.numel() * output.element_size() <= _CHUNK_BYTES:
        return measure(output)
    return torch.cat([measure(image) for image in split(output, 1)])


def is_watched(norm: BatchNorm) -> bool:
    """Whether an optimizer reads the activations behind a BatchNorm."""
    functions = [hook.function for hook in forward_hooks_of(norm).values() if isinstance(hook, OwnedHook)]
    return any(isinstance(getattr(function, "__self__", None), WatchedLayer) for function in functions)
