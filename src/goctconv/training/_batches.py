"""Loaders and batches of any kind: checks, the loss of a batch, its images, and the inputs of the model."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, IterableDataset, RandomSampler, SequentialSampler

from .. import _distributed as distributed
from .._checks import ArgumentError, ArgumentTypeError
from .._torch import leaves_of, map_leaves, map_tensors
from ._errors import TrainingError

Loss: TypeAlias = Callable[[Any, Any], Tensor]
"""A function of outputs and targets that returns a number."""

Step: TypeAlias = Callable[[nn.Module, Any], Tensor]
"""A function of the model and a batch that returns the loss."""


def pair_step(loss_fn: Loss) -> Step:
    """Return the step for batches that are pairs of inputs and targets."""

    def step(model: nn.Module, batch: Any) -> Tensor:
        if not (isinstance(batch, list | tuple) and len(batch) == 2):
            raise TrainingError(
                f"a batch is {_kind(batch)}, expected a pair (inputs, targets): for other batches pass step=, a "
                "function of model and batch that returns the loss, such as "
                'lambda model, batch: loss(model(batch["image"]), batch["label"])'
            )
        inputs, targets = batch
        if isinstance(inputs, Mapping):
            return loss_fn(model(**inputs), targets)
        return loss_fn(model(*inputs) if isinstance(inputs, list | tuple) else model(inputs), targets)

    return step


def _kind(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a {type(batch).__name__} with the keys {', '.join(map(repr, batch))}"
    if isinstance(batch, list | tuple):
        return f"a {type(batch).__name__} of {len(batch)}"
    return f"a {type(batch).__name__}" + (f" {tuple(batch.shape)}" if isinstance(batch, Tensor) else "")


def check_loss(loss: object) -> Tensor:
    """Return a loss that can be trained."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        got = f"a tensor {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
        raise TrainingError(f"the loss is {got}, expected a tensor with one number: take its mean")
    if not loss.requires_grad:
        raise TrainingError("the loss does not depend on the model's parameters: was something detached or frozen?")
    return loss


def moved(batch: Any, device: torch.device, *, channels_last: bool) -> Any:
    """Return a batch on a device: containers, dataclasses, and what has a method ``to`` are understood."""

    def move(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            kind = torch.channels_last if channels_last and leaf.dim() == 4 else torch.preserve_format
            return leaf.to(device, non_blocking=True, memory_format=kind)
        if callable(to := getattr(leaf, "to", None)):
            return to(device)
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            names = [field.name for field in dataclasses.fields(leaf) if field.init]
            return dataclasses.replace(leaf, **{name: map_leaves(move, getattr(leaf, name)) for name in names})
        return leaf

    return map_leaves(move, batch)


def image_count(batch: Any) -> int:
    """Return the first dimension of the first tensor in a batch; 1 if there is none."""
    return next((len(tensor) for tensor in _tensors(batch) if tensor.dim()), 1)


def names_of(batch: Any) -> list[str]:
    """Return the names of the images of a batch, if it has an attribute or a key ``names``."""
    names = getattr(batch, "names", None) or (batch.get("names") if isinstance(batch, Mapping) else None) or ()
    return [names] if isinstance(names, str) else [str(name) for name in names]


def _tensors(batch: Any) -> Iterator[Tensor]:
    for leaf in leaves_of(batch):
        if isinstance(leaf, Tensor):
            yield leaf
        elif hasattr(leaf, "__dict__"):
            inner = (found for value in vars(leaf).values() for found in leaves_of(value))
            yield from (found for found in inner if isinstance(found, Tensor))


class _Called(Exception):  # noqa: N818  # it is no error
    """Leaves a model as soon as it is known what it was called with."""


def example_of(model: nn.Module, step: Step, batch: Any) -> tuple[Any, ...] | dict[str, Any]:
    """Return what a step calls the model with, for its first images: arguments, or keywords if there are any."""
    found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def look(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append((args, kwargs))
        raise _Called

    handle = model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        step(model, batch)
    except _Called:
        pass
    finally:
        handle.remove()
    if not found:
        raise TrainingError("step= did not call the model that it was given, so nothing would be trained")
    args, kwargs = _first_images(found[0])
    return dict(inspect.signature(model.forward).bind(*args, **kwargs).arguments) if kwargs else tuple(args)


def _first_images(call: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
    """Return copies of the first image of all tensors, so that operations are counted for one, if all have as many."""
    counts = {len(leaf) if leaf.dim() else 0 for leaf in leaves_of(call) if isinstance(leaf, Tensor)}
    count = 1 if len(counts) == 1 and 0 not in counts else None
    return map_tensors(lambda tensor: (tensor[:count] if tensor.dim() else tensor).detach().clone(), copy.copy(call))


def length(loader: Any) -> int | None:
    """Return the number of batches, if the loader tells."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):  # an iterable data set need not know
        return None


def check_loader(loader: object) -> None:
    """Check that a loader gives batches, again in every epoch, and in every process its share."""
    if not isinstance(loader, Iterable):
        raise ArgumentTypeError("train_loader", loader, "a torch.utils.data.DataLoader, or a list of batches")
    if isinstance(loader, Iterator):
        problem, cure = "gives its batches only once", "pass what it iterates over"
        raise ArgumentTypeError("train_loader", loader, problem=problem, cure=cure)
    count = length(loader)
    if count == 0:
        cure = "it has no batch (fewer images than one batch, and drop_last=True?)"
        raise ArgumentError("train_loader", loader, problem="is empty", cure=cure)
    counts = distributed.gathered(count)
    cure = "use a torch.utils.data.DistributedSampler"
    if len(set(counts)) > 1:
        raise TrainingError(f"the processes have {', '.join(map(str, counts))} batches, and must have as many: {cure}")
    sampler = getattr(loader, "sampler", None)
    own = type(getattr(loader, "batch_sampler", None)) not in {BatchSampler, type(None)}  # which deals out the batches
    is_whole = not own and type(sampler) in {RandomSampler, SequentialSampler}
    if len(counts) > 1 and is_whole and not isinstance(getattr(loader, "dataset", None), IterableDataset):
        warnings.warn(
            f"every one of the {len(counts)} processes goes through the whole data set in an epoch (the loader's "
            f"sampler is a {type(sampler).__name__}): {cure}",
            stacklevel=4,
        )
