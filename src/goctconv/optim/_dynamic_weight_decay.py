"""DynamicWeightDecay: an optimizer around another one that lets useless channels of BatchNorm networks fade."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import LBFGS, Optimizer
from torch.utils.hooks import RemovableHandle

from ._activation_statistics import ActivationStatistics, Sums, attach, owner_of
from ._cost import Cost, check_cost, factors
from ._discovery import ActivationFinder
from ._errors import StatisticsError
from ._groups import COEFFICIENT, check_coefficient, groups_by_scale, has_scheduler, learning_rate, separate
from ._hooks import remove_idle_hooks
from ._metrics import Metric, parse_metric
from ._results import History, LayerStatistics, Sparsity
from ._selection import Selection, named_batch_norms, scale_parameters, select, unwrapped
from ._synchronize import ProcessGroup, group_of, is_distributed, sum_over_processes

_SHARED_HOOKS = (
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)


class DynamicWeightDecay(Optimizer):
    """Decays every BatchNorm scale γ in proportion to the activation behind it, around any other optimizer.

    Before each step, λ·M·γ is added to the gradient of γ, where M of a channel is the mean over images of the absolute
    value of its global average pool, read behind BatchNorm *and* the activation that follows. Channels that give little
    lose their γ, down to exactly nothing, and can then be removed.

    What follows a BatchNorm is found in the first training forward pass: the first elementwise activation, module or
    function, that is applied to the BatchNorm's output alone; where there is none, as before a sum, a pooling or a
    convolution, the BatchNorm's own output is read.

    The scales move to param groups of their own (behind the others, one for each that held some), whose
    ``weight_decay`` is 0, and whose ``dynamic_weight_decay`` is λ and may be scheduled. ``param_groups`` and ``state``
    are those of the wrapped optimizer. Wrap first, then attach learning-rate schedulers to the wrapper. LBFGS keeps its
    one group; the penalty ½·λ·Σ M·γ² joins the loss of its closure, with M of the step's first evaluation.

    M averages over all images since the last step, over all calls of a module, and under data parallelism over all
    processes; recomputation by activation checkpointing does not count, nor do eval mode and `torch.no_grad`. The
    penalty is added within `step`, so clipped gradients are those of the loss alone. Images of a step that a
    `torch.amp.GradScaler` skipped count for the next one. Where an M is not finite, its channel does not decay.

    Args:
        optimizer: Any optimizer that holds the scales. It must not be stepped by itself any more.
        model: The network; it may be wrapped in DistributedDataParallel or compiled already, if it has not run yet.
        weight_decay: λ; 3.0 is published.
        include: The layers: a module's name or glob (``"layer1.*"``), a module, a function of name and module, or
            several of these. None: every BatchNorm with a scale that the optimizer holds.
        exclude: Layers to leave out, given likewise.
        metric: M of an activation, by image and channel: ``"gap"`` as published, ``"abs_mean"``, ``"rms"``, ``"max"``,
            or a function of the activation (B, C, ...) that returns (B, C) numbers; it may be called on parts of a batch.
        cost: Factor of M: ``"resolution"``, 2 to the number of halvings between the layer and the coarsest one;
            ``"macs"``, operations per channel of the convolutions directly before and behind, relative to the mean
            layer; or a mapping from layers to factors. None: 1.
        decoupled: Whether to subtract lr·λ·M·γ from γ after the step, in the manner of AdamW, instead of adding to the
            gradient.
        history: Record γ and M every so many steps; 0: never.
        process_group: The processes that train together: ``"auto"``, those of DistributedDataParallel or all; None: M is
            not shared.

    Raises:
        TypeError: Not an optimizer, not a module, or a metric, cost, coefficient or selector of a wrong kind.
        ValueError: A model without BatchNorm, an optimizer that does not hold its scales, layers that are not there or
            are decayed already, a scheduler that was attached before, a coefficient that is negative or NaN.
        StatisticsError: At a step, no activation was ever seen, or a γ has been replaced.

    Example:
        >>> import torch
        >>> from goctconv import DynamicWeightDecay
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
        >>> optimizer = DynamicWeightDecay(torch.optim.Adam(model.parameters(), weight_decay=5e-4), model)
        >>> model(torch.rand(4, 3, 32, 32)).mean().backward()
        >>> optimizer.step()
        >>> optimizer.metrics()["1"].activation, optimizer.metrics()["1"].metric.shape
        ('2 (ReLU)', torch.Size([8]))

    Source: Cheng et al., TPAMI 2021, section 3.3.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        model: nn.Module,
        *,
        weight_decay: float = 3.0,
        include: Selection | None = None,
        exclude: Selection | None = None,
        metric: str | Metric = "gap",
        cost: Cost = None,
        decoupled: bool = False,
        history: int = 0,
        process_group: ProcessGroup = "auto",
    ) -> None:
        _check_arguments(optimizer, model, history)
        check_coefficient(weight_decay, "weight_decay")
        parse_metric(metric)
        self.optimizer = optimizer
        self.model = unwrapped(model)
        self.decoupled = decoupled
        self.history = History(history)
        self._weight_decay = weight_decay
        self._metric, self._cost = metric, cost
        self._process_group = group_of(model, process_group)
        self._candidates = _chosen(optimizer, self.model, include, exclude)
        self._steps = 0
        self._warned: set[str] = set()
        self._last: dict[str, tuple[Tensor, Tensor]] = {}
        check_cost(cost, list(self._candidates))
        self._start()
        self._adopt()

    def _start(self) -> None:
        """Set up what neither a copy nor a pickle takes along."""
        self._layers: dict[str, ActivationStatistics] = {}
        self._scales: dict[str, tuple[nn.Parameter, ...]] = {}
        self._handles: list[RemovableHandle] = []
        self._finders: list[ActivationFinder] = []
        self._is_removed = False
        super().__setstate__({})  # type: ignore[no-untyped-call]  # what unpickling does: hooks, and the profiled step
        for name in _SHARED_HOOKS:
            setattr(self, name, getattr(self.optimizer, name))
        self._finalizer = weakref.finalize(self, _remove, self._handles, self._finders)

    def _adopt(self) -> None:
        """Take every chosen layer that the optimizer holds by now, and is not taken yet."""
        held = groups_by_scale(self.optimizer)
        found = {
            name: norm
            for name, norm in self._candidates.items()
            if name not in self._layers and all(parameter in held for parameter in scale_parameters(norm))
        }
        scales = {parameter for norm in found.values() for parameter in scale_parameters(norm)}
        separate(self.optimizer, scales, self._weight_decay)
        self._attach(found)

    def _attach(self, norms: dict[str, _BatchNorm]) -> None:
        if not norms:
            return
        remove_idle_hooks(self.model)
        metric = parse_metric(self._metric)
        statistics = {norm: ActivationStatistics(name, metric) for name, norm in norms.items()}
        for norm, one in statistics.items():
            self._layers[one.name] = one
            self._scales[one.name] = scale_parameters(norm)
            self._handles.append(attach(norm, one))
        self._finders.append(ActivationFinder(self.model, statistics, self._handles.append))

    # The wrapped optimizer's own attributes, so that neither side can get out of step with the other.

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]  # a plain attribute of Optimizer
        """Those of the wrapped optimizer."""
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.optimizer.param_groups = groups

    @property
    def state(self) -> Any:  # type: ignore[override]  # a plain attribute of Optimizer
        """That of the wrapped optimizer."""
        return self.optimizer.state

    @state.setter
    def state(self, state: Any) -> None:
        self.optimizer.state = state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]  # a plain attribute of Optimizer
        """Those of the wrapped optimizer."""
        return self.optimizer.defaults

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        self.optimizer.defaults = defaults

    def __getattr__(self, name: str) -> Any:
        """Look up what only the wrapped optimizer has."""
        if name == "optimizer":
            raise AttributeError(name)
        return getattr(self.optimizer, name)

    def __repr__(self) -> str:
        return f"DynamicWeightDecay of {len(self._layers)} BatchNorm layers, around {self.optimizer!r}"

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset gradients, as the wrapped optimizer does."""
        self.optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the wrapped optimizer's state dict, whose groups hold the coefficients."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict of an optimizer that was wrapped likewise.

        Raises:
            ValueError: It was saved without dynamic weight decay, or with other param groups.
        """
        ours = [COEFFICIENT in group for group in self.param_groups]
        theirs = [COEFFICIENT in group for group in state_dict["param_groups"]]
        if ours != theirs:
            raise ValueError(
                f"the state dict has {len(theirs)} param groups, {sum(theirs)} of them with {COEFFICIENT!r}, this "
                f"optimizer has {len(ours)} and {sum(ours)}: load it before wrapping if it was saved without dynamic "
                "weight decay, else wrap with the same include and exclude"
            )
        self.optimizer.load_state_dict(state_dict)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a param group to the wrapped optimizer; chosen scales in it are decayed dynamically from now on."""
        self.optimizer.add_param_group(param_group)
        self._adopt()

    def remove(self) -> None:
        """Take all hooks off the model; from now on steps are those of the wrapped optimizer.

        The param groups stay as they are, for schedulers count them: γ has no weight decay then.
        """
        self._finalizer()
        self._is_removed = True

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]  # as subclasses do
        """Take a step of the wrapped optimizer with decaying scales.

        Args:
            closure: Computes the loss and its gradients anew; some optimizers need it.

        Returns:
            What the wrapped optimizer's step returns.

        Raises:
            StatisticsError: No training forward pass was ever seen, or γ of a layer has been replaced.
            ValueError: A coefficient of a param group is negative or not finite.
        """
        if self._is_removed:
            return self.optimizer.step() if closure is None else self.optimizer.step(closure)
        self._check()
        with _ScaledGradients(self, self.optimizer):
            if isinstance(self.optimizer, LBFGS):
                result = self._step_with_penalty(closure)
            elif closure is None:
                self._measure()
                self._add_to_gradients()
                result = self.optimizer.step()
            else:
                result = self.optimizer.step(self._with_decay(closure))
            if self.decoupled:
                self._shrink()
        self._finish()
        return result

    def _with_decay(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """Return a closure whose gradients contain the decay; evaluations after the first replace its images."""
        before = {name: layer.sums() for name, layer in self._layers.items()}
        evaluations = 0

        def decayed() -> Any:
            nonlocal evaluations
            evaluations += 1
            if evaluations > 1:
                for name, layer in self._layers.items():
                    layer.restore(before[name])
            with torch.enable_grad():
                loss = closure()
            self._measure()
            self._add_to_gradients()
            return loss

        return decayed

    def _step_with_penalty(self, closure: Callable[[], Any] | None) -> Any:
        if closure is None:
            raise TypeError("LBFGS evaluates the loss several times: call step(closure)")
        is_first = True

        def penalized() -> Any:
            nonlocal is_first
            with torch.enable_grad():
                loss = closure()
            if is_first:  # M is a constant of the step, so that the line search meets one function
                self._measure()
                is_first = False
            return loss if self.decoupled else loss + self._add_to_gradients()

        return cast("Any", self.optimizer).step(penalized)

    def _check(self) -> None:
        groups = groups_by_scale(self.optimizer)
        for name, scales in self._scales.items():
            now = scale_parameters(self._candidates[name])
            if len(now) != len(scales) or any(a is not b for a, b in zip(now, scales, strict=True)):
                raise StatisticsError(
                    f"γ of {name!r} is not the parameter that it was when the optimizer was wrapped: the optimizer "
                    "trains a parameter that the model no longer has; change the model first, then make the optimizer "
                    "and wrap it"
                )
            if scales[0] not in groups:
                raise StatisticsError(f"γ of {name!r} is in no param group any more: put it back, or call remove()")
        for index, group in enumerate(self.param_groups):
            if COEFFICIENT in group:
                check_coefficient(group[COEFFICIENT], f"param_groups[{index}][{COEFFICIENT!r}]")
                if group.get("weight_decay") and not isinstance(self.optimizer, LBFGS):
                    self._warn_once(
                        f"weight_decay={group['weight_decay']} of param group {index} decays scales γ a second time: "
                        "leave it at 0 where the group has dynamic_weight_decay",
                        [f"group {index}"],
                    )

    def _measure(self) -> None:
        """Compute M of every layer from the images since the last step."""
        for layer in self._layers.values():
            layer.flush()
        if is_distributed(self._process_group):
            sums = self._sum_over_processes()
        else:
            sums = {name: one for name, layer in self._layers.items() if (one := layer.sums()) and one.is_fresh}
        if not sums:
            self._complain_of_nothing()
        elif len(sums) < len(self._layers):
            self._warn_of_missing([name for name in self._layers if name not in sums])
        self._last = {name: (one.total / one.count.clamp(min=1), one.count) for name, one in sums.items()}

    def _sum_over_processes(self) -> dict[str, Sums]:
        """Return the sums of all processes; without layers that none of them has run."""
        for name, layer in self._layers.items():
            scale = cast("Tensor", self._candidates[name].weight)
            if layer.total is None:  # another process may have run it
                layer.allocate(scale.numel(), scale.dtype, scale.device)
        own = [cast("Sums", layer.sums()) for layer in self._layers.values()]
        summed = iter(sum_over_processes([one for sums in own for one in sums[:2]], self._process_group))
        everywhere = {name: Sums(next(summed), next(summed), sums.is_fresh) for name, sums in zip(self._layers, own, strict=True)}
        return {name: sums for name, sums in everywhere.items() if sums.is_fresh or sums.count.item()}

    def _complain_of_nothing(self) -> None:
        if not self._steps:
            raise StatisticsError(
                f"step() before any activation was seen behind the {len(self._layers)} BatchNorm layers: run the wrapped "
                "model itself (not a copy) in train mode, with gradients, before each step; a model that was compiled "
                "and has run before it was wrapped must be compiled again (torch.compiler.reset())"
            )
        self._warn_once("no BatchNorm has seen images since the last step: no γ was decayed by this one", ["nothing"])

    def _warn_of_missing(self, names: list[str]) -> None:
        frozen = [name for name in names if not self._candidates[name].training]
        reasons = f"; {len(frozen)} of them are in eval mode" if frozen else ""
        self._warn_once(
            f"no activation was seen behind {_listed(names)} since the last step, so γ was not decayed there{reasons}; "
            "exclude layers that the forward pass does not use: while they are awaited, it is slower",
            names,
        )

    def _warn_once(self, message: str, keys: Iterable[str]) -> None:
        new = set(keys) - self._warned
        self._warned |= new
        if new:
            warnings.warn(f"DynamicWeightDecay: {message}", UserWarning, stacklevel=2)

    def _weighted(self) -> dict[str, Tensor]:
        """Return the decay of every layer that was seen: λ times cost times M, 0 where M is not finite."""
        groups = groups_by_scale(self.optimizer)
        costs = factors(self._cost, list(self._layers.values()))
        return {
            name: torch.nan_to_num(metric, 0.0, 0.0, 0.0) * (groups[self._scales[name][0]][COEFFICIENT] * costs[name])
            for name, (metric, _) in self._last.items()
        }

    def _add_to_gradients(self) -> Tensor | float:
        """Add the gradient of the penalty ½·λ·Σ M·γ² to those of the loss; return the penalty."""
        if self.decoupled:
            return 0.0
        penalty: Tensor | float = 0.0
        gradients: list[Tensor] = []
        decays: list[Tensor] = []
        without: list[str] = []
        for name, weight in self._weighted().items():
            scale, decay = self._decay(name, weight)
            if isinstance(self.optimizer, LBFGS):
                penalty = penalty + 0.5 * (weight * scale.detach() ** 2).sum()
            for parameter, part in zip(self._scales[name], decay, strict=True):
                if parameter.grad is None:
                    without.append(name)
                elif part is not None:
                    gradients.append(parameter.grad)
                    decays.append(part)
        if without:
            self._warn_once(
                f"γ of {_listed(without)} has no gradient, so it was not decayed: it is frozen, or the loss does not "
                "depend on it; exclude it, or set requires_grad",
                [f"gradient of {name}" for name in without],
            )
        if gradients:
            factor = getattr(self.optimizer, "grad_scale", None)  # a fused step divides the gradients by it
            if factor is not None:
                decays = [decay * factor.to(decay.device) for decay in decays]
            torch._foreach_add_(gradients, decays)
        return penalty

    def _decay(self, name: str, weight: Tensor) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return γ, and the gradient of ½·weight·γ² with respect to the parameters that make it."""
        norm, scales = self._candidates[name], self._scales[name]
        if len(scales) == 1 and norm._parameters.get("weight") is scales[0]:
            return scales[0], (weight * scales[0],)
        with torch.enable_grad():
            scale = cast("Tensor", norm.weight)
            trained = [parameter for parameter in scales if parameter.requires_grad]
            found = iter(torch.autograd.grad(scale, trained, (weight * scale.detach()).to(scale.dtype), allow_unused=True))
        return scale, tuple(next(found) if parameter.requires_grad else None for parameter in scales)

    def _shrink(self) -> None:
        """Subtract lr·λ·M·γ from γ."""
        groups = groups_by_scale(self.optimizer)
        skipped = getattr(self.optimizer, "found_inf", None)
        for name, weight in self._weighted().items():
            _, decay = self._decay(name, weight)
            for parameter, part in zip(self._scales[name], decay, strict=True):
                if part is not None and parameter.requires_grad:
                    step = part * learning_rate(groups[parameter])
                    parameter.sub_(step if skipped is None else torch.where(skipped.to(step.device) > 0, 0, step))

    def _finish(self) -> None:
        self._steps += 1
        skipped = getattr(self, "found_inf", None)
        for layer in self._layers.values():
            layer.reset(kept=skipped)
        if self.history.every and self._steps % self.history.every == 0:
            scales = {name: cast("Tensor", self._candidates[name].weight) for name in self._layers}
            unseen = {name: torch.zeros_like(scale) for name, scale in scales.items() if name not in self._last}
            self.history.record(self._steps, scales, {**unseen, **{name: one[0] for name, one in self._last.items()}})

    @torch.no_grad()
    def metrics(self) -> dict[str, LayerStatistics]:
        """Return what the last step was based on, by layer; empty before the first step.

        Layers that saw no image before that step are left out.
        """
        costs = factors(self._cost, list(self._layers.values()))
        return {
            name: LayerStatistics(metric.clone(), round(count.item()), self._activation(name), costs[name])
            for name, (metric, count) in self._last.items()
        }

    def _activation(self, name: str) -> str:
        recipe = self._layers[name].recipe
        return recipe.activation if recipe is not None else ""

    @torch.no_grad()
    def sparsity(self, threshold: float = 1e-20) -> Sparsity:
        """Count the scales γ whose absolute value is below a threshold.

        Args:
            threshold: 1e-20 as published, for full training; short runs leave a gap higher up.
        """
        layers = {}
        for name in self._layers:
            scale = cast("Tensor", self._candidates[name].weight)
            layers[name] = (int((scale.abs() < threshold).sum()), scale.numel())
        return Sparsity(threshold, layers)

    def __getstate__(self) -> dict[str, Any]:
        kept = ("optimizer", "model", "decoupled", "history", "_weight_decay", "_metric", "_cost", "_candidates", "_steps")
        state = {name: getattr(self, name) for name in (*kept, "_warned", "_last", "_is_removed")}
        group = None if self._process_group is None else "auto"  # processes cannot be copied
        sums = {name: layer.sums() for name, layer in self._layers.items()}
        return {**state, "_process_group": group, "attached": sums}

    def __setstate__(self, state: dict[str, Any]) -> None:
        attached, is_removed = state.pop("attached"), state.pop("_is_removed")
        self.__dict__.update(state)
        self._start()
        self._attach({name: self._candidates[name] for name in attached})
        for name, sums in attached.items():
            self._layers[name].restore(sums)
        if is_removed:
            self.remove()


