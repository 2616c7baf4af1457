"""The layers of a model that are decayed, with the hooks that read the activations behind them."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .._torch import BatchNorm
from ..graph import drop_copied_hooks, gamma_parameters
from ._activation_statistics import ActivationStatistics, Sums, attach
from ._discovery import ActivationFinder
from ._errors import StatisticsError
from ._metrics import Metric
from ._synchronize import ProcessGroup, is_distributed, sum_over_processes


class WatchedLayer(NamedTuple):
    """A BatchNorm, the parameters that make its γ, and what is read behind it."""

    norm: BatchNorm
    parameters: tuple[nn.Parameter, ...]
    statistics: ActivationStatistics

    @property
    def scale(self) -> Tensor:
        """γ, (C,)."""
        return cast("Tensor", self.norm.weight)

    def has_no_gradient(self) -> bool:
        """Whether the loss gave none of the parameters a gradient."""
        return all(parameter.grad is None for parameter in self.parameters)

    def gradient_of_penalty(self, weight: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of ½ Σ weight·γ² for each parameter that makes γ; None where it needs none."""
        if self.norm._parameters.get("weight") is self.parameters[0]:
            return (weight * self.parameters[0].detach(),)
        trained = [parameter for parameter in self.parameters if parameter.requires_grad]
        with torch.enable_grad():
            scale = self.scale
            outer = (weight * scale.detach()).to(scale.dtype)
            found = iter(torch.autograd.grad(scale, trained, outer, allow_unused=True) if trained else ())
        return tuple(next(found) if parameter.requires_grad else None for parameter in self.parameters)


class Measured(NamedTuple):
    """M of a layer, (C,), and the number of images that it is the mean of."""

    metric: Tensor
    images: Tensor


class Watch:
    """Reads activations until it is removed, or nobody holds it any more.

    Attributes:
        layers: What is watched, by name.
    """

    def __init__(
        self, model: nn.Module, metric: Metric, process_group: ProcessGroup, *, shares_costs: bool = False
    ) -> None:
        self.layers: dict[str, WatchedLayer] = {}
        self.is_removed = False
        self._model = model
        self._metric = metric
        self._process_group = process_group
        self._shares_costs = shares_costs
        self._handles: list[RemovableHandle] = []
        self._finders: list[ActivationFinder] = []
        self._finalizer = weakref.finalize(self, _remove, self._handles, self._finders)

    def add(self, norms: dict[str, BatchNorm]) -> None:
        """Watch more layers."""
        if not norms:
            return
        drop_copied_hooks(self._model)
        statistics = {norm: ActivationStatistics(name, self._metric) for name, norm in norms.items()}
        for norm, one in statistics.items():
            self.layers[one.name] = WatchedLayer(norm, gamma_parameters(norm), one)
            self._handles.append(attach(norm, one))
        self._finders.append(ActivationFinder(self._model, statistics, self._handles.append))

    def remove(self) -> None:
        """Take all hooks off."""
        self._finalizer()
        self.is_removed = True

    @property
    def statistics(self) -> list[ActivationStatistics]:
        """The statistics of all layers."""
        return [layer.statistics for layer in self.layers.values()]

    def sums(self) -> dict[str, Sums | None]:
        """Return a copy of what has been summed since the last step."""
        return {name: layer.statistics.sums() for name, layer in self.layers.items()}

    def restore(self, sums: dict[str, Sums | None]) -> None:
        """Return to an earlier state of the sums."""
        for name, one in sums.items():
            self.layers[name].statistics.restore(one)

    def reset(self, kept: Tensor | None = None) -> None:
        """Forget the images; keep them where ``kept`` is a positive number."""
        sums = [tensor for one in self.statistics for tensor in (one.total, one.count) if tensor is not None]
        if kept is None and sums:
            torch._foreach_zero_(sums)
        for one in self.statistics:
            one.reset(kept, are_sums_zero=kept is None)
        for finder in self._finders:
            finder.finish()

    def measure(self) -> dict[str, Measured]:
        """Return M of every layer that saw images since the last step, in any process."""
        for finder in self._finders:
            finder.conclude()
        for one in self.statistics:
            one.flush()
        if is_distributed(self._process_group):
            sums = {name: one[:2] for name, one in self._sum_over_processes().items() if one.is_fresh}
        else:
            fresh = [(name, layer.statistics) for name, layer in self.layers.items() if layer.statistics.is_fresh]
            pairs = [(name, one.total, one.count) for name, one in fresh]
            sums = {name: (total, count) for name, total, count in pairs if total is not None and count is not None}
        if not sums:
            return {}
        counts = torch._foreach_clamp_min([count for _, count in sums.values()], 1)
        metrics = torch._foreach_div([total for total, _ in sums.values()], counts)
        return dict(zip(sums, map(Measured, metrics, counts), strict=True))

    def _sum_over_processes(self) -> dict[str, Sums]:
        for layer in self.layers.values():
            if layer.statistics.total is None:  # another process may have run it
                scale = layer.scale
                layer.statistics.allocate(scale.numel(), scale.dtype, scale.device)
        own = {name: cast("Sums", one) for name, one in self.sums().items()}
        tensors = [tensor for sums in own.values() for tensor in (sums.total, sums.images)]
        if self._shares_costs:
            self._share_costs(tensors[0].device)
        summed = iter(sum_over_processes(tensors, self._process_group))
        everywhere = {name: sums._replace(total=next(summed), images=next(summed)) for name, sums in own.items()}
        return {
            name: sums if sums.is_fresh else sums._replace(is_fresh=bool(sums.images.item()))
            for name, sums in everywhere.items()
        }

    def _share_costs(self, device: torch.device) -> None:
        """Let all processes weigh alike: the costs of a layer are the mean over those that have run it."""
        own = [[float(one.resolution > 0), one.resolution, one.macs] for one in self.statistics]
        (table,) = sum_over_processes([torch.tensor(own, dtype=torch.float64, device=device)], self._process_group)
        for one, (known, resolution, macs) in zip(self.statistics, table.tolist(), strict=True):
            if known:
                one.resolution, one.macs = resolution / known, macs / known

    def check_unchanged(self) -> None:
        """Check that γ of every layer is still what it was.

        Raises:
            StatisticsError: It has been replaced.
        """
        for name, layer in self.layers.items():
            now = gamma_parameters(layer.norm)
            if len(now) != len(layer.parameters) or any(a is not b for a, b in zip(now, layer.parameters, strict=True)):
                raise StatisticsError(
                    f"γ of {name!r} is not the parameter that it was when the optimizer was wrapped: the optimizer "
                    "trains a parameter that the model no longer has; change the model first, then make the optimizer "
                    "and wrap it"
                )

    def check_present(self, names: Iterable[str]) -> None:
        """Check that layers are still part of the model.

        Raises:
            StatisticsError: One has been replaced.
        """
        modules = {id(module) for module in self._model.modules()} if names else set()
        for name in names:
            if id(self.layers[name].norm) not in modules:
                raise StatisticsError(
                    f"{name!r} is no longer a part of the model: it was replaced after the optimizer was wrapped; "
                    "change the model first, then make the optimizer and wrap it"
                )


def _remove(handles: list[RemovableHandle], finders: list[ActivationFinder]) -> None:
    for handle in handles:
        handle.remove()
    for finder in finders:
        finder.remove()
