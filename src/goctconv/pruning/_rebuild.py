"""Cut the channels that go out of a model's tensors, and keep the rest of the model as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .._torch import BatchNorm, ConvNd, ConvTransposeNd
from ._decide import Decision, sliced_dimension, split_value
from ._facts import Facts, Reader


@dataclass
class Shapes:
    """What changes of a model's shape, as data: it can be saved, and applied to a fresh model.

    Attributes:
        rows: Kept indices by tensor and dimension.
        grouped: Kept input columns of every group, by weight of a grouped convolution.
        depthwise: The number of groups by weight of a depthwise convolution.
        biases: Lengths of biases that are new, by name.
        attributes: New values by module and attribute; an item of a sequence as ``"attribute.index"``. A number may
            become a list of numbers, of pieces that now differ.
        widths: Channels that come in by module, for modules that have ``resize_channels``.
        sizes: The sizes before cutting, by tensor and dimension.
    """

    rows: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    grouped: dict[str, list[list[int]]] = field(default_factory=dict)
    depthwise: dict[str, int] = field(default_factory=dict)
    biases: dict[str, int] = field(default_factory=dict)
    attributes: dict[str, dict[str, int | list[int]]] = field(default_factory=dict)
    widths: dict[str, list[int]] = field(default_factory=dict)
    sizes: dict[str, dict[int, int]] = field(default_factory=dict)


@dataclass
class Moves:
    """What is added to tensors, before cutting, so that constants that go are not missed."""

    shifts: dict[str, Tensor] = field(default_factory=dict)
    columns: dict[str, list[tuple[int, Tensor]]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.shifts or self.columns)


def shapes_of(facts: Facts, decision: Decision, model: nn.Module) -> Shapes:
    """Return the new shapes that a decision means."""
    shapes = Shapes()
    for (name, dimension), labels in facts.rows.items():
        kept = decision.kept(labels)
        if not kept.all() and not (name in facts.grouped and dimension == 1):
            shapes.rows.setdefault(name, {})[dimension] = np.flatnonzero(kept).tolist()
            shapes.sizes.setdefault(name, {})[dimension] = len(kept)
    for path, inputs in facts.inputs.items():
        shapes.widths[path] = [int(decision.kept(labels).sum()) for labels in inputs]
    for name, labels in facts.elements.items():
        goes = ~decision.kept(labels).reshape(tuple(labels.shape))
        sliced = sliced_dimension(goes) if goes.any() else None
        if sliced is not None:
            others = tuple(d for d in range(goes.ndim) if d != sliced)
            shapes.rows.setdefault(name, {})[sliced] = np.flatnonzero(~goes.all(axis=others)).tolist()
    _groups_into(shapes, facts, decision, model)
    for (module, attribute), value in _attributes(facts, decision).items():
        shapes.attributes.setdefault(module, {})[attribute] = value
    return shapes


def _groups_into(shapes: Shapes, facts: Facts, decision: Decision, model: nn.Module) -> None:
    """Add what changes of grouped and depthwise convolutions."""
    for name, reader in facts.grouped.items():
        kept = decision.kept(reader.labels).reshape(reader.groups, -1)
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
        value = cut.source.value_for(int(decision.kept(cut.labels).sum()))
        if value is not None and value != cut.source.now:
            found[cut.source.place] = value
    for split in facts.splits:
        lengths = split_value(split, decision)
        if lengths != split.source.now:
            found[split.source.place] = lengths
    return found


def moves_of(facts: Facts, decision: Decision, stored: dict[str, Tensor], shapes: Shapes) -> Moves:
    """Return what must be added for the constants that go, and note biases that are needed for it."""
    moves = Moves()
    for index, reader in enumerate(facts.readers):
        going = ~decision.kept(reader.labels) & reader.constant.numpy() & (reader.values.numpy() != 0)
        if not going.any() or not reader.is_plain:
            continue
        size = len(reader.labels) // reader.groups
        for group in np.unique(np.flatnonzero(going) // size):
            part = np.flatnonzero(going[group * size : (group + 1) * size])
            share = _Share(reader, int(group), part, stored[reader.weight].detach())
            representative = decision.representatives.get((index, int(group)))
            if not reader.padded:
                _fold(moves, facts, share, stored, decision.kept(reader.outputs), shapes)
            elif representative is not None:
                _merge(moves, share, representative - int(group) * size)
    return moves


class _Share:
    """What constants that go give to the outputs of one group of a layer."""

    def __init__(self, reader: Reader, group: int, part: NDArray[np.int64], weight: Tensor) -> None:
        size, rows = len(reader.labels) // reader.groups, len(weight) // reader.groups
        self.reader = reader
        self.rows = slice(group * rows, (group + 1) * rows)
        self.all_values = reader.values[group * size : (group + 1) * size]
        self.values = self.all_values[part]
        index = torch.from_numpy(part).to(weight.device)
        self.columns = weight[self.rows].index_select(1, index).double().cpu()
        self.weight = weight


def _merge(moves: Moves, share: _Share, representative: int) -> None:
    """Let one constant input stand for all: its column becomes the sum of theirs, in proportion to the constants."""
    factors = share.values / share.all_values[representative]
    added = torch.zeros(share.weight[:, 0].shape, dtype=torch.float64)
    added[share.rows] = torch.einsum("oi...,i->o...", share.columns, factors)
    moves.columns.setdefault(share.reader.weight, []).append((representative, added))


def _fold(
    moves: Moves,
    facts: Facts,
    share: _Share,
    stored: dict[str, Tensor],
    kept: NDArray[np.bool_],
    shapes: Shapes,
) -> None:
    """Move constants into the bias, or the running mean of the BatchNorm behind, or a new bias."""
    reader = share.reader
    sums = share.columns.flatten(2).sum(2) if share.columns.dim() > 2 else share.columns
    shift = torch.zeros(len(share.weight), dtype=torch.float64)
    shift[share.rows] = sums @ (share.values * reader.factor)
    name = f"{reader.follower}.running_mean"
    if reader.bias:
        moves.shifts[reader.bias] = moves.shifts.get(reader.bias, 0) + shift
    elif name in stored and facts.uses[name] == 1:
        moves.shifts[name] = moves.shifts.get(name, 0) - shift
    else:
        name = reader.weight.rpartition(".")[0] + ".bias"
        shapes.biases[name] = int(kept.sum())
        moves.shifts[name] = moves.shifts.get(name, 0) + shift[torch.from_numpy(kept)]


class Surgery:
    """Changes a model, and can take every change back."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._undo: list[Callable[[], None]] = []

    def roll_back(self) -> None:
        """Return the model to the state before, bit for bit."""
        while self._undo:
            self._undo.pop()()

    def apply(self, shapes: Shapes, moves: Moves | None = None) -> None:
        """Cut tensors, add what is moved, and set attributes."""
        moves = moves or Moves()
        replaced: dict[int, Tensor] = {}
        for name, length in shapes.biases.items():
            self._add_bias(name, length)
        touched = set(shapes.rows) | set(shapes.grouped) | set(moves.shifts) | set(moves.columns)
        for name, module, attribute, tensor in _every_tensor(self._model):
            if id(tensor) in replaced:
                self._replace(module, attribute, replaced[id(tensor)])
            elif name in touched:
                value = self._cut(name, tensor.detach(), shapes, moves)
                new: Tensor = nn.Parameter(value, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value
                vars(new).update(vars(tensor))  # what users noted there
                replaced[id(tensor)] = new
                self._replace(module, attribute, new)
        for path, module in self._model.named_modules():
            self._measure(path, module, shapes)
        for path, module in reversed(list(self._model.named_modules())):
            if path in shapes.widths and shapes.rows:
                self._resize(module, shapes.widths[path])
        for path, attributes in shapes.attributes.items():
            for attribute, number in attributes.items():
                self._set_source(self._model.get_submodule(path), attribute, number)

    def _cut(self, name: str, tensor: Tensor, shapes: Shapes, moves: Moves) -> Tensor:
        precise = tensor
        if name in moves.shifts or name in moves.columns:
            precise = tensor.double()
            if name in moves.shifts:
                precise = precise + moves.shifts[name].to(tensor.device)
            for column, added in moves.columns.get(name, []):
                precise = precise.clone()
                precise[:, column] += added.to(tensor.device)
        cut = cut_like(name, precise, shapes).to(tensor.dtype)
        if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
            return cut.contiguous(memory_format=torch.channels_last)
        return cut.contiguous()

    def _add_bias(self, name: str, length: int) -> None:
        path, _, attribute = name.rpartition(".")
        module = self._model.get_submodule(path)
        like = next(module.parameters())
        bias = nn.Parameter(torch.zeros(length, dtype=like.dtype, device=like.device), like.requires_grad)
        self._replace(module, attribute, bias)

    def _replace(self, module: nn.Module, attribute: str, tensor: Tensor) -> None:
        store = module._parameters if attribute in module._parameters else module._buffers
        old: Any = store[attribute]
        self._undo.append(lambda: store.__setitem__(attribute, old))
        store[attribute] = tensor  # type: ignore[assignment]  # a parameter where there was one

    def keep_values(self, tensor: Tensor) -> None:
        """Remember the values of a tensor that is about to be changed in place."""
        before = tensor.detach().clone()

        def restore() -> None:
            with torch.no_grad():
                tensor.copy_(before)

        self._undo.append(restore)

    def _resize(self, module: nn.Module, widths: list[int]) -> None:
        """Let a module that keeps account of its channels do so itself."""
        places = [one for one in module.modules() if isinstance(one, nn.ModuleDict | nn.ModuleList) or one is module]
        before = [(one, {k: v for k, v in vars(one).items() if k != "_modules"}, dict(one._modules)) for one in places]

        def restore() -> None:
            for one, attributes, children in before:
                vars(one).update(attributes)
                one._modules.clear()
                one._modules.update(children)

        self._undo.append(restore)
        module.resize_channels(widths)  # type: ignore[operator]  # a method, which Module does not know

    def _set(self, module: nn.Module, attribute: str, value: Any) -> None:
        if attribute in vars(module) and vars(module)[attribute] != value:
            old = vars(module)[attribute]
            self._undo.append(lambda: vars(module).__setitem__(attribute, old))
            vars(module)[attribute] = value

    def _set_source(self, module: nn.Module, attribute: str, value: int | list[int]) -> None:
        name, _, place = attribute.partition(".")
        self._set(module, name, _replaced(vars(module)[name], place.split("."), value) if place else value)

    def _measure(self, path: str, module: nn.Module, shapes: Shapes) -> None:
        """Let a module's own numbers of channels be those of its tensors."""
        weight = module._parameters.get("weight")
        name = f"{path}.weight" if path else "weight"
        if isinstance(module, ConvNd) and weight is not None:
            groups = shapes.depthwise.get(name, module.groups)
            self._set(module, "groups", groups)
            first, second = weight.shape[0], weight.shape[1] * groups
            is_transposed = isinstance(module, ConvTransposeNd)
            self._set(module, "in_channels", first if is_transposed else second)
            self._set(module, "out_channels", second if is_transposed else first)
        elif isinstance(module, nn.Linear) and weight is not None:
            self._set(module, "out_features", weight.shape[0])
            self._set(module, "in_features", weight.shape[1])
        elif isinstance(module, BatchNorm):
            size = module.weight if module.weight is not None else module.running_mean
            if size is not None:
                self._set(module, "num_features", len(size))
        elif isinstance(module, nn.PReLU) and weight is not None:
            self._set(module, "num_parameters", len(weight))


def _replaced(container: Any, place: list[str], value: Any) -> Any:
    """Return a copy of a list, tuple or dict with another value at a place in it, or in what it holds."""
    if not place:
        return value
    if isinstance(container, dict):
        return {**container, place[0]: _replaced(container[place[0]], place[1:], value)}
    items = list(container)
    items[int(place[0])] = _replaced(items[int(place[0])], place[1:], value)
    return type(container)(items)


def cut_like(name: str, tensor: Tensor, shapes: Shapes) -> Tensor:
    """Return the part that is left of a tensor of a name."""
    if name in shapes.grouped:
        return _cut_groups(tensor, shapes.rows.get(name, {}).get(0), shapes.grouped[name])
    for dimension, kept in shapes.rows.get(name, {}).items():
        tensor = tensor.index_select(dimension, torch.tensor(kept, device=tensor.device, dtype=torch.int64))
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


def _every_tensor(model: nn.Module) -> list[tuple[str, nn.Module, str, Tensor]]:
    """Return every parameter and buffer with its full name and its place, tied ones at all of their places."""
    found = []
    for path, module in model.named_modules():
        for store in (module._parameters, module._buffers):
            for attribute, tensor in store.items():
                if tensor is not None:
                    found.append((f"{path}.{attribute}" if path else attribute, module, attribute, tensor))
    return found
