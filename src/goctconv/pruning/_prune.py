"""analyze and prune_channels: from a model and a threshold to a slim, verified model."""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from ._criteria import Criterion, check_criterion, first_of_chain, masks, scores
from ._decide import Decision, decide
from ._errors import PruningError
from ._facts import Facts
from ._inputs import as_call, batch_norms, check_devices, check_finite, unwrapped
from ._measure import measure, milliseconds
from ._plan import PruningPlan, channels_of
from ._rebuild import Surgery, moves_of, shapes_of
from ._report import PrunedLayer, PruningReport
from ._trace import trace
from ._transfer import transfer_optimizer
from ._verify import Call, undisturbed, verify

Keep: TypeAlias = "str | nn.Module | Iterable[str | nn.Module]"
Beta: TypeAlias = Literal["keep", "zero"]


@dataclass(frozen=True)
class PruningResult:
    """A pruned model and all that is known of it.

    Attributes:
        model: The slim model.
        plan: What was cut.
        report: What was gained, and why masked channels stayed.
    """

    model: nn.Module
    plan: PruningPlan
    report: PruningReport
    original: nn.Module

    def transfer_optimizer(self, optimizer: Optimizer) -> Optimizer:
        """Return an optimizer of the slim model, with the state of the original's, cut like its parameters.

        Raises:
            PruningError: The optimizer holds other parameters, or state of a shape that cannot be cut.
        """
        return transfer_optimizer(optimizer, self.original, self.model, self.plan)


@torch.no_grad()
def analyze(
    model: nn.Module,
    example_inputs: Any,
    *,
    threshold: float | None = None,
    ratio: float | None = None,
    scope: Literal["global", "layer"] = "global",
    max_ratio: float = 1.0,
    criterion: Criterion = "bn_scale",
    beta: Beta = "keep",
    keep: Keep = (),
    round_to: int | None = None,
    min_channels: int = 1,
) -> PruningPlan:
    """Find out which channels of a BatchNorm network can go without a change of its output; changes nothing.

    Channels are masked first: γ := 0 for those that a criterion chooses. What then is a constant, at every input and at
    every size of it, is moved into the layers that read it, and the channel goes.

    Args:
        model: Any network with BatchNorm; it may be wrapped in DistributedDataParallel or compiled.
        example_inputs: What the model is called with: a tensor, a tuple of arguments, or a dict of keyword arguments.
        threshold: Channels with a score below it are masked; 1e-20 is published for ``criterion="bn_scale"``.
        ratio: In place of a threshold: the share of channels to mask.
        scope: Whether the share is of all channels together or of each layer.
        max_ratio: The largest share of a layer that is masked.
        criterion: What is scored: ``"bn_scale"``, abs(γ); ``"bn_scale_first"``, in a chain of depthwise layers that of
            the first BatchNorm, and γ and β of the whole chain are masked with it; ``"l1_filter"`` and
            ``"geometric_median"``, of the filter that makes the channel; or a function of the model that returns scores
            by BatchNorm.
        beta: ``"keep"`` leaves the shift β of masked channels, which become constants; ``"zero"`` masks it too.
        keep: BatchNorm layers that must keep all channels: names, globs or modules.
        round_to: Let the number of channels of every layer be a multiple of it, if possible.
        min_channels: What every layer keeps at least.

    Returns:
        The plan.

    Raises:
        PruningError: The model cannot be traced or cut: no BatchNorm, NaN weights, scripted, quantized or parametrized.
        ValueError: Arguments that cannot be.
        TypeError: Arguments of another kind.

    Example:
        >>> import timm, torch
        >>> from goctconv import analyze
        >>> plan = analyze(timm.create_model("resnet18"), torch.zeros(1, 3, 64, 64), ratio=0.3)
        >>> plan.report.masked
        1440
    """
    _check_arguments(beta, round_to, min_channels, max_ratio)
    check_criterion(criterion, threshold, ratio, scope)
    model, call = unwrapped(model), as_call(example_inputs)
    norms = batch_norms(model)
    kept_norms = _named(norms, model, keep)
    check_finite(model)
    check_devices(model, call)
    masked = copy.deepcopy(model)
    with undisturbed(model, masked):
        scored = scores(criterion, model, norms, lambda: _traced(model, call))
        chosen = masks(scored, threshold=threshold, ratio=ratio, scope=scope, max_ratio=max_ratio, excluded=kept_norms)
        plan = _plan(masked, call, chosen, kept_norms, criterion, beta, round_to, min_channels)
    return plan


