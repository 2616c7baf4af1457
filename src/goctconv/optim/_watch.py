"""The layers of a model that are decayed: their γ, the hooks that read the activations behind them, and the decay."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from .._torch import BatchNorm, at_least, divide_each, parameters_of, split, zero_each
from ..graph import drop_copied_hooks, gamma_parameters
from ._cost import Cost, cost_factors
from ._finder import ActivationFinder
from ._metrics import Metric
from ._results import StatisticsError
from ._statistics import ActivationStatistics, Sums, attach

ProcessGroup: TypeAlias = "dist.ProcessGroup | Literal['auto'] | None"
"""Whose processes train together; ``"auto"``: those of DistributedDataParallel, else all; None: each for itself."""


class WatchedLayer(NamedTuple):
    """A BatchNorm, the parameters that make its γ, and what is read behind it."""

    norm: BatchNorm
    parameters: tuple[nn.Parameter, ...]
    statistics: ActivationStatistics

    @property
    def gamma(self) -> Tensor:
        """γ, (C,)."""
        return cast("Tensor", self.norm.weight)

    def has_no_gradient(self) -> bool:
        """Whether the loss gave none of the parameters a gradient."""
        return all(parameter.grad is None for parameter in self.parameters)

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


class Measured(NamedTuple):
    """M of a layer, (C,), and the number of images that it is the mean of."""

    metric: Tensor
    images: Tensor


class Watch:
    """Reads activations behind layers until it is removed, or nobody holds it any more."""

    def __init__(self, model: nn.Module, metric: Metric, process_group: ProcessGroup, cost: Cost = None) -> None:
        self.layers: dict[str, WatchedLayer] = {}
        self.is_removed = False
        self._model = model
        self._metric = metric
        self._process_group = process_group
        self._cost = cost
        self._handles: list[RemovableHandle] = []
        self._finders: list[ActivationFinder] = []
        self._finalizer = weakref.finalize(self, _remove, self._handles, self._finders)

    def add(self, norms: dict[str, BatchNorm]) -> None:
        """Watch more layers."""
        if not norms:
            return
        drop_copied_hooks(self._model)
        found = {norm: ActivationStatistics(name, self._metric) for name, norm in norms.items()}
        for norm, statistics in found.items():
            self.layers[statistics.name] = WatchedLayer(norm, gamma_parameters(norm), statistics)
            self._handles.append(attach(norm, statistics))
        self._finders.append(ActivationFinder(self._model, found, self._handles.append))

    def remove(self) -> None:
        """Take all hooks off."""
        self._finalizer()
        self.is_removed = True

    @property
    def statistics(self) -> list[ActivationStatistics]:
        """The statistics of all layers."""
        return [layer.statistics for layer in self.layers.values()]

    @property
    def gammas(self) -> dict[str, Tensor]:
        """γ of every layer, (C,)."""
        return {name: layer.gamma for name, layer in self.layers.items()}

    def cost_factors(self) -> dict[str, float]:
        """Return the factor of M of every layer that has been run."""
        resolution = {each.name: each.resolution for each in self.statistics}
        return cost_factors(self._cost, resolution, {each.name: each.macs for each in self.statistics})

    def sums(self) -> dict[str, Sums | None]:
        """Return a copy of what has been summed since the last step."""
        return {name: layer.statistics.sums() for name, layer in self.layers.items()}

    def restore(self, sums: Mapping[str, Sums | None]) -> None:
        """Return to an earlier state of the sums."""
        for name, saved in sums.items():
            self.layers[name].statistics.restore(saved)

    def reset(self, kept: Tensor | None = None) -> None:
        """Forget the images; keep them where ``kept`` is a positive number."""
        if kept is None:
            sums = [tensor for each in self.statistics for tensor in (each.total, each.count) if tensor is not None]
            if sums:
                zero_each(sums)
        for statistics in self.statistics:
            statistics.reset(kept, are_sums_zero=kept is None)
        for finder in self._finders:
            finder.finish()

    def measure(self) -> dict[str, Measured]:
        """Return M of every layer that saw images since the last step, in any process."""
        for finder in self._finders:
            finder.conclude()
        for statistics in self.statistics:
            statistics.flush()
        if is_distributed(self._process_group):
            sums = {name: own[:2] for name, own in self._sum_over_processes().items() if own.is_fresh}
        else:
            fresh = [statistics for statistics in self.statistics if statistics.is_fresh]
            pairs = [(statistics.name, statistics.total, statistics.count) for statistics in fresh]
            sums = {name: (total, count) for name, total, count in pairs if total is not None and count is not None}
        if not sums:
            return {}
        counts = at_least([count for _, count in sums.values()], 1)
        metrics = divide_each([total for total, _ in sums.values()], counts)
        return dict(zip(sums, map(Measured, metrics, counts), strict=True))

    def _sum_over_processes(self) -> dict[str, Sums]:
        for layer in self.layers.values():
            if layer.statistics.total is None:  # another process may have run it
                gamma = layer.gamma
                layer.statistics.allocate(gamma.numel(), gamma.dtype, gamma.device)
        own = {name: cast("Sums", sums) for name, sums in self.sums().items()}
        tensors = [tensor for sums in own.values() for tensor in (sums.total, sums.images)]
        if isinstance(self._cost, str):
            self._share_costs(tensors[0].device)
        summed = iter(sum_over_processes(tensors, self._process_group))
        everywhere = {name: sums._replace(total=next(summed), images=next(summed)) for name, sums in own.items()}
        return {
            name: sums if sums.is_fresh else sums._replace(is_fresh=bool(sums.images.item()))
            for name, sums in everywhere.items()
        }

    def _share_costs(self, device: torch.device) -> None:
        """Average the costs of each layer over the processes that have run it."""
        own = [[float(each.resolution > 0), each.resolution, each.macs] for each in self.statistics]
        (table,) = sum_over_processes([torch.tensor(own, dtype=torch.float64, device=device)], self._process_group)
        for statistics, (known, resolution, macs) in zip(self.statistics, table.tolist(), strict=True):
            if known:
                statistics.resolution, statistics.macs = resolution / known, macs / known

    def check_unchanged(self) -> None:
        """Check that γ of every layer is still what it was."""
        for name, layer in self.layers.items():
            now = gamma_parameters(layer.norm)
            if len(now) != len(layer.parameters) or any(a is not b for a, b in zip(now, layer.parameters, strict=True)):
                raise StatisticsError(
                    f"γ of {name!r} is not the parameter that it was when the optimizer was wrapped: the optimizer "
                    "trains a parameter that the model no longer has; change the model first, then make the optimizer "
                    "and wrap it"
                )

    def check_present(self, names: Iterable[str]) -> None:
        """Check that layers are still part of the model."""
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


def weights_of(metrics: Mapping[str, Tensor], factor: Mapping[str, float]) -> dict[str, Tensor]:
    """Return the factor of each layer times its M, (C,); 0 where M is not finite."""
    finite = changed_together(list(metrics.values()), lambda flat: flat.nan_to_num_(0.0, 0.0, 0.0))
    return {name: metric * factor[name] for name, metric in zip(metrics, finite, strict=True)}


def penalty(layers: Mapping[str, WatchedLayer], weights: Mapping[str, Tensor]) -> Tensor | float:
    """Return ½·Σ weight·γ²."""
    return sum(0.5 * (weight * layers[name].gamma ** 2).sum() for name, weight in weights.items())


def decays(layers: Mapping[str, WatchedLayer], weights: Mapping[str, Tensor]) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Give every parameter that makes a γ, with the gradient of the penalty."""
    for name, weight in weights.items():
        layer = layers[name]
        for parameter, decay in zip(layer.parameters, layer.gradient_of_penalty(weight), strict=True):
            if decay is not None:
                yield parameter, decay


