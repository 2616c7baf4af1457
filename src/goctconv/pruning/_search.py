"""The search for a plan: mask a copy, follow it, decide, cut another copy, and compare the two."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from .._checks import check_choice, check_integer, check_share, escaped
from .._torch import BatchNorm, parameters_of
from ..graph import Selection, select
from ._copies import sharing_copy
from ._criteria import Criterion, check_criterion, first_of_chain, masks, scope_of, scores
from ._groups import groups_of
from ._inputs import Call, PruningError, batch_norms, check_devices, check_finite, fingerprints, quiet
from ._masking import MaskingEffect, blamed, effect_of_masking
from ._metadata import new_numbers
from ._plan import Masks, PruningPlan
from ._rounds import cut_all, report_of
from ._verify import Run, Verifier, check_runs_itself, outputs_of, traced
from .propagate import Facts, trace, trace_heads
from .solve import Limits

BnBias: TypeAlias = Literal["keep", "zero"]
Scope: TypeAlias = Literal["global", "layer"]
_MOST_ATTEMPTS = 6


@dataclass(frozen=True)
class Options:
    """The choice of channels; see `goctconv.pruning.prune_channels`."""

    threshold: float | None
    ratio: float | None
    scope: Scope | None
    max_ratio: float
    criterion: Criterion
    groups: bool
    bn_bias: BnBias
    keep: Selection
    round_to: int | None
    min_channels: int

    def __post_init__(self) -> None:
        check_criterion(self.criterion, self.threshold, self.ratio, self.scope)
        check_choice("bn_bias", self.bn_bias, ("keep", "zero"))
        if self.round_to is not None:
            check_integer("round_to", self.round_to, 1)
        check_integer("min_channels", self.min_channels, 1)
        check_share("max_ratio", self.max_ratio)


@dataclass
class Found:
    """A plan, the model that was cut by it, which shares what was not cut with the original, and the masked model."""

    plan: PruningPlan
    slim: nn.Module
    masked: nn.Module
    verifier: Verifier


def search(model: nn.Module, call: Call, options: Options, *, thorough: bool = True) -> Found:
    """Find a plan for a model that is not wrapped."""
    norms = batch_norms(model)
    keeps_none = isinstance(options.keep, list | tuple | set) and not options.keep
    kept = set() if keeps_none else set(select(model, norms, options.keep, "keep"))
    weights = check_finite(model)
    check_devices(model, call)
    with torch.no_grad(), quiet():
        found = _Search(model, call, options, norms, kept, weights).found(thorough)
    effect = found.plan.report.masking
    if effect is not None and effect.is_collapse:
        warnings.warn(effect.warning(), UserWarning, stacklevel=3)
    return found


class _Search:
    def __init__(
        self,
        model: nn.Module,
        call: Call,
        options: Options,
        norms: dict[str, BatchNorm],
        kept: set[str],
        weights: dict[str, list[float]],
    ) -> None:
        self.model, self.call, self.options = model, call, options
        self.norms, self.kept = norms, kept
        self.notes: list[str] = []
        self.idle: list[str] = []
        self.has_heads = False
        self._unmasked: Facts | None = None
        self.masks = self._masks()
        self.masked = self._copy().eval()
        self._weights = {**weights, **self._masked_weights(weights)}

    def _copy(self, layers: Collection[str] | None = None) -> nn.Module:
        """Return a copy that is masked, in all layers or in some, and shares everything else."""
        own = [parameters_of(norm).get(name) for norm in self.norms.values() for name in ("weight", "bias")]
        copy = sharing_copy(self.model, own=[parameter for parameter in own if parameter is not None])
        masks = self.masks if layers is None else self.masks.of(layers)
        masks.apply(copy)
        return copy

    def _masked_weights(self, weights: dict[str, list[float]]) -> dict[str, list[float]]:
        """Return the fingerprints of what masking changes."""
        names = [f"{path}.{name}" if path else name for path in self.norms for name in ("weight", "bias")]
        return fingerprints({name: self.masked.get_parameter(name) for name in names if name in weights})

    def _facts(self) -> Facts:
        """Return what the model is like before it is masked; it is followed once."""
        if self._unmasked is None:
            self._unmasked = trace(sharing_copy(self.model).eval(), self.call).facts
        return self._unmasked

    def _masks(self) -> Masks:
        options = self.options
        scored = scores(options.criterion, self.model, self.norms, self._facts)
        if options.groups:
            scored = groups_of(self._facts()).mean(scored)
        chosen = masks(
            scored,
            threshold=options.threshold,
            ratio=options.ratio,
            scope=scope_of(options.criterion, options.scope),
            max_ratio=options.max_ratio,
            excluded=self.kept,
        )
        gammas = {name: mask.nonzero()[:, 0].tolist() for name, mask in chosen.items() if mask.any()}
        biases: dict[str, list[int]] = {}
        if options.bn_bias == "zero":
            biases = gammas
        elif options.criterion == "gamma_first":
            biases = {name: gammas[name] for name in first_of_chain(self._facts()) if name in gammas}
        return Masks(gammas, biases)

    def _look(self, model: nn.Module, call: Call | None = None) -> tuple[Facts, Run]:
        """Follow a model, which is one to be thrown away, on the example or on another input."""
        found, run = traced(model, call or self.call)
        facts, self.idle = found.facts, found.idle
        if not self.idle:
            return facts, run
        joined, problem = trace_heads(model, call or self.call, facts)
        self.has_heads = joined is not facts
        note = (
            f"{', '.join(self.idle[:3])}{' and others' if len(self.idle) > 3 else ''} did not run in eval mode, and "
            f"the model did not run in train mode ({problem}): whether they still fit is not known"
        )
        self.idle = [name for name in self.idle if name not in joined.norms]
        if problem and note not in self.notes:
            self.notes.append(note)
        return joined, run

    def _effect(self, verifier: Verifier) -> MaskingEffect | None:
        """Return how far masking moves the outputs, and what makes them collapse."""
        if not self.masks.gammas:
            return None
        model = sharing_copy(self.model)
        calls, after = zip(*verifier.seen, strict=True)
        before = [outputs_of(model, call) for call in calls]
        effect = effect_of_masking(before, after)
        if effect is None or not effect.is_collapse:
            return effect
        return blamed(effect, before[0], self.masks.gammas, lambda name: outputs_of(self._copy([name]), self.call))

    def found(self, thorough: bool) -> Found:
        """Decide, cut and compare; tried again with fewer liberties if the result does not hold."""
        facts, run = self._look(self.masked)
        if self.idle or any("forward" in vars(module) for module in self.model.modules()):
            check_runs_itself(self.model, self.call)
        verifier = Verifier(self.masked, self.call, run, with_heads=self.has_heads, thorough=thorough)
        self.effect = self._effect(verifier)
        first: PruningError | None = None
        freedoms = [(True, False), (False, False), (False, True)]
        while freedoms:
            lists, freeze_cuts = freedoms.pop(0)
            fixed: tuple[str, ...] = ()
            for _ in range(1 if lists else _MOST_ATTEMPTS):
                limits = Limits(
                    frozenset(self.kept),
                    self.options.min_channels,
                    self.options.round_to,
                    lists=lists,
                    freeze_cuts=freeze_cuts,
                    fixed=fixed,
                )
                try:
                    return self._attempt(facts, verifier, limits)
                except Exception as error:  # noqa: BLE001  # a network that cannot be cut so may raise anything
                    problem = _as_pruning_error(error)
                gc.collect()  # the models that failed
                if first is None and verifier.failed_on is not None:
                    facts = self._look(sharing_copy(self.masked), verifier.failed_on)[0]
                    freedoms.insert(0, (lists, freeze_cuts))  # the code may do more at that size
                first = first or problem
                if problem.module is None or (problem.module and problem.module in fixed):
                    break
                fixed = (*fixed, problem.module)
        raise PruningError(f"no part of {type(self.model).__name__} can be cut: {escaped(first)}") from first

    def _attempt(self, facts: Facts, verifier: Verifier, limits: Limits) -> Found:
        """Decide, cut and compare."""
        slim = self._copy()
        cuts = cut_all(
            slim, self._masked_channels(), facts, lambda cut: self._look(sharing_copy(cut).eval())[0], limits
        )
        checked = verifier.check(sharing_copy(slim), cuts.removed)
        if cuts.steps:
            cuts.add_attributes(slim, new_numbers(self.model, slim, (verifier.run.shapes, checked.run.shapes)))
        self.notes += [note for note in verifier.notes if note not in self.notes]
        costs = (verifier.run.cost, checked.run.cost)
        report = report_of(self.norms, self.masks, facts, cuts, costs, checked.difference, self.idle)
        report.notes.extend(self.notes)
        report = replace(report, masking=self.effect)
        plan = PruningPlan(
            self.masks, cuts.removed, cuts.steps, report, self._weights, cuts.moves, adds=any(cuts.moves)
        )
        return Found(plan, slim, self.masked, verifier)

    def _masked_channels(self) -> dict[str, Tensor]:
        found = {}
        for name, channels in self.masks.gammas.items():
            found[name] = torch.zeros(self.norms[name].num_features, dtype=torch.bool)
            found[name][channels] = True
        return found


def _as_pruning_error(error: Exception) -> PruningError:
    if isinstance(error, PruningError):
        return error
    return PruningError(escaped(f"{type(error).__name__}: {error}"))
