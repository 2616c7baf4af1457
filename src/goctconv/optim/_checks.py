"""Checks of the arguments of DynamicWeightDecay, and its warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from .._checks import ArgumentError, ArgumentTypeError, check_instance, check_integer, warn_caller
from .._torch import BatchNorm, has_scheduler
from ..graph import Selection, gamma_parameters, named_batch_norms, select
from ._param_groups import groups_by_parameter
from ._statistics import WatchedLayer, is_watched


def check_arguments(optimizer: object, model: object, history: object, decoupled: object, transform: object) -> None:
    """Check types, and that nothing counts the optimizer's groups yet."""
    if not isinstance(optimizer, Optimizer):
        is_swapped = isinstance(optimizer, nn.Module) and isinstance(model, Optimizer)
        cure = "the optimizer comes first, as in DynamicWeightDecay(optimizer, model)" if is_swapped else ""
        raise ArgumentTypeError("optimizer", optimizer, "a torch.optim.Optimizer", cure)
    check_instance("model", model, nn.Module, "a torch.nn.Module")
    if isinstance(model, nn.DataParallel):
        problem = "is a DataParallel, whose replicas cannot be watched"
        raise ArgumentTypeError("model", model, problem=problem, cure="use DistributedDataParallel")
    if has_scheduler(optimizer):
        problem = "has a learning-rate scheduler, which would miss the param group that wrapping adds"
        cure = "wrap first, then attach the scheduler to the DynamicWeightDecay"
        raise ArgumentError("optimizer", optimizer, problem=problem, cure=cure)
    if any("initial_lr" in group for group in optimizer.param_groups):  # schedulers of other packages note it too
        warn(
            "the param groups have 'initial_lr', so a learning-rate scheduler may be attached: if it is, it will not "
            "change the group of γ that wrapping adds; wrap first, then attach it"
        )
    check_integer("history", history, 0, cure="0 records nothing")
    check_instance("decoupled", decoupled, bool, "True or False")
    if decoupled and not all("lr" in group for group in optimizer.param_groups):
        problem = f"needs a learning rate, but {type(optimizer).__name__} has no 'lr' in its groups"
        raise ArgumentError("decoupled", decoupled, problem=problem)
    if transform is not None and not callable(transform):
        raise ArgumentTypeError("transform", transform, "a function of a dict from layers to M, (C,)")


def chosen_norms(
    optimizer: Optimizer, model: nn.Module, include: Selection | None, exclude: Selection | None
) -> dict[str, BatchNorm]:
    """Return the layers that are chosen."""
    norms = named_batch_norms(model)
    if not norms:
        problem = "has no BatchNorm with γ (affine=True), so there is nothing to decay"
        raise ArgumentError("model", model, problem=problem, cure="dynamic weight decay is for networks with BatchNorm")
    chosen = norms if include is None else select(model, norms, include, "include")
    if exclude is not None and not (isinstance(exclude, list | tuple | set) and not exclude):
        excluded = select(model, norms, exclude, "exclude")
        chosen = {name: norm for name, norm in chosen.items() if name not in excluded}
        if not chosen:
            cure = "exclude less, or use the optimizer without DynamicWeightDecay"
            raise ArgumentError("exclude", exclude, problem="leaves no BatchNorm to decay", cure=cure)
    gammas = {name: gamma_parameters(norm) for name, norm in chosen.items()}
    sharded = [name for name, parameters in gammas.items() if any(hasattr(own, "placements") for own in parameters)]
    if sharded:
        problem = (
            f"holds γ of {listed(sharded)} as a DTensor, a part of which lies in every process: sharded training "
            "(FSDP, tensor parallelism) is not supported"
        )
        raise ArgumentTypeError("model", model, problem=problem, cure="use DistributedDataParallel")
    missing = _missing(optimizer, gammas, named=include is not None)
    taken = [name for name, norm in chosen.items() if name not in missing and is_watched(norm)]
    if taken:
        problem = f"is watched: a DynamicWeightDecay around another optimizer decays {listed(taken)} already"
        cure = "call its remove() first (has a notebook's cell run twice?), or exclude them"
        raise ArgumentError("model", model, problem=problem, cure=cure)
    return chosen


def _missing(optimizer: Optimizer, gammas: Mapping[str, Sequence[nn.Parameter]], *, named: bool) -> list[str]:
    """Return the layers whose γ the optimizer does not hold; an error if it holds none, or not all that were named."""
    held = groups_by_parameter(optimizer)
    missing = [name for name, parameters in gammas.items() if any(own not in held for own in parameters)]
    if len(missing) == len(gammas) or (named and missing):
        frozen = sum(not any(own.requires_grad for own in gammas[name]) for name in missing)
        reason = f" ({frozen} frozen, with requires_grad=False)" if frozen else ""
        cure = (
            "make it of the parameters of this model, the one that is passed here (not of a copy, nor before "
            "parameters were replaced), or include other layers"
        )
        problem = f"does not hold γ of {listed(missing)}{reason}"
        raise ArgumentError("optimizer", optimizer, problem=problem, cure=cure)
    return missing


def checked_metric(transform: object, changed: object, name: str, old: Tensor) -> Tensor:
    """Return what a transform made of M of a layer."""
    if not isinstance(changed, Mapping):
        problem = f"returned {changed!r} (is a return missing?)"
        raise ArgumentTypeError("transform", transform, "a dict from layers to M", problem=problem)
    if name not in changed:
        problem = f"was given M of {name!r} and did not return it"
        raise ArgumentError("transform", transform, problem=problem, cure="return every layer")
    new = changed[name]
    if not isinstance(new, Tensor) or new.shape != old.shape:
        shape = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
        problem = f"returned {shape} for {name!r}"
        raise ArgumentError("transform", transform, f"a tensor {tuple(old.shape)}", problem=problem)
    return new


class Warnings:
    """Warnings of one optimizer, each given once for each of the things that it is about."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def of_unseen(self, layers: Mapping[str, WatchedLayer]) -> None:
        """Warn of layers without images."""
        frozen = sum(not layer.norm.training for layer in layers.values())
        reason = f" (in eval mode: {frozen})" if frozen else ""
        self.once(
            f"no activation was seen behind {listed(list(layers))} since the last step, so γ was not decayed there"
            f"{reason}; exclude layers that the forward pass does not use: passes are slower while it waits for them",
            *(f"unseen {name}" for name in layers),
        )

    def of_no_gradient(self, names: Sequence[str]) -> None:
        """Warn of γ without gradients."""
        self.once(
            f"γ of {listed(names)} has no gradient, so it was not decayed: it is frozen, or the loss does not depend "
            "on it; exclude it, or set requires_grad",
            *(f"no gradient {name}" for name in names),
        )

    def once(self, message: str, *about: str) -> None:
        """Warn of things, unless each of them was warned of before."""
        is_new = not self._given.issuperset(about)
        self._given.update(about)
        if is_new:
            warn(message)


def warn(message: str) -> None:
    """Warn of what the caller's code does."""
    warn_caller(f"DynamicWeightDecay: {message}")


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more layers"
