"""The search for a plan: mask a copy, look at it, decide, cut another copy, and compare the two."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ._copies import sharing_copy
from ._coupling import classes_of
from ._criteria import Criterion, check_criterion, first_of_chain, masks, scores
from ._errors import PruningError
from ._facts import Facts
from ._heads import look, look_at_heads
from ._inputs import Call, batch_norms, check_devices, check_finite
from ._measure import Cost
from ._metadata import new_numbers
from ._plan import Masks, PruningPlan, channels_of
from ._report import PrunedLayer, PruningReport
from ._rounds import Cuts, Limits, cut_all
from ._verify import Verifier, undisturbed

Keep: TypeAlias = "str | nn.Module | Iterable[str | nn.Module]"
Beta: TypeAlias = Literal["keep", "zero"]
Scope: TypeAlias = Literal["global", "layer"]


@dataclass(frozen=True)
class Options:
    """How channels are chosen; see `goctconv.pruning.analyze`."""

    threshold: float | None
    ratio: float | None
    scope: Scope
    max_ratio: float
    criterion: Criterion
    coupled: bool
    beta: Beta
    keep: Keep
    round_to: int | None
    min_channels: int

    def __post_init__(self) -> None:
        check_criterion(self.criterion, self.threshold, self.ratio, self.scope)
        if self.beta not in {"keep", "zero"}:
            raise ValueError(f"beta={self.beta!r} must be 'keep' or 'zero'")
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
    with torch.no_grad(), undisturbed():
        return _Search(model, call, options, norms, kept).found(thorough)


class _Search:
    def __init__(
        self, model: nn.Module, call: Call, options: Options, norms: dict[str, _BatchNorm], kept: set[str]
    ) -> None:
        self.model, self.call, self.options = model, call, options
        self.norms, self.kept = norms, kept
        self.notes: list[str] = []
        self.has_heads = False
        self.masks = self._masks()
        scales = [norm._parameters[name] for norm in norms.values() for name in ("weight", "bias")]
        self._scales = [one for one in scales if one is not None]
        self.masked = self._copy()

    def _copy(self) -> nn.Module:
        """Return a masked copy, which shares everything else."""
        masked = sharing_copy(self.model, own=self._scales)
        self.masks.apply(masked)
        return masked.eval()

    def _masks(self) -> Masks:
        options, facts = self.options, _Once(self.model, self.call)
        scored = scores(options.criterion, self.model, self.norms, facts)
        if options.coupled:
            scored = classes_of(facts()).mean(scored)
        chosen = masks(
            scored,
            threshold=options.threshold,
            ratio=options.ratio,
            scope=options.scope,
            max_ratio=options.max_ratio,
            excluded=self.kept,
        )
        scales = {name: channels_of(mask) for name, mask in chosen.items() if mask.any()}
        shifts: dict[str, list[int]] = {}
        if options.beta == "zero":
            shifts = scales
        elif options.criterion == "bn_scale_first":
            shifts = {name: scales[name] for name in first_of_chain(facts()) if name in scales}
        return Masks(scales, shifts)

    def _facts(self, model: nn.Module) -> Facts:
        facts, idle = look(model, self.call)
        if not idle:
            return facts
        joined, problem = look_at_heads(model, self.call, facts)
        self.has_heads = joined is not facts
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
        problem: PruningError | None = None
        for lists, freeze_cuts in ((True, False), (False, False), (False, True)):
            limits = Limits(frozenset(self.kept), self.options.min_channels, self.options.round_to, lists, freeze_cuts)
            slim = sharing_copy(self.model, own=self._scales)
            self.masks.apply(slim)
            try:
                cuts = cut_all(slim, self._masked_channels(), facts, self._facts, limits)
                checked = verifier.check(sharing_copy(slim), cuts.removed)
                if cuts.steps:
                    cuts.add_attributes(slim, new_numbers(self.model, slim, (verifier.told, checked.told)))
            except Exception as error:  # noqa: BLE001  # a network that cannot be cut so may raise anything
                problem = problem or _as_pruning_error(error)
                continue
            report = self._report(facts, cuts, (verifier.cost, checked.cost), checked.difference)
            plan = PruningPlan(self.masks, cuts.removed, cuts.steps, report, cuts.moves)
            return Found(plan, slim, self.masked, verifier)
        raise PruningError(f"no part of {type(self.model).__name__} can be cut: {problem}") from problem

    def _masked_channels(self) -> dict[str, Tensor]:
        return {name: _mask(channels, self.norms[name]) for name, channels in self.masks.scales.items()}

    def _report(
        self,
        facts: Facts,
        cuts: Cuts,
        costs: tuple[Cost, Cost],
        difference: dict[str, float],
    ) -> PruningReport:
        layers = {}
        for name, norm in self.norms.items():
            gone = cuts.removed.get(name, [])
            masked = sorted({*self.masks.scales.get(name, []), *gone})
            of = cuts.first.of(facts.norms[name].labels) if name in facts.norms else None
            held = {
                channel: "it does not run" if of is None else cuts.first.reasons.get(int(of[channel]), "unknown")
                for channel in masked
                if channel not in set(gone)
            }
            layers[name] = PrunedLayer(norm.num_features, len(masked), len(gone), held)
        before, after = costs
        return PruningReport(
            layers,
            (before.parameters, after.parameters),
            (before.macs, after.macs),
            (before.activations, after.activations),
            notes=[*self.notes, *(f"new bias: {name}" for shapes in cuts.steps for name in shapes.biases)],
            difference=difference,
        )


class _Once:
    """Looks at a model when first asked what it is like."""

    def __init__(self, model: nn.Module, call: Call) -> None:
        self._model, self._call = model, call
        self._facts: Facts | None = None

    def __call__(self) -> Facts:
        if self._facts is None:
            self._facts, _ = look(sharing_copy(self._model).eval(), self._call)
        return self._facts


def _mask(channels: list[int], norm: _BatchNorm) -> Tensor:
    mask = torch.zeros(norm.num_features, dtype=torch.bool)
    mask[channels] = True
    return mask


def _as_pruning_error(error: Exception) -> PruningError:
    if isinstance(error, PruningError):
        return error
    return PruningError(f"{type(error).__name__}: {error}")


def named_norms(norms: dict[str, _BatchNorm], model: nn.Module, keep: Keep) -> set[str]:
    """Return the layers that ``keep`` names.

    Raises:
        ValueError: It names none.
        TypeError: It is of another kind.
    """
    found: set[str] = set()
    paths = dict(model.named_modules(remove_duplicate=False))
    names = {id(norm): name for name, norm in norms.items()}
    given = [keep] if isinstance(keep, str | nn.Module) or not isinstance(keep, Iterable) else list(keep)
    for one in given:
        if isinstance(one, nn.Module):
            modules = [one]
        elif isinstance(one, str):
            modules = [module for path, module in paths.items() if fnmatch.fnmatchcase(path, one)]
        else:
            raise TypeError(f"keep: {one!r} must be a module, its name or a glob")
        matched = {names[id(inner)] for module in modules for inner in module.modules() if id(inner) in names}
        if not matched:
            near = difflib.get_close_matches(one, norms, n=3, cutoff=0.3) if isinstance(one, str) else []
            raise ValueError(
                f"keep: {one!r} matches no BatchNorm with a scale; there are {len(norms)}, such as "
                f"{', '.join(near or list(norms)[:3])}"
            )
        found |= matched
    return found
