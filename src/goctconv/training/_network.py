"""The networks of the two phases: as they run, with frozen BatchNorm, decaying, pruned."""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from .. import _distributed as distributed
from .._checks import ArgumentError, ArgumentTypeError, ArgumentWarning, warn_caller
from .._torch import BatchNorm, inner_optimizers
from ..graph import is_wrapped, named_batch_norms, select
from ..layers import native_kernels
from ..optim import DynamicWeightDecay
from ..pruning import PruningResult, prune_channels
from ._config import TrainingConfig
from ._errors import ThresholdError
from ._optimizers import BACKBONE, check_backbone
from ._threshold import gammas, joined

_HARDLY_FADED = 0.1  # smallest γ above which no threshold tells channels apart
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Network:
    """The same model in three forms."""

    model: nn.Module
    runner: nn.Module  # what is trained: it may be compiled and data-parallel
    parallel: DistributedDataParallel | None
    device: torch.device
    frozen: tuple[str, ...] = ()  # BatchNorm layers that are not trained

    def train(self) -> None:
        """Set train mode, but for the frozen layers."""
        self.runner.train()
        set_eval(self.model, self.frozen)

    def without_sync(self, *, really: bool) -> AbstractContextManager[None]:
        """Return a context without exchange of gradients between processes, if ``really``."""
        if self.parallel is None or not really:
            return nullcontext()
        return cast("AbstractContextManager[None]", self.parallel.no_sync())

    def autocast(self, config: TrainingConfig) -> AbstractContextManager[None]:
        """Return a context in which operations run in the precision of the config."""
        if config.amp is None:
            return nullcontext()
        return cast("AbstractContextManager[None]", torch.autocast(self.device.type, _DTYPES[config.amp]))

    def kernels(self, config: TrainingConfig) -> AbstractContextManager[object]:
        """Return a context with the kernels of the config."""
        return native_kernels() if config.native else nullcontext()


def bare(model: nn.Module) -> nn.Module:
    """Return the model that is meant."""
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError("model", model, "a torch.nn.Module")
    if is_wrapped(model):
        cure = (
            "pass the model inside; learn_channels wraps it in DistributedDataParallel where torch.distributed is "
            "initialised, and compiles it with {compile=True}"
        )
        raise ArgumentTypeError("model", model, problem="is wrapped already", cure=cure)
    return model


def placed(model: nn.Module, config: TrainingConfig, device: torch.device | None = None) -> torch.device:
    """Move a model to a device and lay its weights out, the same way each time; return the device."""
    first = next(model.parameters(), None)
    where = device or torch.device(config.device or (first.device if first is not None else "cpu"))
    model.to(where)
    for parameter in model.parameters():
        is_image = config.channels_last and parameter.dim() == 4
        kind = torch.channels_last if is_image else torch.contiguous_format
        parameter.data = torch.empty_like(parameter.data, memory_format=kind).copy_(parameter.data)
    return where


def network(model: nn.Module, device: torch.device, config: TrainingConfig, frozen: tuple[str, ...] = ()) -> Network:
    """Return a model that was placed, ready to run."""
    if config.native:
        native_kernels()  # raises where there is no compiler, before the first step
    model.train()
    set_eval(model, frozen)
    devices = [device] if device.type == "cuda" else None
    parallel = DistributedDataParallel(model, devices) if distributed.world_size() > 1 else None
    runner: nn.Module = model if parallel is None else parallel
    if config.compile is not False:
        backend = config.compile if isinstance(config.compile, str) else "inductor"
        # Code that an earlier run has compiled for another network of this class counts towards torch's limit of
        # recompilations; beyond it, torch runs the hooks of dynamic weight decay one by one, which fails (2.14).
        torch.compiler.reset()
        runner = cast("nn.Module", torch.compile(runner, backend=backend))
    return Network(model, runner, parallel, device, frozen)


def frozen_layers(model: nn.Module, asked: Any) -> tuple[str, ...]:
    """Return the names of the BatchNorm layers to freeze."""
    if asked is False:
        return ()
    if asked is not True:
        return tuple(select(model, named_batch_norms(model), asked, "freeze_batch_norm"))
    check_backbone(model, "freeze_batch_norm", True, "leave it out, or name the layers")
    named = model.named_modules()
    return tuple(name for name, part in named if isinstance(part, BatchNorm) and name.startswith(f"{BACKBONE}."))


def set_eval(model: nn.Module, names: Iterable[str]) -> None:
    """Put layers into eval mode; those that have been removed are left out."""
    modules = dict(model.named_modules())
    for name in names:
        if name in modules:
            modules[name].eval()


@contextmanager
def untrained(model: nn.Module, names: Iterable[str]) -> Iterator[list[str]]:
    """Turn off gradients of the parameters of layers for a while, and yield the names of those that had one."""
    modules = dict(model.named_modules())
    owned = (parameter for name in names for parameter in modules[name].parameters(recurse=False))
    within = {id(parameter) for parameter in owned if parameter.requires_grad}
    held = [name for name, parameter in model.named_parameters() if id(parameter) in within]
    set_trained(model, held, trained=False)
    try:
        yield held
    finally:
        set_trained(model, held, trained=True)


def set_trained(model: nn.Module, names: Iterable[str], *, trained: bool) -> None:
    """Turn gradients of parameters on or off; those that have been removed are left out."""
    parameters = dict(model.named_parameters())
    for name in names:
        if name in parameters:
            parameters[name].requires_grad_(trained)