def _plan(
    masked: nn.Module,
    call: Call,
    chosen: dict[str, Tensor],
    kept_norms: set[str],
    criterion: Criterion,
    beta: Beta,
    round_to: int | None,
    min_channels: int,
) -> PruningPlan:
    """Mask a copy, look at it, and decide; tried again with fewer liberties if the result does not hold."""
    plan = PruningPlan({n: channels_of(m) for n, m in chosen.items()}, {}, _no_shapes(), _no_report(), beta)
    if criterion == "bn_scale_first":
        chains = first_of_chain(_traced(masked, call))
        plan.zero_beta = {name: plan.masked[name] for name in chains if plan.masked.get(name)}
    plan.mask(masked)
    facts = _traced(masked, call)
    stored = {**dict(masked.named_parameters()), **dict(masked.named_buffers())}
    norms = batch_norms(masked)
    zero = {name: norm.weight.detach() == 0 for name, norm in norms.items()}
    plan.masked = {name: channels_of(mask) for name, mask in zero.items() if mask.any() and name in chosen}
    problem = ""
    for freeze_cuts in (False, True):
        decision = decide(
            facts,
            {name: zero[name].cpu() for name in plan.masked},
            stored,
            min_channels=min_channels,
            round_to=round_to,
            keep={name: torch.ones(norms[name].num_features, dtype=torch.bool) for name in kept_norms},
            freeze_cuts=freeze_cuts,
        )
        plan.shapes = shapes_of(facts, decision, masked)
        plan.moves = moves_of(facts, decision, stored, masked, plan.shapes)
        problem = _trial(masked, plan, call)
        if not problem:
            break
    else:
        raise PruningError(f"no part of the model could be cut so that it still runs: {problem}")
    plan.removed = _removed(facts, decision, plan.masked)
    plan.report = _report(facts, decision, plan, masked, call)
    return plan


def _trial(masked: nn.Module, plan: PruningPlan, call: Call) -> str:
    """Return why a cut copy does not do what the masked model does; empty if it does."""
    slim = copy.deepcopy(masked)
    try:
        Surgery(slim).apply(plan.shapes, plan.moves)
        verify(masked, slim, call)
    except Exception as error:  # noqa: BLE001  # whatever a network raises, it cannot be cut so
        return f"{type(error).__name__}: {error}"
    return ""


def _traced(model: nn.Module, call: Call) -> Facts:
    try:
        return trace(model, *call)
    except Exception as error:
        raise PruningError(
            f"the model does not run on example_inputs ({type(error).__name__}: {error}): pass what it is called with, "
            "of a size that it takes"
        ) from error


@torch.no_grad()
def prune_channels(
    model: nn.Module,
    example_inputs: Any,
    *,
    threshold: float | None = None,
    ratio: float | None = None,
    scope: Literal["global", "layer"] = "global",
    max_ratio: float = 1.0,
    criterion: Criterion = "bn_scale",
    beta: Beta = "keep",
    keep: Keep = (),
    round_to: int | None = None,
    min_channels: int = 1,
    inplace: bool = False,
    verify: bool = True,
    latency: bool = False,
) -> PruningResult:
    """Remove channels of a BatchNorm network so that its output does not change, and prove it.

    The pruned network equals the masked one, γ := 0 for the channels that the criterion chooses, at every input size,
    to rounding. See `analyze` for the arguments that choose channels.

    Args:
        model: Any network with BatchNorm.
        example_inputs: As in `analyze`.
        threshold: As in `analyze`.
        ratio: As in `analyze`.
        scope: As in `analyze`.
        max_ratio: As in `analyze`.
        criterion: As in `analyze`.
        beta: As in `analyze`.
        keep: As in `analyze`.
        round_to: As in `analyze`.
        min_channels: As in `analyze`.
        inplace: Change the model itself; if anything goes wrong, it is as before, bit for bit.
        verify: Whether to compare the result with the masked network on the example, on random input and at a second
            size.
        latency: Whether to measure the time of a forward pass before and after, for the report.

    Returns:
        The slim model, the plan and the report.

    Raises:
        PruningError: As `analyze`; or the result differs from the masked network, which leaves the model as it was.
        ValueError: As `analyze`.
        TypeError: As `analyze`.

    Example:
        >>> import timm, torch
        >>> from goctconv import prune_channels
        >>> result = prune_channels(timm.create_model("resnet18"), torch.zeros(1, 3, 64, 64), ratio=0.3)
        >>> sum(parameter.numel() for parameter in result.model.parameters()) < 11_689_512
        True
    """
    plan = analyze(
        model,
        example_inputs,
        threshold=threshold,
        ratio=ratio,
        scope=scope,
        max_ratio=max_ratio,
        criterion=criterion,
        beta=beta,
        keep=keep,
        round_to=round_to,
        min_channels=min_channels,
    )
    inner, call = unwrapped(model), as_call(example_inputs)
    original = copy.deepcopy(inner) if inplace else inner
    masked = plan.mask(copy.deepcopy(inner))
    slim = inner if inplace else copy.deepcopy(inner)
    surgery = Surgery(slim)
    report = plan.report
    try:
        plan.mask(slim, surgery)
        surgery.apply(plan.shapes, plan.moves)
        with undisturbed(masked, slim):
            if verify:
                report = replace(report, difference=_verified(masked, slim, call))
            if latency:
                report = replace(report, milliseconds=milliseconds(masked, slim, call))
    except BaseException:
        surgery.roll_back()
        raise
    plan.report = report
    return PruningResult(slim, plan, report, original)


