"""Checks of what DynamicWeightDecay is given."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim import Optimizer

from .._torch import BatchNorm
from ..graph import Selection, gamma_parameters, named_batch_norms, select
from ._activation_statistics import owner_of
from ._param_groups import groups_by_parameter, has_scheduler, may_have_scheduler
from ._warnings import listed, warn


def check_arguments(optimizer: object, model: object, history: object) -> None:
    """Check kinds, and that nothing counts the optimizer's groups yet.

    Raises:
        TypeError: Something is of another kind.
        ValueError: A scheduler is attached, or the history is no number of steps.
    """
    if isinstance(optimizer, nn.Module) and isinstance(model, Optimizer):
        raise TypeError("the optimizer comes first: DynamicWeightDecay(optimizer, model)")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if isinstance(model, nn.DataParallel):
        raise TypeError("model is a DataParallel, whose replicas cannot be watched: use DistributedDataParallel")
    if has_scheduler(optimizer):
        raise ValueError(
            "a learning-rate scheduler is attached to the optimizer: wrapping adds a param group, which it would miss; "
            "wrap first, then attach the scheduler to the DynamicWeightDecay"
        )
    if may_have_scheduler(optimizer):
        warn(
            "the param groups have 'initial_lr', so a learning-rate scheduler may be attached: if it is, it will not "
            "change the group of γ that wrapping adds; wrap first, then attach it"
        )
    if isinstance(history, bool) or not isinstance(history, int) or history < 0:
        raise ValueError(f"history={history!r} must be a number of steps, 0 for no history")


def chosen_norms(
    optimizer: Optimizer, model: nn.Module, include: Selection | None, exclude: Selection | None
) -> dict[str, BatchNorm]:
    """Return the layers that are chosen.

    Raises:
        TypeError: They are sharded over processes.
        ValueError: There are none; the optimizer holds none of them, or not all that were named; another
            DynamicWeightDecay has some.
    """
    norms = named_batch_norms(model)
    if not norms:
        raise ValueError(
            f"{type(model).__name__} has no BatchNorm with a scale (affine=True), so there is nothing to decay: "
            "dynamic weight decay is for networks with BatchNorm"
        )
    chosen = norms if include is None else select(model, norms, include, "include")
    if exclude is not None and not (isinstance(exclude, list | tuple | set) and not exclude):
        left_out = select(model, norms, exclude, "exclude")
        chosen = {name: norm for name, norm in chosen.items() if name not in left_out}
        if not chosen:
            raise ValueError("exclude leaves no BatchNorm to decay: exclude less, or do without DynamicWeightDecay")
    sharded = [
        name for name, norm in chosen.items() if any(hasattr(one, "placements") for one in gamma_parameters(norm))
    ]
    if sharded:
        raise TypeError(
            f"γ of {listed(sharded)} is a DTensor, a part of which lies in every process: sharded training (FSDP, "
            "tensor parallelism) is not supported; use DistributedDataParallel"
        )
    held = groups_by_parameter(optimizer)
    missing = [name for name, norm in chosen.items() if any(one not in held for one in gamma_parameters(norm))]
    if len(missing) == len(chosen) or (include is not None and missing):
        frozen = [name for name in missing if not any(one.requires_grad for one in gamma_parameters(norms[name]))]
        reason = f" ({len(frozen)} frozen, with requires_grad=False)" if frozen else ""
        raise ValueError(
            f"the optimizer does not hold γ of {listed(missing)}{reason}: make it of the parameters of this model, the "
            "one that is passed here (not of a copy, nor before parameters were replaced), or include other layers"
        )
    taken = [name for name, norm in chosen.items() if name not in missing and owner_of(norm) is not None]
    if taken:
        raise ValueError(
            f"a DynamicWeightDecay around another optimizer decays {listed(taken)} already (has a notebook's cell run "
            "twice?): call its remove() first, or exclude them"
        )
    return chosen


def check_options(decoupled: object, transform: object, optimizer: Optimizer) -> None:
    """Check that a flag is one and a function is one.

    Raises:
        TypeError: They are not.
        ValueError: Decoupled decay without a learning rate.
    """
    if not isinstance(decoupled, bool):
        raise TypeError(f"decoupled={decoupled!r} must be True or False")
    if decoupled and not all("lr" in group for group in optimizer.param_groups):
        raise ValueError(
            f"decoupled=True needs a learning rate, but {type(optimizer).__name__} has no 'lr' in its groups"
        )
    if transform is not None and not callable(transform):
        raise TypeError(f"transform={transform!r} must be a function of a dict from layers to M, (C,)")


def checked_metric(changed: object, name: str, old: Tensor) -> Tensor:
    """Return what a transform made of M of a layer.

    Raises:
        TypeError: It did not return a mapping of tensors.
        ValueError: The layer is missing, or has another shape.
    """
    if not isinstance(changed, Mapping):
        raise TypeError(f"transform must return a dict from layers to M, got {changed!r} (is a return missing?)")
    if name not in changed:
        raise ValueError(f"transform was given M of {name!r} and did not return it: return every layer")
    new = changed[name]
    if not isinstance(new, Tensor) or new.shape != old.shape:
        shape = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
        raise ValueError(f"transform returned {shape} for {name!r}, expected a tensor {tuple(old.shape)}")
    return new


def check_threshold(threshold: object) -> None:
    """Check that a threshold of abs(γ) is one.

    Raises:
        ValueError: It is not a number of at least 0.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not threshold >= 0:
        raise ValueError(f"threshold={threshold!r} must be a number, 0 or larger; 1e-20 is published")