def decayed(
    optimizer: Optimizer, model: nn.Module, runner: nn.Module, config: TrainingConfig, frozen: Collection[str] = ()
) -> DynamicWeightDecay:
    """Wrap an optimizer in dynamic weight decay."""
    include = config.include
    if include is None and callable(names := getattr(model, "dynamic_decay_names", None)):
        include = names()
    left = named_batch_norms(model).keys() - set(frozen)
    if not left:
        why = " (all are frozen)" if frozen else ""
        problem = f"has no BatchNorm that is trained{why}, so no channels can be learned"
        as_it_is = "train it as it is, with {weight_decay=0}, {threshold=None} and {finetune_epochs=0}"
        cure = f"make it with BatchNorm (norm='batch' for the head of a CSF), or {as_it_is}"
        raise ArgumentError("model", model, problem=problem, cure=cure)
    if include is None and frozen:
        include = sorted(left)
    decay = DynamicWeightDecay(
        optimizer, runner, weight_decay=config.weight_decay, include=include, **config.decay_options
    )
    for group in decaying_groups(decay):
        group["lr"] = group["lr"] * config.gamma_rate
        if config.gamma_beta2 is not None:
            if "betas" not in group:
                problem = f"is β2 of Adam, and {type(decay.optimizer).__name__} has none"
                raise ArgumentError("gamma_beta2", config.gamma_beta2, problem=problem, cure="leave it out")
            group["betas"] = (group["betas"][0], config.gamma_beta2)
    return decay


def decaying_groups(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the param groups of the γ that decay dynamically."""
    return [group for group in optimizer.param_groups if "dynamic_weight_decay" in group]


def released(decay: DynamicWeightDecay, config: TrainingConfig) -> Optimizer:
    """Return the inner optimizer, in which γ learn as the others do, at the first learning rates of fine-tuning."""
    for group in decaying_groups(decay):
        first = "initial_lr" if "initial_lr" in group else "lr"
        group[first] = group[first] / config.gamma_rate
        if config.gamma_beta2 is not None:
            group["betas"] = decay.optimizer.defaults["betas"]
    decay.remove()
    inner: Optimizer = decay.optimizer
    rewind(inner, config)
    return inner


def for_finetuning(optimizer: DynamicWeightDecay, result: PruningResult, config: TrainingConfig) -> Optimizer:
    """Return the optimizer of the slim model, at its first learning rates, with no dynamic weight decay."""
    if config.finetune_optimizer == "fresh":
        for each in (optimizer, *inner_optimizers(optimizer)):
            each.state.clear()
    return released(cast("DynamicWeightDecay", result.transfer_optimizer(optimizer)), config)


def rewind(optimizer: Optimizer, config: TrainingConfig) -> None:
    """Set the learning rates to those that training began with, times the factor of fine-tuning."""
    for group in optimizer.param_groups:
        group["lr"] = group.pop("initial_lr", group["lr"]) * config.finetune_factor


def pruned(
    model: nn.Module, example_inputs: Any, threshold: float, config: TrainingConfig, frozen: Iterable[str]
) -> PruningResult:
    """Return the slim network; warn where no channel is below the threshold."""
    options = _pruning_options(model, config, frozen)
    result = prune_channels(model, example_inputs, threshold=threshold, **options)
    if threshold and not result.report.masked:
        smallest = float(joined(gammas(model)).min())
        if smallest < threshold:
            cure = "those below it are of layers that are frozen or kept"
        elif not config.weight_decay:
            cure = "with {weight_decay=0} no γ fades: pass 3, say"
        elif smallest > _HARDLY_FADED:
            cure = "train for more {epochs}, or with a larger {gamma_rate}"
        else:
            cure = "pass a larger {threshold}, {threshold='valley'} or {target_parameters=0.5}"
        problem = f"removed nothing, as no γ is below it (the smallest is {smallest:.1g})"
        warn_caller(ArgumentWarning("threshold", threshold, problem=problem, cure=cure))
    return result


def threshold_for_target(
    model: nn.Module, example_inputs: Any, config: TrainingConfig, frozen: Iterable[str], layers: Collection[str]
) -> float:
    """Return the smallest threshold of γ below which so much goes that no more than the target's share stays."""
    if config.target is None:
        raise ThresholdError("the run has no target")  # callers ask for one
    name, share = config.target
    options = {**_pruning_options(model, config, frozen), "verify": False, "inplace": False, "latency": False}
    values: Tensor = torch.unique(joined(gammas(model, layers)))  # in order
    candidates: list[float] = [*((values[:-1] + values[1:]) / 2).tolist(), 2 * float(values[-1])]

    def left(threshold: float) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of outputs that are constant: more is tried than is masked in the end
            report = prune_channels(model, example_inputs, threshold=threshold, **options).report
        before, after = report.parameters if name == "target_parameters" else report.macs
        return after / before

    found = bisect_left(candidates, True, key=lambda threshold: left(threshold) <= share)
    if found == len(candidates):
        what = name.removeprefix("target_").replace("macs", "MACs")
        raise ThresholdError(
            f"{left(candidates[-1]):.1%} of the {what} stay at least, and {name}={share:g} is asked for"
        )
    return candidates[found]


def _pruning_options(model: nn.Module, config: TrainingConfig, frozen: Iterable[str]) -> dict[str, Any]:
    criterion = config.criterion or ("gamma_first" if hasattr(model, "dynamic_decay_names") else "gamma")
    return {"criterion": criterion, **_keeping(config.pruning_options, model, frozen)}


def _keeping(options: Mapping[str, Any], model: nn.Module, names: Iterable[str]) -> dict[str, Any]:
    """Return options of pruning by which layers keep their channels too."""
    norms = named_batch_norms(model)
    kept = [name for name in names if name in norms]
    given = options.get("keep", ())
    given = [given] if isinstance(given, str | nn.Module) else given
    return {**options, "keep": [*given, *kept]} if kept else dict(options)
