"""The layers of a model that are decayed: their γ, the hooks that read the activations behind them, and the decay."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from .._distributed import world_size
from .._torch import BatchNorm, at_least, divide_each, split, zero_each
from ..graph import OwnedHook, drop_copied_hooks, gamma_parameters
from ._finder import ActivationFinder
from ._metrics import Cost, Metric, cost_factors
from ._results import StatisticsError
from ._statistics import Sums, WatchedLayer

ProcessGroup: TypeAlias = "dist.ProcessGroup | Literal['auto'] | None"
"""Whose processes train together; ``"auto"``: those of DistributedDataParallel, else all; None: each for itself."""
_CURE = "change the model first, then make the optimizer and wrap it"


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
        self._is_alone = process_group is None
        self._group = None if process_group == "auto" else process_group
        self._cost = cost
        self._handles: list[RemovableHandle] = []
        self._finders: list[ActivationFinder] = []
        self._finalizer = weakref.finalize(self, _remove, self._handles, self._finders)

    def add(self, norms: dict[str, BatchNorm]) -> None:
        """Watch more layers."""
        if not norms:
            return
        drop_copied_hooks(self._model.modules())
        layers = {name: WatchedLayer(name, norm, self._metric) for name, norm in norms.items()}
        self.layers.update(layers)
        hooks = [(layer.norm, OwnedHook(layer.after_norm, layer.reads_only)) for layer in layers.values()]
        self._handles += [norm.register_forward_hook(hook) for norm, hook in hooks]
        self._finders.append(ActivationFinder(self._model, layers.values(), self._handles.append))

    def remove(self) -> None:
        """Take all hooks off."""
        self._finalizer()
        self.is_removed = True

    @property
    def gammas(self) -> dict[str, Tensor]:
        """γ of every layer, (C,)."""
        return {name: layer.gamma for name, layer in self.layers.items()}

    def cost_factors(self) -> dict[str, float]:
        """Return the factor of M of every layer that has been run."""
        resolution = {name: layer.resolution for name, layer in self.layers.items()}
        return cost_factors(self._cost, resolution, {name: layer.macs for name, layer in self.layers.items()})

    def sums(self) -> dict[str, Sums | None]:
        """Return a copy of what has been summed since the last step."""
        return {
            name: sums and sums._replace(total=sums.total.clone(), images=sums.images.clone())
            for name, sums in ((name, layer.sums) for name, layer in self.layers.items())
        }

    def restore(self, sums: Mapping[str, Sums | None]) -> None:
        """Return to an earlier state of the sums."""
        for name, saved in sums.items():
            self.layers[name].restore(saved)

    def begin_step(self, kept: Tensor | None = None) -> None:
        """Forget the images; keep them where ``kept`` is a positive number."""
        summed = [layer.sums for layer in self.layers.values()]
        tensors = [tensor for sums in summed if sums is not None for tensor in sums[:2]]
        if kept is not None:
            for tensor in tensors:
                tensor.copy_(torch.where(kept.to(tensor.device) > 0, tensor, 0))
        elif tensors:
            zero_each(tensors)
        for layer in self.layers.values():
            layer.begin_step()
        for finder in self._finders:
            finder.finish()

    def measure(self) -> dict[str, Measured]:
        """Return M of every layer that saw images since the last step, in any process."""
        for finder in self._finders:
            finder.conclude()
        for layer in self.layers.values():
            layer.flush()
        if not self._is_alone and world_size(self._group) > 1:
            summed = self._sum_over_processes()
        else:
            summed = [(name, layer.sums) for name, layer in self.layers.items()]
        fresh = {name: sums for name, sums in summed if sums is not None and sums.is_fresh}
        if not fresh:
            return {}
        counts = at_least([sums.images for sums in fresh.values()], 1)
        metrics = divide_each([sums.total for sums in fresh.values()], counts)
        return dict(zip(fresh, map(Measured, metrics, counts), strict=True))

    def _sum_over_processes(self) -> list[tuple[str, Sums | None]]:
        for layer in self.layers.values():
            if layer.total is None:  # another process may have run it
                layer.allocate(layer.gamma.numel(), layer.gamma)
        own = {name: layer.sums for name, layer in self.layers.items()}
        tensors = [tensor for sums in own.values() if sums is not None for tensor in sums[:2]]
        if isinstance(self._cost, str):
            self._share_costs(tensors[0].device)
        summed = iter(self._summed(tensors))
        return [
            (name, Sums(next(summed), images := next(summed), layer.is_fresh or bool(images.item()), 0.0, 0.0))
            for name, layer in self.layers.items()
        ]

    def _share_costs(self, device: torch.device) -> None:
        """Average the costs of each layer over the processes that have run it."""
        layers = self.layers.values()
        own = [[float(layer.resolution > 0), layer.resolution, layer.macs] for layer in layers]
        (table,) = self._summed([torch.tensor(own, dtype=torch.float64, device=device)])
        for layer, (known, resolution, macs) in zip(layers, table.tolist(), strict=True):
            if known:
                layer.resolution, layer.macs = resolution / known, macs / known

    def _summed(self, tensors: list[Tensor]) -> list[Tensor]:
        """Return the sums of tensors over all processes, the same bits in each."""
        return changed_together(tensors, lambda flat: dist.all_reduce(flat, group=self._group))

    def check_unchanged(self) -> None:
        """Check that γ of every layer is still what it was."""
        for name, layer in self.layers.items():
            now = gamma_parameters(layer.norm)
            if list(map(id, now)) != list(map(id, layer.parameters)):
                problem = "the optimizer trains a parameter that the model no longer has"
                raise StatisticsError(
                    f"γ of {name!r} is not the parameter that it was when the optimizer was wrapped: {problem}; {_CURE}"
                )

    def check_present(self, names: Iterable[str]) -> None:
        """Check that layers are still part of the model."""
        modules = {id(module) for module in self._model.modules()} if names else set()
        for name in names:
            if id(self.layers[name].norm) not in modules:
                problem = "it was replaced after the optimizer was wrapped"
                raise StatisticsError(f"{name!r} is no longer a part of the model: {problem}; {_CURE}")

    def decays(self, weights: Mapping[str, Tensor]) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Give every parameter that makes a γ, with the gradient of the penalty ½·Σ weight·γ²."""
        for name, weight in weights.items():
            layer = self.layers[name]
            for parameter, decay in zip(layer.parameters, layer.gradient_of_penalty(weight), strict=True):
                if decay is not None:
                    yield parameter, decay


def _remove(handles: list[RemovableHandle], finders: list[ActivationFinder]) -> None:
    for handle in handles:
        handle.remove()
    for finder in finders:
        finder.remove()


def group_of(model: nn.Module, process_group: ProcessGroup) -> ProcessGroup:
    """Return the group that a wrapped model brings along, where none was chosen."""
    if process_group == "auto" and isinstance(model, DistributedDataParallel):
        return model.process_group
    return process_group


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
