"""Between the two phases: dynamic weight decay, pruning, and the optimizer of the slim network."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

from torch import nn
from torch.optim import Optimizer

from .._checks import ArgumentError, ArgumentWarning
from ..graph import named_batch_norms
from ..optim import DynamicWeightDecay
from ..pruning import PruningResult, prune_channels
from ._config import TrainingConfig
from ._histogram import gammas, joined


def decayed(
    optimizer: Optimizer, model: nn.Module, runner: nn.Module, config: TrainingConfig, frozen: Collection[str] = ()
) -> DynamicWeightDecay:
    """Wrap an optimizer in dynamic weight decay."""
    include = config.include
    if include is None and callable(names := getattr(model, "dynamic_decay_names", None)):
        include = names()
    left = named_batch_norms(model).keys() - set(frozen)
    if not left:
        frozen_too = " (all are frozen)" if frozen else ""
        raise ArgumentError(
            "model",
            model,
            problem=f"has no BatchNorm that is trained{frozen_too}, so no channels can be learned",
            cure="make it with BatchNorm (norm='batch' for the head of a CSF), or train it as it is, with "
            "{weight_decay=0}, {threshold=None} and {finetune_epochs=0}",
        )
    if include is None and frozen:
        include = sorted(left)
    return DynamicWeightDecay(
        optimizer, runner, weight_decay=config.weight_decay, include=include, **config.decay_options
    )


def for_finetuning(optimizer: DynamicWeightDecay, result: PruningResult, config: TrainingConfig) -> Optimizer:
    """Return the optimizer of the slim model, at its first learning rates, with no dynamic weight decay."""
    if config.finetune_optimizer == "fresh":
        optimizer.state.clear()
    moved = cast("DynamicWeightDecay", result.transfer_optimizer(optimizer))
    moved.remove()
    rewind(moved.optimizer, config)
    inner: Optimizer = moved.optimizer
    return inner


def rewind(optimizer: Optimizer, config: TrainingConfig) -> None:
    """Set the learning rates to those that training began with, times the factor of fine-tuning."""
    for group in optimizer.param_groups:
        group["lr"] = group.pop("initial_lr", group["lr"]) * config.finetune_factor


def pruned(
    model: nn.Module, example_inputs: Any, threshold: float, config: TrainingConfig, frozen: Iterable[str]
) -> PruningResult:
    """Return the slim network; warn where no channel is below the threshold."""
    criterion = config.criterion or ("gamma_first" if hasattr(model, "dynamic_decay_names") else "gamma")
    options = _keeping(config.pruning_options, model, frozen)
    result = prune_channels(model, example_inputs, threshold=threshold, criterion=criterion, **options)
    if threshold and not result.report.masked:
        smallest = float(joined(gammas(model)).min())
        cure = "short runs need a larger {threshold}, or {threshold='valley'}"
        if smallest < threshold:
            cure = "those below it are of layers that are frozen or kept"
        elif not config.weight_decay:
            cure = "with {weight_decay=0} no γ fades: pass 3, say"
        problem = f"removed nothing, as no γ is below it (the smallest is {smallest:.1g})"
        warnings.warn(ArgumentWarning("threshold", threshold, problem=problem, cure=cure), stacklevel=7)
    return result


def _keeping(options: Mapping[str, Any], model: nn.Module, names: Iterable[str]) -> dict[str, Any]:
    """Return options of pruning by which layers keep their channels too."""
    norms = named_batch_norms(model)
    kept = [name for name in names if name in norms]
    given = options.get("keep", ())
    given = [given] if isinstance(given, str | nn.Module) else list(given)
    return {**options, "keep": [*given, *kept]} if kept else dict(options)