class _ScaledGradients:
    """Hands what `torch.amp.GradScaler` sets on the wrapper on to a fused optimizer, which unscales by itself."""

    _names = ("grad_scale", "found_inf")

    def __init__(self, wrapper: Optimizer, optimizer: Optimizer) -> None:
        self._given = {name: vars(wrapper)[name] for name in self._names if name in vars(wrapper)}
        self._optimizer = optimizer

    def __enter__(self) -> None:
        for name, value in self._given.items():
            setattr(self._optimizer, name, value)

    def __exit__(self, *_: object) -> None:
        for name in self._given:
            delattr(self._optimizer, name)


def _remove(handles: list[RemovableHandle], finders: list[ActivationFinder]) -> None:
    for handle in handles:
        handle.remove()
    for finder in finders:
        finder.remove()


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more layers"


def _check_arguments(optimizer: object, model: object, history: object) -> None:
    if isinstance(optimizer, nn.Module) and isinstance(model, Optimizer):
        raise TypeError("the optimizer comes first: DynamicWeightDecay(optimizer, model)")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if isinstance(optimizer, DynamicWeightDecay):
        raise ValueError("the optimizer is wrapped in DynamicWeightDecay already: wrap it once")
    if isinstance(model, nn.DataParallel):
        raise TypeError("model is a DataParallel, whose replicas cannot be watched: use DistributedDataParallel")
    if has_scheduler(optimizer):
        raise ValueError(
            "a learning-rate scheduler is attached to the optimizer: wrapping adds a param group, which it would miss; "
            "wrap first, then attach the scheduler to the DynamicWeightDecay"
        )
    if isinstance(history, bool) or not isinstance(history, int) or history < 0:
        raise ValueError(f"history={history!r} must be a number of steps, 0 for no history")