def group_of(model: nn.Module, process_group: ProcessGroup) -> ProcessGroup:
    """Return the group that a wrapped model brings along, where none was chosen."""
    if process_group == "auto" and isinstance(model, DistributedDataParallel):
        return model.process_group
    return process_group


def is_distributed(process_group: ProcessGroup) -> bool:
    """Whether there are other processes to sum over."""
    if process_group is None or not (dist.is_available() and dist.is_initialized()):
        return False
    return dist.get_world_size(None if process_group == "auto" else process_group) > 1


def sum_over_processes(tensors: list[Tensor], process_group: ProcessGroup) -> list[Tensor]:
    """Return the sums of tensors over all processes, the same bits in each."""
    group = None if process_group == "auto" else process_group
    return changed_together(tensors, lambda flat: dist.all_reduce(flat, group=group))


def changed_together(tensors: list[Tensor], change: Callable[[Tensor], object]) -> list[Tensor]:
    """Return copies of tensors that were changed in place, with one call for each device and type."""
    changed = list(tensors)
    kinds: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for index, tensor in enumerate(tensors):
        kinds.setdefault((tensor.device, tensor.dtype), []).append(index)
    for indices in kinds.values():
        flat = torch.cat([tensors[index].reshape(-1) for index in indices])
        change(flat)
        for index, part in zip(indices, split(flat, [tensors[index].numel() for index in indices]), strict=True):
            changed[index] = part.view(tensors[index].shape)
    return changed