def _verified(masked: nn.Module, slim: nn.Module, call: Call) -> dict[str, float]:
    return verify(masked, slim, call)


def _removed(facts: Facts, decision: Decision, masked: dict[str, list[int]]) -> dict[str, list[int]]:
    kept = {name: decision.kept(norm.labels) for name, norm in facts.norms.items()}
    return {
        name: [channel for channel in channels if name in kept and not kept[name][channel]]
        for name, channels in masked.items()
    }


def _report(facts: Facts, decision: Decision, plan: PruningPlan, masked: nn.Module, call: Call) -> PruningReport:
    layers = {}
    for name, norm in batch_norms(masked).items():
        channels, gone = plan.masked.get(name, []), set(plan.removed.get(name, []))
        of = decision.of(facts.norms[name].labels) if name in facts.norms else None
        held = {
            channel: "it does not run in eval mode" if of is None else decision.reasons.get(int(of[channel]), "unknown")
            for channel in channels
            if channel not in gone
        }
        layers[name] = PrunedLayer(norm.num_features, len(channels), len(gone), held)
    slim = copy.deepcopy(masked)
    Surgery(slim).apply(plan.shapes, plan.moves)
    before, after = measure(masked, call), measure(slim, call)
    notes = [f"new bias: {name}" for name in plan.shapes.biases]
    return PruningReport(layers, *zip(before, after, strict=True), notes=notes)  # type: ignore[arg-type]  # three pairs


def _named(norms: dict[str, _BatchNorm], model: nn.Module, keep: Keep) -> set[str]:
    """Return the layers that ``keep`` names."""
    found: set[str] = set()
    for one in [keep] if isinstance(keep, str | nn.Module) else list(keep):
        if isinstance(one, nn.Module):
            inside = {id(module) for module in one.modules()}
            matched = {name for name, norm in norms.items() if id(norm) in inside}
        elif isinstance(one, str):
            paths = [name for name, _ in model.named_modules() if fnmatch.fnmatchcase(name, one)]
            matched = {name for name in norms for path in paths if name == path or name.startswith(f"{path}.")}
        else:
            raise TypeError(f"keep: {one!r} must be a module, its name or a glob")
        if not matched:
            raise ValueError(
                f"keep: {one!r} matches no BatchNorm with a scale; there are {', '.join(list(norms)[:3])}, ..."
            )
        found |= matched
    return found


def _check_arguments(beta: object, round_to: object, min_channels: object, max_ratio: object) -> None:
    if beta not in {"keep", "zero"}:
        raise ValueError(f"beta={beta!r} must be 'keep' or 'zero'")
    for name, value, least in (("round_to", round_to, 1), ("min_channels", min_channels, 1)):
        if value is None and name == "round_to":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}={value!r} must be an integer of at least {least}")
    if not isinstance(max_ratio, int | float) or not 0 <= max_ratio <= 1:
        raise ValueError(f"max_ratio={max_ratio!r} must be a share from 0 to 1")


def _no_shapes() -> Any:
    return cast("Any", None)


def _no_report() -> Any:
    return cast("Any", None)