def _chosen(
    optimizer: Optimizer, model: nn.Module, include: Selection | None, exclude: Selection | None
) -> dict[str, _BatchNorm]:
    """Return the layers that are chosen, having checked that the optimizer holds some (all that are named)."""
    norms = named_batch_norms(model)
    if not norms:
        raise ValueError(
            f"{type(model).__name__} has no BatchNorm with a scale (affine=True), so there is nothing to decay: "
            "dynamic weight decay is for networks with BatchNorm"
        )
    chosen = norms if include is None else select(model, norms, include, "include")
    if exclude is not None:
        left_out = select(model, norms, exclude, "exclude")
        chosen = {name: norm for name, norm in chosen.items() if name not in left_out}
        if not chosen:
            raise ValueError("exclude leaves no BatchNorm to decay: exclude less, or do without DynamicWeightDecay")
    held = groups_by_scale(optimizer)
    missing = [name for name, norm in chosen.items() if any(one not in held for one in scale_parameters(norm))]
    if len(missing) == len(chosen) or (include is not None and missing):
        raise ValueError(
            f"the optimizer does not hold γ of {_listed(missing)}: make it of the parameters of this model, the one that "
            "is passed here (not of a copy, nor before parameters were replaced), or include other layers"
        )
    taken = [name for name, norm in chosen.items() if name not in missing and owner_of(norm) is not None]
    if taken:
        raise ValueError(
            f"{_listed(taken)} is decayed by another DynamicWeightDecay already: call its remove() first, or exclude it"
        )
    return chosen
