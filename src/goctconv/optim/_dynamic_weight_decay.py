"""DynamicWeightDecay: an optimizer around another one, which makes useless channels of BatchNorm networks fade."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import LBFGS, Optimizer

from .._checks import ArgumentError, ArgumentTypeError, check_number
from .._torch import STEP_HOOKS, add_each, drop_step_handles
from ..graph import Selection, gamma_parameters, named_batch_norms, unwrapped
from ._checks import Warnings, check_arguments, checked_metric, chosen_norms
from ._metrics import Cost, Metric, check_cost, parse_metric
from ._param_groups import COEFFICIENT, check_coefficient, check_same_groups, groups_by_parameter, separate
from ._results import GammaHistory, LayerStatistics, Sparsity, StatisticsError, transform_without, without
from ._watch import Measured, ProcessGroup, Watch, changed_together, group_of
from ._wrapper import OptimizerWrapper

_COPIED = {
    *("optimizer", "model", "decoupled", "history", "_weight_decay", "_metric", "_cost", "_transform", "_candidates"),
    *("_steps", "_last", "_warnings", "_zero"),
}
Transform: TypeAlias = Callable[[dict[str, Tensor]], Mapping[str, Tensor]]
"""A function of M by layer that returns the same."""


class DynamicWeightDecay(OptimizerWrapper):
    """Decays every BatchNorm's γ in proportion to the activation behind it, around any other optimizer.

    Before each step, λ·M·γ is added to the gradient of γ, where M of a channel is the mean over images of the absolute
    value of its global average pool, read behind BatchNorm *and* the activation that follows. Channels that give little
    lose their γ, down to exactly nothing, and can then be removed.

    What follows a BatchNorm is found in the first training forward pass: the first elementwise activation, module or
    function, that is applied to the BatchNorm's output alone; where there is none, as before a sum, a pooling or a
    convolution, the BatchNorm's own output is read.

    The γ move to param groups of their own (behind the others, one for each that held some), whose
    ``weight_decay`` is 0, and whose ``dynamic_weight_decay`` is λ and may be scheduled. ``param_groups`` and ``state``
    are those of the wrapped optimizer. Wrap first, then attach learning-rate schedulers to the wrapper. LBFGS keeps its
    one group; the penalty ½·λ·Σ M·γ² joins the loss of its closure, with M of the step's first evaluation.

    M averages over all images since the last step, over all calls of a module, and under data parallelism over all
    processes; recomputation by activation checkpointing does not count, nor do eval mode and `torch.no_grad`. The
    penalty is added within `step`, so clipped gradients are those of the loss alone. Images of a step that a
    `torch.amp.GradScaler` skipped count for the next one. Where an M is not finite, its channel does not decay.

    Args:
        optimizer: Any optimizer that holds the γ, one around others too: Lookahead (timm's, and others that never call
            ``Optimizer.__init__``), SAM, whose ``first_step`` and ``second_step`` decay as its ``step`` does, and
            ZeroRedundancyOptimizer. Steps of optimizers inside that go around ``step`` decay too; if several inside
            hold the same γ, their steps by the same images are one step, and the decay joins the first of them. It must
            not be stepped by itself any more.
        model: The network; it may be wrapped in DistributedDataParallel or compiled already, if it has not run yet.
        weight_decay: λ; 3.0 is published. With Adam, AdamW and others that normalise gradients it hardly matters how
            large it is, unless ``decoupled``: the learning rate limits how fast γ can fade.
        include: The layers: a module's name or glob (``"layer1.*"``), a module, a function of name and module, or
            several of these. None: every BatchNorm with a γ that the optimizer holds.
        exclude: Layers to leave out, given likewise.
        metric: M of an activation, by image and channel: ``"gap"`` as published, ``"abs_mean"``, ``"rms"``, ``"max"``,
            or a function of the activation (B, C, ...) that returns (B, C) numbers; it may get parts of a batch.
        cost: Factor of M: ``"resolution"``, 2 to the number of halvings between the layer and the coarsest one, as in
            the first pass (for the factors published for CSNet pass ``model.dynamic_decay_cost()``);
            ``"macs"``, operations per channel of the convolutions directly before and behind, relative to the mean
            layer; or a mapping from layers to factors. None: 1.
        decoupled: Whether to subtract lr·λ·M·γ from γ after the step, in the manner of AdamW, instead of adding to the
            gradient.
        history: Record γ and M every so many steps; 0: never.
        transform: Changes M before cost and λ: a function of a dict from layers to M, (C,), that returns the same,
            such as `goctconv.pruning.ChannelGroups.mean`: channels that can only be removed together fade alike then.
        process_group: The processes that train together: ``"auto"``, those of DistributedDataParallel or all; None:
            each measures for itself.

    Raises:
        ArgumentTypeError: Not an optimizer, not a module, or a metric, cost, coefficient or selector of a wrong type.
        ArgumentError: A model without BatchNorm, an optimizer that does not hold its γ, layers that are missing or are
            decayed already, a scheduler that was attached before, a coefficient that is negative or NaN.
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

    _stepped: Optimizer | None = None  # the inner optimizer whose step was joined last
    _is_repeating = False

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
        transform: Transform | None = None,
        process_group: ProcessGroup = "auto",
    ) -> None:
        check_arguments(optimizer, model, history, decoupled, transform)
        if isinstance(optimizer, DynamicWeightDecay):
            cure = "wrap it once; after remove(), wrap the one inside, its attribute optimizer"
            raise ArgumentError("optimizer", optimizer, problem="is a DynamicWeightDecay already", cure=cure)
        check_coefficient(weight_decay, "weight_decay")
        super().__init__(optimizer)
        self.model = unwrapped(model)
        self.decoupled = decoupled
        self.history = GammaHistory(history)
        self._weight_decay = weight_decay
        self._metric, self._cost, self._transform = metric, cost, transform
        self._process_group = group_of(model, process_group)
        self._candidates = chosen_norms(optimizer, self.model, include, exclude)
        check_cost(cost, list(self._candidates), list(named_batch_norms(self.model)))
        self._warnings = Warnings()
        self._steps = 0
        self._zero: set[str] = set()  # layers whose γ all start at 0
        self._last: dict[str, Measured] = {}
        self._watch = self._new_watch()
        self._adopt()

    def _new_watch(self) -> Watch:
        gammas = {parameter for norm in self._candidates.values() for parameter in gamma_parameters(norm)}
        self._step_handles = self._watch_steps(
            gammas,
            "the wrapped optimizer took a step by itself, so no γ was decayed: call step() of the DynamicWeightDecay",
        )
        return Watch(self.model, parse_metric(self._metric), self._process_group, self._cost)

    def _adopt(self) -> None:
        """Take every chosen layer that the optimizer holds by now, and is not taken yet."""
        held = groups_by_parameter(self.optimizer)
        found = {
            name: norm
            for name, norm in self._candidates.items()
            if name not in self._watch.layers and all(parameter in held for parameter in gamma_parameters(norm))
        }
        gammas = {parameter: name for name, norm in found.items() for parameter in gamma_parameters(norm)}
        separate(self.optimizer, gammas, self._weight_decay)
        self._watch.add(found)
        made = {name: cast("Tensor", norm.weight) for name, norm in found.items() if not is_lazy(norm.weight)}
        self._zero |= {name for name, gamma in made.items() if not gamma.any()}

    def __repr__(self) -> str:
        return f"DynamicWeightDecay of {len(self._watch.layers)} BatchNorm layers, around {self.optimizer!r}"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict of an optimizer that was wrapped likewise; λ is restored too.

        Raises:
            ArgumentError: It was saved without dynamic weight decay, or with other param groups.
        """
        check_same_groups(self.param_groups, state_dict["param_groups"])
        super().load_state_dict(state_dict)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a param group to the wrapped optimizer; chosen γ in it are decayed dynamically from now on."""
        super().add_param_group(param_group)
        self._adopt()

    def moved_to(
        self, optimizer: Optimizer, model: nn.Module, removed: Mapping[str, Sequence[int]]
    ) -> DynamicWeightDecay:
        """Return the same decay around an optimizer of a model that channels have been cut out of.

        Options, steps, history and what was measured last are kept, for the channels that are left. If it is the same
        model, this one no longer watches it.

        Args:
            optimizer: Holds the parameters of ``model`` in the groups that this one has.
            model: The pruned model.
            removed: The channels that are gone, by BatchNorm.
        """
        inner = unwrapped(model)
        norms = {name: module for name, module in inner.named_modules() if name in self._candidates}
        drop_step_handles(optimizer, self._step_handles)  # a copy of the one that has them
        state = self.__getstate__()
        sums, is_removed = state["_watch"]
        if inner is self.model:
            self._watch.remove()

        def left(values: Tensor, name: str) -> Tensor:
            return without(values, removed.get(name, ()))

        sums = {name: own and own._replace(total=left(own.total, name)) for name, own in sums.items() if name in norms}
        last = {name: Measured(left(m, name), images) for name, (m, images) in self._last.items() if name in norms}
        changed = {
            "optimizer": optimizer,
            "model": inner,
            "history": self.history.without(removed),
            "_transform": transform_without(self._transform, removed),
            "_warnings": copy.deepcopy(self._warnings),
            "_candidates": norms,
            "_last": last,
            "_process_group": self._process_group,
            "_watch": (sums, is_removed),
            **{name: vars(self)[name] for name in STEP_HOOKS},
        }
        moved = type(self).__new__(type(self))
        moved.__setstate__({**state, **changed})
        return moved

    def remove(self) -> None:
        """Take all hooks off the model; from now on steps are those of the wrapped optimizer.

        The param groups stay as they are, for schedulers count them: γ has no weight decay then.
        """
        for handle in self._step_handles:
            handle.remove()
        self._watch.remove()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step of the wrapped optimizer, and decay every γ.

        Args:
            closure: Computes the loss and its gradients anew; some optimizers need it.

        Returns:
            What the wrapped optimizer's step returns.

        Raises:
            StatisticsError: No training forward pass was ever seen, or γ of a layer has been replaced.
            ArgumentError: A coefficient of a param group is negative or not finite.
        """
        if self._watch.is_removed:
            return self._step_wrapped(closure)
        self._check()
        with self._scaling_handed_on():
            result = self._step(closure)
            if self.decoupled:
                self._shrink()
        self._finish()
        return result

    def _step(self, closure: Callable[[], Any] | None) -> Any:
        joins_loss = isinstance(self.optimizer, LBFGS)
        if closure is not None:
            return self._step_wrapped(self._with_decay(closure, joins_loss=joins_loss))
        if joins_loss:
            cure = "call step(closure): LBFGS evaluates the loss several times"
            raise ArgumentTypeError("closure", closure, "a function that returns the loss", cure)
        self._measure()
        self._add_to_gradients()
        return self._step_wrapped(None)

    @torch.no_grad()
    def _begin_inner_step(self, optimizer: Optimizer, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        self._check()
        closure = keywords.get("closure", args[1] if len(args) > 1 else None)
        if closure is not None:
            return args[:1], {**keywords, "closure": self._with_decay(closure, joins_loss=False)}
        measured = self._watch.measure()
        self._is_repeating = not measured and self._stepped not in {None, optimizer}
        if not self._is_repeating:
            self._measure(measured)
            self._add_to_gradients()
        return None

    @torch.no_grad()
    def _end_inner_step(self, optimizer: Optimizer) -> None:
        if self._is_repeating:  # a second optimizer of the same γ, by the same gradients: it is one step
            self._is_repeating = False
            return
        self._stepped = optimizer
        if self.decoupled:
            self._shrink()
        self._finish()

    def _with_decay(self, closure: Callable[[], Any], *, joins_loss: bool) -> Callable[[], Any]:
        """Return a closure whose gradients contain the decay; evaluations after the first replace its images.

        Where the penalty joins the loss, M is a constant of the step, so that a line search meets one function.
        """
        before = {} if joins_loss else self._watch.sums()
        is_first = True

        def decayed() -> Any:
            nonlocal is_first
            if not is_first:
                self._watch.restore(before)
            with torch.enable_grad():
                loss = closure()
            if is_first or not joins_loss:
                self._measure()
            is_first = False
            self._add_to_gradients()
            return loss + self._penalty() if joins_loss else loss

        return decayed

    def _check(self) -> None:
        self._watch.check_unchanged()
        groups = groups_by_parameter(self.optimizer)
        for name, layer in self._watch.layers.items():
            if layer.parameters[0] not in groups:
                raise StatisticsError(f"γ of {name!r} is in no param group any more: put it back, or call remove()")
        for index, group in enumerate(self.param_groups):
            if COEFFICIENT in group:
                check_coefficient(group[COEFFICIENT], f"param_groups[{index}][{COEFFICIENT!r}]")
                if group.get("weight_decay"):
                    self._warnings.once(
                        f"weight_decay={group['weight_decay']} of param group {index} decays γ a second time: leave it "
                        f"at 0 where the group has {COEFFICIENT}",
                        f"decay of group {index}",
                    )

    def _measure(self, measured: dict[str, Measured] | None = None) -> None:
        """Compute M of every layer from the images since the last step."""
        self._last = self._transformed(self._watch.measure() if measured is None else measured)
        unseen = {name: layer for name, layer in self._watch.layers.items() if name not in self._last}
        self._watch.check_present(unseen)
        if self._last and unseen:
            self._warnings.of_unseen(unseen)
        elif unseen and self._steps:
            self._warnings.once(
                "no BatchNorm has seen images since the last step, so no γ was decayed by it: run the model in train "
                "mode, with gradients, before each step",
                "nothing seen",
            )
        elif unseen:
            frozen = sum(not layer.norm.training for layer in unseen.values())
            raise StatisticsError(
                f"step() before any activation was seen behind BatchNorm ({len(unseen)} layers, {frozen} of them in "
                "eval mode): run the wrapped model itself (not a copy) in train mode, with gradients, before each "
                "step. (A compiled model that has run before it was wrapped must be compiled again, after "
                "torch.compiler.reset().)"
            )

    def _transformed(self, measured: dict[str, Measured]) -> dict[str, Measured]:
        if self._transform is None or not measured:
            return measured
        changed = self._transform({name: metric for name, (metric, _) in measured.items()})
        return {
            name: Measured(checked_metric(self._transform, changed, name, old), images)
            for name, (old, images) in measured.items()
        }

    def _weights(self) -> dict[str, Tensor]:
        """Return λ times cost times M, (C,), of every layer that was seen; 0 where M is not finite."""
        groups = groups_by_parameter(self.optimizer)
        costs = self._watch.cost_factors()
        parameters = {name: self._watch.layers[name].parameters[0] for name in self._last}
        finite = changed_together([metric for metric, _ in self._last.values()], lambda flat: flat.nan_to_num_(0, 0, 0))
        return {
            name: metric * (groups[parameter][COEFFICIENT] * costs[name])
            for (name, parameter), metric in zip(parameters.items(), finite, strict=True)
        }

    def _penalty(self) -> Tensor | float:
        """Return ½·λ·Σ M·γ²; 0 if the decay is decoupled from the loss."""
        gammas, weights = self._watch.gammas, {} if self.decoupled else self._weights()
        return sum(0.5 * (weight * gammas[name] ** 2).sum() for name, weight in weights.items())

    def _add_to_gradients(self) -> None:
        """Add the gradient of the penalty to those of the loss."""
        if self.decoupled:
            return
        pairs = list(self._watch.decays(self._weights()))
        layers = self._watch.layers
        without = [name for name in self._last if all(own.grad is None for own in layers[name].parameters)]
        if without:
            self._warnings.of_no_gradient(without)
        ascending = {own for group in self.param_groups if group.get("maximize") for own in group["params"]}
        held = [
            (parameter.grad, -decay if parameter in ascending else decay)
            for parameter, decay in pairs
            if parameter.grad is not None
        ]
        if held:
            add_each([gradient for gradient, _ in held], self._scaled([decay for _, decay in held]))

    def _shrink(self) -> None:
        """Subtract lr·λ·M·γ from γ."""
        groups = groups_by_parameter(self.optimizer)
        for parameter, decay in self._watch.decays(self._weights()):
            if parameter.requires_grad:
                parameter.sub_(self._unless_skipped(decay * groups[parameter]["lr"]))

    def _finish(self) -> None:
        self._steps += 1
        self._watch.begin_step(kept=self._from_scaler("found_inf"))
        if self.history.every and self._steps % self.history.every == 0:
            gammas = self._watch.gammas
            unseen = {name: torch.zeros_like(gamma) for name, gamma in gammas.items()}
            self.history.record(
                self._steps, gammas, {**unseen, **{name: metric for name, (metric, _) in self._last.items()}}
            )

    @torch.no_grad()
    def metrics(self) -> dict[str, LayerStatistics]:
        """Return what the last step was based on, by layer; empty before the first step.

        Layers that saw no image before that step are left out.

        Returns:
            For each layer, by name, an object with the attributes

            - ``metric``: M of every channel, (C,): the mean over images, after ``transform``, before the factor
              ``cost``;
            - ``images``: the number of images; under data parallelism those of all processes;
            - ``activation``: what was read: a module's name, an operation, or "its output";
            - ``cost``: the factor of M.
        """
        costs = self._watch.cost_factors()
        paths = {name: layer.path for name, layer in self._watch.layers.items()}
        activations = {name: "" if path is None else path.activation for name, path in paths.items()}
        return {
            name: LayerStatistics(metric.clone(), round(images.item()), activations[name], costs[name])
            for name, (metric, images) in self._last.items()
        }

    @torch.no_grad()
    def sparsity(self, threshold: float = 1e-20) -> Sparsity:
        """Count the γ whose absolute value is below a threshold.

        A layer whose γ all started at 0, and still are, is untrained and not faded: timm's ResNets start the last
        BatchNorm of each block at 0, unless made with ``zero_init_last=False``.

        Args:
            threshold: 1e-20 as published, for full training; short runs leave a valley higher up.

        Returns:
            An object that ``print`` shows as "32 of 128 channels (25.0%) are below 1e-20", with the attributes

            - ``threshold``: as passed;
            - ``layers``: the number of faded channels and of all channels, by layer;
            - ``faded``, ``channels``: both numbers for all layers together;
            - ``fraction``: the share of channels that have faded;
            - ``untrained``: the layers whose γ are 0 since the start, which count as not faded.

        Raises:
            ArgumentError: A threshold that is negative or NaN.
        """
        check_number("threshold", threshold, 0, cure="1e-20 is published")
        gammas = self._watch.gammas
        untrained = [name for name in gammas if name in self._zero and not gammas[name].any()]
        faded = {
            name: (0 if name in untrained else int((gamma.abs() < threshold).sum()), gamma.numel())
            for name, gamma in gammas.items()
        }
        return Sparsity(threshold, faded, untrained)

    def __getstate__(self) -> dict[str, Any]:
        state = {key: value for key, value in vars(self).items() if key in _COPIED}
        group = None if self._process_group is None else "auto"  # processes cannot be copied
        return {**state, "_process_group": group, "_watch": (self._watch.sums(), self._watch.is_removed)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        sums, is_removed = state.pop("_watch")
        self._begin(state)
        self._watch = self._new_watch()
        self._watch.add({name: self._candidates[name] for name in sums})
        self._watch.restore(sums)
        if is_removed:
            self.remove()
