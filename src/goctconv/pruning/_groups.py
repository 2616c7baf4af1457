"""Groups of channels that live and die together: those that are summed, gated or convolved depthwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .._checks import ArgumentError
from ..graph import unwrapped
from ._inputs import Selector, as_calls, batch_norms, check_devices, quiet
from .propagate import FIRST, Facts, trace_all
from .solve import components


class ChannelGroups:
    """Groups of BatchNorm channels that can only be removed together.

    Attributes:
        of: The group of every channel, (C,), by BatchNorm.
        count: The number of groups.

    Example:
        >>> import timm, torch
        >>> from goctconv.pruning import channel_groups
        >>> groups = channel_groups(timm.create_model("resnet18"), torch.zeros(1, 3, 64, 64))
        >>> groups.members("layer1.0.bn2", 5)  # channel 5 of the first stage, wherever it is summed
        [('bn1', 5), ('layer1.0.bn2', 5), ('layer1.1.bn2', 5)]
    """

    def __init__(self, of: dict[str, Tensor]) -> None:
        self.of = of
        self.count = 1 + max(int(groups.max()) for groups in of.values())

    def members(self, layer: str, channel: int) -> list[tuple[str, int]]:
        """Return the channels of one group: that of a channel of a layer, as pairs of BatchNorm and channel.

        Raises:
            KeyError: There is no such layer.
        """
        if layer not in self.of:
            raise KeyError(f"there is no BatchNorm {layer!r}; there are {', '.join(list(self.of)[:3])}, ...")
        wanted = int(self.of[layer][channel])
        return [(name, int(found)) for name, groups in self.of.items() for found in (groups == wanted).nonzero()[:, 0]]

    def without(self, removed: Mapping[str, Sequence[int]]) -> ChannelGroups:
        """Return the groups of a pruned network.

        Args:
            removed: The channels that are gone, by BatchNorm, as ``plan.removed`` has them.
        """
        return _numbered({name: np.delete(of.numpy(), list(removed.get(name, ()))) for name, of in self.of.items()})

    def __repr__(self) -> str:
        channels = sum(len(groups) for groups in self.of.values())
        return f"ChannelGroups({self.count} groups of {channels} channels in {len(self.of)} layers)"

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean over each group in place of each channel's own value; of the layers that are given.

        As ``transform`` of `goctconv.DynamicWeightDecay`, it lets the channels of a group fade alike, so that whole
        groups can go; `PruningResult.transfer_optimizer` takes it along. Layers that are not known here keep their
        values.

        Raises:
            ArgumentError: A layer has other channels than the groups are of.
        """
        known = {name: value for name, value in values.items() if name in self.of}
        if not known:
            return dict(values)
        total, number = self._sums(known)
        means = total / number.clamp(min=1)
        of = {name: self.of[name].to(means.device) for name in known}
        return {
            name: means[of[name]].to(value.device, value.dtype) if name in of else value
            for name, value in values.items()
        }

    def group_lasso(self, model: nn.Module) -> Tensor:
        """Return the penalty Σ √n·‖γ‖₂ over groups of n channels, differentiable: in a loss it makes groups vanish.

        Args:
            model: The network that the groups are of, or a copy; it may be wrapped.

        Raises:
            ArgumentError: A layer has other channels than the groups are of.

        Source: Yuan & Lin, "Model selection and estimation in regression with grouped variables", 2006.
        """
        inner = unwrapped(model)
        gammas = {name: cast("Tensor", inner.get_submodule(name).weight) for name in self.of}
        squares, number = self._sums({name: gamma**2 for name, gamma in gammas.items()})
        used = squares > 0  # the root has no gradient at 0
        return (number[used] * squares[used]).sqrt().sum()

    def _sums(self, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the sum over each group, and how many values it is of; on the device and in the type of the first."""
        like = next(iter(values.values()))
        total, number = like.new_zeros(self.count), like.new_zeros(self.count)
        for name, value in values.items():
            channels = len(self.of[name])
            if len(value) != channels:
                cure = "use groups.without(plan.removed) for a pruned network"
                raise ArgumentError("values", len(value), str(channels), cure, problem=f"channels of {name!r}")
            index = self.of[name].to(like.device)
            total = total.index_add(0, index, value.to(like.device, like.dtype))
            number.index_add_(0, index, torch.ones_like(index, dtype=like.dtype))
        return total, number


def channel_groups(model: nn.Module, example_inputs: Any, *, outputs: Selector | None = None) -> ChannelGroups:
    """Find the groups of BatchNorm channels that can only be removed together.

    Args:
        model: Any network with BatchNorm.
        example_inputs: What it is called with: a tensor, a tuple of arguments, a dict of keyword arguments, or a list
            of such calls.
        outputs: A function of what the model returns that returns what counts of it, as in `prune_channels`.

    Raises:
        PruningError: The model has no BatchNorm, or cannot be traced.

    Example:
        >>> import timm, torch
        >>> from goctconv.pruning import channel_groups
        >>> model = timm.create_model("resnet18")
        >>> groups = channel_groups(model, torch.zeros(1, 3, 64, 64))
        >>> groups.count, groups.group_lasso(model).shape
        (2880, torch.Size([]))
    """
    inner, calls = unwrapped(model), as_calls(example_inputs, outputs)
    batch_norms(inner)
    check_devices(inner, calls)
    with torch.no_grad(), quiet():
        return groups_of(trace_all(inner, calls))


def groups_of(facts: Facts) -> ChannelGroups:
    """Return the groups that a forward pass showed."""
    found = components(facts)
    labels = {name: found[norm.labels.numpy()] for name, norm in facts.norms.items()}
    alone = 1 + int(found.max())
    for name, norm in facts.norms.items():  # channels that are not known to be any layer's are known of no other either
        unknown = (norm.labels < FIRST).numpy()
        labels[name] = np.where(unknown, np.arange(alone, alone + len(unknown)), labels[name])
        alone += len(unknown)
    return _numbered(labels)


def _numbered(labels: Mapping[str, NDArray[np.int64]]) -> ChannelGroups:
    """Return the groups of channels with equal labels, numbered from 0."""
    _, numbers = np.unique(np.concatenate(list(labels.values())), return_inverse=True)
    parts = np.split(numbers.reshape(-1), np.cumsum([len(of) for of in labels.values()])[:-1])
    return ChannelGroups({name: torch.from_numpy(part.copy()) for name, part in zip(labels, parts, strict=True)})
