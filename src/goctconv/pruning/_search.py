"""The search for a plan: mask a copy, look at it, decide, cut another copy, and compare the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from .._torch import BatchNorm
from ._account import account
from ._copies import sharing_copy
from ._criteria import Criterion, check_criterion, first_of_chain, masks, scope_of, scores
from ._errors import PruningError
from ._facts import Facts
from ._fingerprint import fingerprint
from ._groups import classes_of
from ._heads import look, look_at_heads
from ._inputs import Call, batch_norms, check_devices, check_finite
from ._keep import Keep, named_norms
from ._limits import Limits
from ._metadata import new_numbers
from ._plan import Masks, PruningPlan, channels_of
from ._rounds import cut_all
from ._verify import Verifier, quietly

BnBias: TypeAlias = Literal["keep", "zero"]
Scope: TypeAlias = Literal["global", "layer"]
_MOST_ATTEMPTS = 6


@dataclass(frozen=True)
class Options:
    """How channels are chosen; see `goctconv.pruning.plan_pruning`."""

    threshold: float | None
    ratio: float | None
    scope: Scope | None
    max_ratio: float
    criterion: Criterion
    groups: bool
    bn_bias: BnBias
    keep: Keep
    round_to: int | None
    min_channels: int

    def __post_init__(self) -> None:
        check_criterion(self.criterion, self.threshold, self.ratio, self.scope)
        if self.bn_bias not in {"keep", "zero"}:
            raise ValueError(f"bn_bias={self.bn_bias!r} must be 'keep' or 'zero'")
        for name, value in (("round_to", self.round_to or 1), ("min_channels", self.min_channels)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name}={value!r} must be an integer of at least 1")
            if value < 1 or getattr(self, name) == 0:
                raise ValueError(f"{name}={getattr(self, name)!r} must be an integer of at least 1")
        if isinstance(self.max_ratio, bool) or not isinstance(self.max_ratio, int | float):
            raise TypeError(f"max_ratio={self.max_ratio!r} must be a share from 0 to 1")
        if not 0 <= self.max_ratio <= 1:
            raise ValueError(f"max_ratio={self.max_ratio!r} must be a share from 0 to 1")


@dataclass
class Found:
    """A plan, the model that was cut by it, which shares what was not cut with the original, and the masked model."""

    plan: PruningPlan
    slim: nn.Module
    masked: nn.Module
    verifier: Verifier


def search(model: nn.Module, call: Call, options: Options, *, thorough: bool = True) -> Found:
    """Find a plan for a model that is not wrapped.

    Raises:
        PruningError: The model cannot be traced or cut.
        ValueError: A layer to keep is not there.
        TypeError: It is of another kind.
    """
    norms = batch_norms(model)
    kept = named_norms(norms, model, options.keep)
    check_finite(model)
    check_devices(model, call)
    with torch.no_grad(), quietly():
        return _Search(model, call, options, norms, kept).found(thorough)


class _Search:
    def __init__(
        self, model: nn.Module, call: Call, options: Options, norms: dict[str, BatchNorm], kept: set[str]
    ) -> None:
        self.model, self.call, self.options = model, call, options
        self.norms, self.kept = norms, kept
        self.notes: list[str] = []
        self.idle: list[str] = []
        self.has_heads = False
        self.masks = self._masks()
        scales = [norm._parameters[name] for norm in norms.values() for name in ("weight", "bias")]
        self._scales = [one for one in scales if one is not None]
        self.masked = self._copy()
        self._weights = fingerprint(self.masked)

    def _copy(self) -> nn.Module:
        """Return a masked copy, which shares everything else."""
        masked = sharing_copy(self.model, own=self._scales)
        self.masks.apply(masked)
        return masked.eval()

    def _masks(self) -> Masks:
        options, facts = self.options, _Once(self.model, self.call)
        scored = scores(options.criterion, self.model, self.norms, facts)
        if options.groups:
            scored = classes_of(facts()).mean(scored)
        chosen = masks(
            scored,
            threshold=options.threshold,
            ratio=options.ratio,
            scope=scope_of(options.criterion, options.scope),
            max_ratio=options.max_ratio,
            excluded=self.kept,
        )
        scales = {name: channels_of(mask) for name, mask in chosen.items() if mask.any()}
        shifts: dict[str, list[int]] = {}
        if options.bn_bias == "zero":
            shifts = scales
        elif options.criterion == "gamma_first":
            shifts = {name: scales[name] for name in first_of_chain(facts()) if name in scales}
        return Masks(scales, shifts)

    def _facts(self, model: nn.Module) -> Facts:
        facts, idle = look(model, self.call)
        self.idle = idle
        if not idle:
            return facts
        joined, problem = look_at_heads(model, self.call, facts)
        self.has_heads = joined is not facts
        self.idle = [name for name in idle if name not in joined.norms]
        note = (
            f"{', '.join(idle[:3])}{' and others' if len(idle) > 3 else ''} did not run in eval mode, and the "
            f"model did not run in train mode ({problem}): whether they still fit is not known"
        )
        if problem and note not in self.notes:
            self.notes.append(note)
        return joined

    def found(self, thorough: bool) -> Found:
        """Decide, cut and compare; tried again with fewer liberties if the result does not hold."""
        facts = self._facts(self.masked)
        verifier = Verifier(self.masked, self.call, with_heads=self.has_heads, thorough=thorough)
        first: PruningError | None = None
        for lists, freeze_cuts in ((True, False), (False, False), (False, True)):
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
                first = first or problem
                if problem.module is None or (problem.module and problem.module in fixed):
                    break
                fixed = (*fixed, problem.module)
        raise PruningError(f"no part of {type(self.model).__name__} can be cut: {first}") from first

    def _attempt(self, facts: Facts, verifier: Verifier, limits: Limits) -> Found:
        """Decide, cut and compare.

        Raises:
            PruningError: The result does not hold.
        """
        slim = sharing_copy(self.model, own=self._scales)
        self.masks.apply(slim)
        cuts = cut_all(slim, self._masked_channels(), facts, self._facts, limits)
        checked = verifier.check(sharing_copy(slim), cuts.removed)
        if cuts.steps:
            cuts.add_attributes(slim, new_numbers(self.model, slim, (verifier.told, checked.told)))
        self.notes += [note for note in verifier.notes if note not in self.notes]
        costs = (verifier.cost, checked.cost)
        report = account(self.norms, self.masks, facts, cuts, costs, checked.difference, self.idle)
        report.notes.extend(self.notes)
        plan = PruningPlan(
            self.masks, cuts.removed, cuts.steps, report, self._weights, cuts.moves, adds=any(cuts.moves)
        )
        return Found(plan, slim, self.masked, verifier)

    def _masked_channels(self) -> dict[str, Tensor]:
        return {name: _mask(channels, self.norms[name]) for name, channels in self.masks.scales.items()}


class _Once:
    """Looks at a model when first asked what it is like."""

    def __init__(self, model: nn.Module, call: Call) -> None:
        self._model, self._call = model, call
        self._facts: Facts | None = None

    def __call__(self) -> Facts:
        if self._facts is None:
            self._facts, _ = look(sharing_copy(self._model).eval(), self._call)
        return self._facts


def _mask(channels: list[int], norm: BatchNorm) -> Tensor:
    mask = torch.zeros(norm.num_features, dtype=torch.bool)
    mask[channels] = True
    return mask


def _as_pruning_error(error: Exception) -> PruningError:
    if isinstance(error, PruningError):
        return error
    return PruningError(f"{type(error).__name__}: {error}")
