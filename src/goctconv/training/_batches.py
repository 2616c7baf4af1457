"""Batches of any kind: what the loss of one is, how many images it has, what the model was called with."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ._errors import TrainingError

Loss: TypeAlias = Callable[[Any, Any], Tensor]
"""A function of outputs and targets that returns a number."""

Step: TypeAlias = Callable[[nn.Module, Any], Tensor]
"""A function of the model and a batch that returns the loss."""

_EXAMPLES = 1  # images that pruning is given, so that operations are counted for one


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
    """Return a loss that can be trained.

    Raises:
        TrainingError: It is no number, or does not depend on the model.
    """
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
            names = [one.name for one in dataclasses.fields(leaf) if one.init]
            return dataclasses.replace(leaf, **{name: pytree.tree_map(move, getattr(leaf, name)) for name in names})
        return leaf

    return pytree.tree_map(move, batch)


def image_count(batch: Any) -> int:
    """Return the first dimension of the first tensor in a batch; 1 if there is none."""
    return next((len(tensor) for tensor in _tensors(batch) if tensor.dim()), 1)


def names_of(batch: Any) -> list[str]:
    """Return the names of the images of a batch, if it has an attribute or a key ``names``."""
    names = getattr(batch, "names", None) or (batch.get("names") if isinstance(batch, Mapping) else None) or ()
    return [names] if isinstance(names, str) else [str(name) for name in names]


def _tensors(batch: Any) -> Iterator[Tensor]:
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, Tensor):
            yield leaf
        elif hasattr(leaf, "__dict__"):
            yield from (
                one for value in vars(leaf).values() for one in pytree.tree_leaves(value) if isinstance(one, Tensor)
            )


class _Called(Exception):  # noqa: N818  # it is no error
    """Leaves a model as soon as it is known what it was called with."""


def example_of(model: nn.Module, step: Step, batch: Any) -> tuple[Any, ...] | dict[str, Any]:
    """Return what a step calls the model with, for its first images: arguments, or keywords if there are any.

    Raises:
        TrainingError: It does not call the model.
    """
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
    if not kwargs:
        arguments: tuple[Any, ...] = args
        return arguments
    keywords: dict[str, Any] = dict(inspect.signature(model.forward).bind(*args, **kwargs).arguments)
    return keywords


def _first_images(call: Any) -> Any:
    """Return copies of the first images of all tensors, if all have as many."""
    counts = {len(leaf) if leaf.dim() else 0 for leaf in pytree.tree_leaves(call) if isinstance(leaf, Tensor)}
    count = _EXAMPLES if len(counts) == 1 and 0 not in counts else None
    return pytree.tree_map_only(
        Tensor, lambda one: (one[:count] if one.dim() else one).detach().clone(), copy.copy(call)
    )
