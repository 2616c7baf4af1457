"""Shapes of a cut model, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise, zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..propagate import Facts
from ..solve import Decision, sliced_dimension, split_value

MAX_CHANNELS = 1 << 24  # of a plan that a file holds


@dataclass
class Shapes:
    """Changes of a model's shape, as data that can be saved and applied to a fresh model.

    Attributes:
        rows: Kept indices by tensor and dimension.
        grouped: Kept input columns of every group, by weight of a grouped convolution.
        depthwise: The number of groups by weight of a depthwise convolution.
        biases: Lengths of biases that are new, by name.
        attributes: New values by module and attribute; an item of a sequence as ``"attribute.index"``. A number may
            become a list of numbers, of pieces that now differ.
        widths: Channels that come in by module, for modules that have ``resize_channels``.
        sizes: The sizes before cutting, by tensor and dimension.
        positions: New positions by old ones, by stored tensor of positions; -1 for those that are gone.
    """

    rows: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    grouped: dict[str, list[list[int]]] = field(default_factory=dict)
    depthwise: dict[str, int] = field(default_factory=dict)
    biases: dict[str, int] = field(default_factory=dict)
    attributes: dict[str, dict[str, int | list[int]]] = field(default_factory=dict)
    widths: dict[str, list[int]] = field(default_factory=dict)
    sizes: dict[str, dict[int, int]] = field(default_factory=dict)
    positions: dict[str, list[int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return them as JSON has them."""
        by_dimension = {
            key: {name: {str(d): value for d, value in sizes.items()} for name, sizes in getattr(self, key).items()}
            for key in ("rows", "sizes")
        }
        return {**asdict(self), **by_dimension}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Shapes:
        """Return shapes as JSON has them, whose dimensions are texts.

        Raises:
            ValueError: A number is none, or indices are not in their order, so that something would grow.
            TypeError, KeyError, AttributeError: It has another structure.
        """
        return cls(
            rows={name: {int(d): _increasing(kept) for d, kept in kept.items()} for name, kept in data["rows"].items()},
            grouped={name: [_increasing(kept) for kept in groups] for name, groups in data["grouped"].items()},
            depthwise={name: natural(number) for name, number in data["depthwise"].items()},
            biases={name: natural(number) for name, number in data["biases"].items()},
            attributes={
                path: {
                    name: [*map(natural, value)] if isinstance(value, list) else natural(value)
                    for name, value in values.items()
                }
                for path, values in data["attributes"].items()
            },
            widths={path: [*map(natural, widths)] for path, widths in data["widths"].items()},
            sizes={name: {int(d): natural(size) for d, size in sizes.items()} for name, sizes in data["sizes"].items()},
            positions={name: [natural(new + 1) - 1 for new in found] for name, found in data["positions"].items()},
        )


def natural(number: object) -> int:
    """Return a number of channels that a file has, or a place among them."""
    if type(number) is not int or not 0 <= number < MAX_CHANNELS:
        raise ValueError(f"{number!r:.40} is no number of channels")
    return number


def _increasing(kept: list[object]) -> list[int]:
    found = [*map(natural, kept)]
    if any(later <= sooner for sooner, later in pairwise(found)):
        raise ValueError("indices are not in their order")
    return found


@dataclass
class Moves:
    """What is added to tensors in place of the constants that go.

    Attributes:
        offsets: What is added to a bias, or to a running mean.
        columns: Which columns of a weight get something added, and what: its dimension, its place in it, and that.
        factors: What weights are multiplied by that read a mean of channels.
    """

    offsets: dict[str, Tensor] = field(default_factory=dict)
    columns: dict[str, list[tuple[int, int, Tensor]]] = field(default_factory=dict)
    factors: dict[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.offsets or self.columns or self.factors)


