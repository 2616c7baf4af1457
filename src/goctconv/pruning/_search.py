"""The search for a plan: mask a copy, follow it, decide, cut another copy, and compare the two."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from .._checks import (
    ArgumentError,
    check_choice,
    check_flags,
    check_integer,
    check_number,
    check_share,
    escaped,
    warn_caller,
)
from .._torch import BatchNorm, parameters_of, tensors_in
from ..graph import Selection, modules_of, select, stored_tensors
from ._balance import balanced_masks
from ._copies import sharing_copy
from ._criteria import Criterion, check_criterion, first_of_chain, masks, scope_of, scores
from ._grounds import Grounds, Runner, doubled
from ._groups import groups_of
from ._inputs import Call, PruningError, batch_norms, check_devices, check_finite, fingerprints, quiet, set_mode
from ._masking import MaskingEffect, blamed, effect_of_masking
from ._metadata import new_numbers
from ._plan import Masks, PruningPlan
from ._rounds import cut_all, report_of
from ._verify import (
    Checked,
    Compare,
    Run,
    Verifier,
    batch_sizes,
    check_runs_itself,
    holds_functions,
    outputs_of,
    traced,
)
from .propagate import Facts, trace_again, trace_all, trace_heads, trace_others
from .solve import Limits
from .surgery import Surgery

BnBias: TypeAlias = Literal["keep", "zero"]
Scope: TypeAlias = Literal["global", "layer"]
_MOST_ATTEMPTS = 6
_IN_DOUBLE = "compared in float64, since rounding alone changes the outputs more in the model's own precision"


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
    compare: float | Compare | None = None
    balance: bool = False

    def __post_init__(self) -> None:
        check_criterion(self.criterion, self.threshold, self.ratio, self.scope)
        check_flags(groups=self.groups, balance=self.balance)
        check_choice("bn_bias", self.bn_bias, ("keep", "zero"))
        if self.round_to is not None:
            check_integer("round_to", self.round_to, 1)
        check_integer("min_channels", self.min_channels, 1)
        check_share("max_ratio", self.max_ratio)
        if self.compare is not None and not callable(self.compare):
            check_number("compare", self.compare, 0, cure="1e-4 is the tolerance of float32")


@dataclass
class Found:
    """A plan, the model that was cut by it, which shares what was not cut with the original, and the masked model."""

    plan: PruningPlan
    slim: nn.Module
    masked: nn.Module
    verifier: Verifier | Runner


def search(model: nn.Module, calls: list[Call], options: Options, *, thorough: bool = True) -> Found:
    """Find a plan for a model that is not wrapped."""
    norms = batch_norms(model)
    keeps_none = isinstance(options.keep, list | tuple | set) and not options.keep
    kept = set() if keeps_none else set(select(model, norms, options.keep, "keep"))
    weights = check_finite(model)
    check_devices(model, calls)
    with torch.no_grad(), quiet():
        found = _Search(model, calls, options, norms, kept, weights).found(thorough)
    if warning := found.plan.report.warning():
        warn_caller(warning)
    return found


class _Search:
    def __init__(
        self,
        model: nn.Module,
        calls: list[Call],
        options: Options,
        norms: dict[str, BatchNorm],
        kept: set[str],
        weights: dict[str, list[float]],
    ) -> None:
        self.model, self.calls, self.options = model, calls, options
        self.norms, self.kept = norms, kept
        self.notes: list[str] = []
        self.idle: list[str] = []
        self.has_heads = False
        self._unmasked: Facts | None = None
        self.masks = self._masks()
        self.masked = self._copy()
        set_mode(self.masked, with_heads=False)
        self._weights = {**weights, **self._masked_weights(weights)}

    def _copy(self, layers: Collection[str] | None = None) -> nn.Module:
        """Return a copy that is masked, in all layers or in some, and shares everything else."""
        own = [parameters_of(norm).get(name) for norm in self.norms.values() for name in ("weight", "bias")]
        copy = sharing_copy(self.model, own=[parameter for parameter in own if parameter is not None])
        masks = self.masks if layers is None else self.masks.of(layers)
        masks.apply(copy)
        return copy

    @contextmanager
    def _with_originals(self) -> Iterator[nn.Module]:
        """Give the masked copy the parameters of the original for a while."""
        modules, originals = modules_of(self.masked), modules_of(self.model)
        if len(modules) != len(originals):  # a module that copies itself otherwise
            yield sharing_copy(self.model)
            return
        pairs = zip(modules, originals, strict=True)
        places = [
            (own, name, own[name], tensor)
            for own, others in ((parameters_of(module), parameters_of(other)) for module, other in pairs)
            for name, tensor in others.items()
            if own[name] is not tensor
        ]
        try:
            for own, name, _, tensor in places:
                own[name] = tensor
            yield self.masked
        finally:
            for own, name, masked, _ in places:
                own[name] = masked

    def _masked_weights(self, weights: dict[str, list[float]]) -> dict[str, list[float]]:
        """Return the fingerprints of what masking changes."""
        names = [f"{path}.{name}" if path else name for path in self.norms for name in ("weight", "bias")]
        stored = stored_tensors(self.masked)
        return fingerprints({name: stored[name] for name in names if name in weights})

    def _facts(self) -> Facts:
        """Return what the model is like before it is masked; it is followed once."""
        if self._unmasked is None:
            self._unmasked = trace_all(self.model, self.calls)
        return self._unmasked

    def _masks(self) -> Masks:
        options = self.options
        scored = scores(options.criterion, self.model, self.norms, self._facts)
        if options.groups:
            scored = groups_of(self._facts()).mean(scored)
        choose = partial(balanced_masks, facts=self._facts(), groups=options.groups) if options.balance else masks
        chosen = choose(
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

    def _look(self, model: nn.Module, calls: list[Call]) -> tuple[Facts, Run]:
        """Follow a model, which is one to be thrown away."""
        call, *others = calls
        found, run = traced(model, call)
        facts, self.idle = found.facts, found.idle
        if others:
            facts = trace_others(model, others, facts)
            ran = {name.rpartition(".")[0] for name in facts.bound}
            self.idle = [name for name in self.idle if name not in ran]
        if not self.idle:
            return facts, run
        joined, problem = trace_heads(model, call, facts)
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
        """Return how far masking moves the outputs, and what makes them collapse.

        Of an example that is constant, such as zeros, little arrives at many layers: random input comes first then.
        """
        if not self.masks.gammas:
            return None
        seen = verifier.seen
        if all(bool((tensor == tensor.flatten()[0]).all()) for tensor in tensors_in(self.calls[0])):
            seen.reverse()
            if max(batch_sizes(seen[0][1]), default=0) > 1:  # enough to tell how the outputs vary
                del seen[1:]
        inputs, calls, after = zip(*seen, strict=True)
        with self._with_originals() as model:
            before = [outputs_of(model, call) for call in calls]
            effect = effect_of_masking(before, after)
            if effect is None:
                return None
            varied = verifier.variation(model)
        effect = replace(effect, on=inputs[0], varied=varied, spread=effect.spread if varied is None else 0.0)
        if effect.was_constant:
            least = min(self.masks.gammas, key=lambda name: float(self.norms[name].weight.abs().max()))
            return replace(effect, layer=least)
        if not effect.is_collapse:
            return effect
        unmasked = self._copy([])

        def masked_alone(layer: str) -> list[Tensor]:
            surgery = Surgery(unmasked)
            self.masks.of([layer]).apply(unmasked, surgery)
            try:
                return outputs_of(unmasked, calls[0])
            finally:
                surgery.roll_back()

        return blamed(effect, before[0], self.masks.gammas, masked_alone)

    def found(self, thorough: bool) -> Found:
        """Decide, cut and compare; tried again with fewer liberties if the result does not hold."""
        facts, run = self._look(self.masked, self.calls)
        if self.idle or any(map(holds_functions, modules_of(self.model))):
            check_runs_itself(self.model, self.calls)
        verifier = self._verifier(self.masked, self.calls, run, thorough=thorough)
        self.effect = self._effect(verifier)
        self._grounds = Grounds(self.masked, self.calls, facts, verifier)
        if facts.casts:  # what is read from it is rounded
            self._grounds = self._doubled(thorough) or self._grounds
        first: PruningError | None = None
        for lists, freeze_cuts in ((True, False), (False, False), (False, True)):
            try:
                return self._fixing(thorough, lists=lists, freeze_cuts=freeze_cuts)
            except PruningError as error:
                problem = error
            if first is None and not self._holds_uncut(thorough):
                raise self._refusal(problem) from problem
            first = first or problem
        part = self._part(thorough)
        if part is None:
            raise self._refusal(first) from first
        part.plan.report.notes.append(f"not all of the network can be cut: {escaped(first)}")
        return part

    def _fixing(self, thorough: bool, *, lists: bool, freeze_cuts: bool) -> Found:
        """Decide, cut and compare; tried again without the layers where the result does not hold."""
        first: PruningError | None = None
        fixed: tuple[str, ...] = ()
        for _ in range(1 if lists else _MOST_ATTEMPTS):
            try:
                found = self._try(self._limits(lists=lists, freeze_cuts=freeze_cuts, fixed=fixed), thorough)
            except PruningError as error:
                problem = error
            else:
                if "" in fixed:
                    found.plan.report.notes.append(f"not all of the network can be cut: {escaped(first)}")
                return found
            gc.collect()  # the models that failed
            first = first or problem
            if problem.module is None or (problem.module and problem.module in fixed):
                break
            fixed = (*fixed, problem.module)
        raise first or PruningError("nothing was tried")

    def _verifier(self, masked: nn.Module, calls: list[Call], run: Run, *, thorough: bool) -> Verifier:
        return Verifier(masked, calls, run, with_heads=self.has_heads, thorough=thorough, compare=self.options.compare)

    def _limits(
        self, *, kept: Collection[str] = (), lists: bool = False, freeze_cuts: bool = True, fixed: tuple[str, ...] = ()
    ) -> Limits:
        return Limits(
            frozenset(self.kept) | frozenset(kept),
            self.options.min_channels,
            self.options.round_to,
            lists=lists,
            freeze_cuts=freeze_cuts,
            fixed=fixed,
        )

    def _try(self, limits: Limits, thorough: bool) -> Found:
        """Decide, cut and compare; what a failure shows is learned, as long as there is something new."""
        while True:
            try:
                return self._attempt(limits)
            except ArgumentError:
                raise
            except Exception as error:  # noqa: BLE001  # a network that cannot be cut so may raise anything
                problem = _as_pruning_error(error)
            if not self._learn(problem, thorough):
                raise problem

    def _learn(self, problem: PruningError, thorough: bool) -> bool:
        """Learn from a failure; return whether there is anything new.

        An input of another size may run other layers, or make another thing of constants. Outputs that are chosen or
        sorted by near-equal numbers are compared in float64.
        """
        grounds = self._grounds
        call = grounds.verifier.failed_on
        if call is not None and not any(call is known for known in grounds.learned):
            facts = trace_again(grounds.masked, call, grounds.facts)
            if facts is not None:
                self._grounds = grounds.knowing(facts, call)
                return True
        if problem.module == "" and not grounds.is_double:
            self._grounds = self._doubled(thorough) or grounds
            return self._grounds.is_double
        return False

    def _doubled(self, thorough: bool) -> Grounds | None:
        """Return the same in float64; None if the network does not run so, or is in float64."""
        if all(parameter.dtype == torch.float64 for parameter in self.masked.parameters()):
            return None
        masked, calls = doubled(self.masked, self.calls)
        grounds = replace(self._grounds, masked=masked, calls=calls, is_double=True, learned=[])
        try:
            with grounds.precision():
                facts, run = self._look(sharing_copy(masked).eval(), calls)
                verifier = self._verifier(masked, calls, run, thorough=thorough)
        except PruningError:
            return None
        return replace(grounds, facts=facts, verifier=verifier)

    def _refusal(self, problem: PruningError | None) -> PruningError:
        return PruningError(f"no part of {type(self.model).__name__} can be cut: {escaped(problem)}")

    def _holds_uncut(self, thorough: bool) -> bool:
        """Whether the masked network equals itself, and a part of it could be cut if not all can."""
        try:
            self._try(self._limits(kept=self._grounds.facts.norms), thorough)
        except PruningError:
            return False
        return True

    def _part(self, thorough: bool) -> Found | None:
        """Return what can be cut at the beginning of a network, if not all of it can; None if nothing can."""
        names = [name for name in self._grounds.facts.norms if name in self.masks.gammas]
        best: Found | None = None
        first, last = 0, len(names)
        while last - first > 1:
            middle = (first + last) // 2
            try:
                found = self._try(self._limits(kept=names[middle:]), thorough)
            except PruningError:
                last = middle
                continue
            first, best = middle, found if found.plan.removed else best
        return best

    def _attempt(self, limits: Limits) -> Found:
        """Decide, cut and compare."""
        grounds = self._grounds
        slim = self._copy()
        compared = grounds.slim() if grounds.is_double else slim
        with grounds.precision():
            cuts = cut_all(
                compared,
                self._masked_channels(),
                grounds.facts,
                lambda cut: self._look(sharing_copy(cut).eval(), grounds.calls)[0],
                limits,
            )
            checked = grounds.verifier.check(sharing_copy(compared), cuts.removed)
        verifier: Verifier | Runner = grounds.verifier
        if grounds.is_double:
            for shapes, moves in zip(cuts.steps, cuts.moves, strict=True):
                Surgery(slim).apply(shapes, moves)
            verifier = Runner(self.calls[0])
            checked = Checked(checked.difference, verifier.check(sharing_copy(slim), cuts.removed).run)
            before = Runner(self.calls[0]).check(self.masked, {}).run
        else:
            before = grounds.verifier.run
        if cuts.steps:
            cuts.add_attributes(slim, new_numbers(self.model, slim, (before.shapes, checked.run.shapes)))
        notes = [*grounds.verifier.notes, *([_IN_DOUBLE] if grounds.is_double else [])]
        self.notes += [note for note in notes if note not in self.notes]
        costs = (before.cost, checked.run.cost)
        report = report_of(self.norms, self.masks, grounds.facts, cuts, costs, checked.difference, self.idle)
        report.notes.extend(self.notes)
        report = replace(report, masking=self.effect, options=self._used())
        plan = PruningPlan(
            self.masks, cuts.removed, cuts.steps, report, self._weights, cuts.moves, adds=any(cuts.moves)
        )
        return Found(plan, slim, self.masked, verifier)

    def _used(self) -> list[str]:
        """Return the options that need not be suggested."""
        options, outputs = self.options, self.calls[0].outputs
        used = {"groups": options.groups, "outputs": outputs, "bn_bias": options.bn_bias == "zero"}
        return [name for name, value in used.items() if value]

    def _masked_channels(self) -> dict[str, Tensor]:
        found = {}
        for name, channels in self.masks.gammas.items():
            mask = np.zeros(self.norms[name].num_features, dtype=bool)
            mask[channels] = True
            found[name] = torch.from_numpy(mask)
        return found


def _as_pruning_error(error: Exception) -> PruningError:
    if isinstance(error, PruningError):
        return error
    return PruningError(escaped(f"{type(error).__name__}: {error}"))