def shapes_of(facts: Facts, decision: Decision, model: nn.Module) -> Shapes:
    """Return the new shapes that a decision means."""
    shapes = Shapes()
    rows: dict[int, list[int]] = {}  # of labels, which the tensors of a BatchNorm share
    for (name, dimension), labels in facts.rows.items():
        if id(labels) not in rows:
            rows[id(labels)] = np.flatnonzero(decision.kept(labels)).tolist()
        kept = rows[id(labels)]
        if len(kept) < len(labels) and not (name in facts.grouped and dimension == 1):
            shapes.rows.setdefault(name, {})[dimension] = kept
            shapes.sizes.setdefault(name, {})[dimension] = len(labels)
    for path, calls in facts.inputs.items():
        widths = [[decision.number_kept(labels) for labels in inputs] for inputs in calls]
        shapes.widths[path] = [max(of_scale) for of_scale in zip_longest(*widths, fillvalue=0)]
    for name, labels in facts.elements.items():
        goes = ~decision.kept(labels).reshape(tuple(labels.shape))
        sliced = sliced_dimension(goes) if goes.any() else None
        if sliced is not None:
            others = tuple(d for d in range(goes.ndim) if d != sliced)
            shapes.rows.setdefault(name, {})[sliced] = np.flatnonzero(~goes.all(axis=others)).tolist()
    for name, labels in facts.positions.items():
        stays = decision.kept(labels)
        if not stays.all():
            shapes.positions[name] = np.where(stays, np.cumsum(stays) - 1, -1).tolist()
    _groups_into(shapes, facts, decision, model)
    for (module, attribute), value in _attributes(facts, decision).items():
        shapes.attributes.setdefault(module, {})[attribute] = value
    return shapes


def _groups_into(shapes: Shapes, facts: Facts, decision: Decision, model: nn.Module) -> None:
    """Add what changes of grouped and depthwise convolutions."""
    for name, consumer in facts.grouped.items():
        columns = consumer.outputs if consumer.is_transposed else consumer.inputs
        kept = decision.kept(columns).reshape(consumer.groups, -1)
        if not kept.all():
            shapes.grouped[name] = [np.flatnonzero(row).tolist() for row in kept]
    for name, labels in facts.depthwise.items():
        kept = decision.kept(labels)
        groups = getattr(model.get_submodule(name.rpartition(".")[0]), "groups", 1)
        if not kept.all() and groups > 1:
            shapes.depthwise[name] = int(kept.sum()) * groups // len(kept)


def _attributes(facts: Facts, decision: Decision) -> dict[tuple[str, str], int | list[int]]:
    """Return attributes that get other values."""
    found: dict[tuple[str, str], int | list[int]] = {}
    for cut in facts.cuts:
        value = cut.source.value_for(decision.number_kept(cut.labels))
        if value is not None and value != cut.source.now:
            found[cut.source.place] = value
    for split in facts.splits:
        lengths = split_value(split, decision)
        if lengths != split.source.now:
            found[split.source.place] = lengths
    return found


def cut_like(name: str, tensor: Tensor, shapes: Shapes, indices: dict[int, Tensor] | None = None) -> Tensor:
    """Return the part that is left of a tensor of a name.

    Args:
        name: Of the tensor.
        tensor: What is cut.
        shapes: What is kept.
        indices: Remembers lists of kept indices as tensors, for many tensors are cut by the same list.
    """
    if name in shapes.positions:
        tensor = torch.tensor(shapes.positions[name], device=tensor.device, dtype=tensor.dtype)[tensor.long()]
    if name in shapes.grouped:
        return _cut_groups(tensor, shapes.rows.get(name, {}).get(0), shapes.grouped[name])
    for dimension, kept in shapes.rows.get(name, {}).items():
        index = None if indices is None else indices.get(id(kept))
        if index is None:
            index = torch.from_numpy(np.array(kept, dtype=np.int64)).to(tensor.device)
        if indices is not None:
            indices[id(kept)] = index
        tensor = tensor.index_select(dimension, index.to(tensor.device))
    return tensor


def _cut_groups(weight: Tensor, rows: list[int] | None, columns: list[list[int]]) -> Tensor:
    """Return the weight of a grouped convolution with other columns kept in each group."""
    groups = len(columns)
    size = weight.shape[0] // groups
    kept = set(range(weight.shape[0])) if rows is None else set(rows)
    parts = [
        weight[[row for row in range(group * size, (group + 1) * size) if row in kept]][:, columns[group]]
        for group in range(groups)
    ]
    return torch.cat(parts)
