"""The cutting of a model's tensors, and of the numbers that count them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..._torch import (
    BatchNorm,
    ConvNd,
    ConvTransposeNd,
    InstanceNorm,
    buffers_of,
    children_of,
    flat_weights_of,
    parameters_of,
    set_flat_weights,
)
from ...graph import modules_by_path
from ._shapes import Moves, Shapes, cut_like


class Surgery:
    """Changes of a model, which can all be taken back."""

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
        indices: dict[int, Tensor] = {}
        for name, length in shapes.biases.items():
            self._add_bias(name, length)
        touched = {*shapes.rows, *shapes.grouped, *moves.offsets, *moves.columns, *moves.factors, *shapes.positions}
        modules = modules_by_path(self._model)
        for name, module, attribute, tensor in _every_tensor(modules):
            if id(tensor) in replaced:
                self._replace(module, attribute, replaced[id(tensor)])
            elif name in touched:
                value = cut_tensor(name, tensor.detach(), shapes, moves, indices)
                new: Tensor = nn.Parameter(value, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value
                vars(new).update(vars(tensor))  # what users noted there
                replaced[id(tensor)] = new
                self._replace(module, attribute, new)
        for path, module in modules.items():
            self._measure(path, module, shapes)
        for path, module in reversed(modules.items()):
            if path in shapes.widths and shapes.rows:
                self._resize(module, shapes.widths[path])
        self.set_attributes(shapes.attributes)

    def set_attributes(self, values: Mapping[str, Mapping[str, int | list[int]]]) -> None:
        """Set attributes of modules; an item of a sequence as ``"attribute.index"``."""
        for path, attributes in values.items():
            for attribute, number in attributes.items():
                self._set_source(self._model.get_submodule(path), attribute, number)

    def _add_bias(self, name: str, length: int) -> None:
        path, _, attribute = name.rpartition(".")
        module = self._model.get_submodule(path)
        like = next(module.parameters())
        bias = nn.Parameter(torch.zeros(length, dtype=like.dtype, device=like.device), like.requires_grad)
        self._replace(module, attribute, bias)

    def _replace(self, module: nn.Module, attribute: str, tensor: Tensor) -> None:
        store: dict[str, Any] = parameters_of(module) if attribute in parameters_of(module) else buffers_of(module)
        old = store[attribute]
        self._undo.append(lambda: store.__setitem__(attribute, old))
        store[attribute] = tensor

    def keep_values(self, tensor: Tensor) -> None:
        """Remember the values of a tensor that is about to be changed in place."""
        before = tensor.detach().clone()

        def restore() -> None:
            with torch.no_grad():
                tensor.copy_(before)

        self._undo.append(restore)

    def _resize(self, module: nn.Module, widths: list[int]) -> None:
        """Call `resize_channels` of a module that keeps account of its channels."""
        before = [(place, dict(vars(place)), dict(children_of(place))) for place in _with_containers(module)]

        def restore() -> None:
            for place, attributes, children in before:
                vars(place).update(attributes)
                children_of(place).clear()
                children_of(place).update(children)

        self._undo.append(restore)
        resizable: Any = module
        resizable.resize_channels(widths)

    def _set(self, module: nn.Module, attribute: str, value: Any) -> None:
        if attribute in vars(module) and vars(module)[attribute] != value:
            old = vars(module)[attribute]
            self._undo.append(lambda: vars(module).__setitem__(attribute, old))
            vars(module)[attribute] = value

    def _set_source(self, module: nn.Module, attribute: str, value: int | list[int]) -> None:
        name, _, place = attribute.partition(".")
        self._set(module, name, _replaced(vars(module)[name], place.split("."), value) if place else value)

    def _measure(self, path: str, module: nn.Module, shapes: Shapes) -> None:
        """Set a module's own numbers of channels to those of its tensors."""
        weight = parameters_of(module).get("weight")
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
        elif isinstance(module, InstanceNorm) and weight is not None:
            self._set(module, "num_features", len(weight))
        elif isinstance(module, nn.PReLU) and weight is not None:
            self._set(module, "num_parameters", len(weight))
        elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
            self._measure_recurrent(module)

    def _measure_recurrent(self, module: nn.RNNBase | nn.RNNCellBase) -> None:
        """Set a recurrent layer's width to that of its weights, and the list of them that it keeps."""
        found = parameters_of(module)
        weight = found.get("weight_ih_l0", found.get("weight_ih"))
        if weight is not None:
            self._set(module, "input_size", weight.shape[1])
        if isinstance(module, nn.RNNBase):
            before = flat_weights_of(module)
            self._undo.append(lambda: set_flat_weights(module, before))
            set_flat_weights(module, flat_weights_of(module, anew=True))


def cut_tensor(
    name: str, tensor: Tensor, shapes: Shapes, moves: Moves, indices: dict[int, Tensor] | None = None
) -> Tensor:
    """Return what is left of a tensor, with what is moved into it: added in float64, and rounded once."""
    if name in moves.offsets:
        cut = cut_like(name, tensor.double() + moves.offsets[name].to(tensor.device), shapes, indices).to(tensor.dtype)
    elif name in moves.columns and name in shapes.grouped:
        precise = tensor.double()  # not the tensor itself: that would be a float64 one
        precise = precise.clone() if precise is tensor else precise
        for dimension, column, added in moves.columns[name]:
            precise.select(dimension, column).add_(added.to(tensor.device))
        cut = cut_like(name, precise, shapes, indices).to(tensor.dtype)
    else:
        cut = cut_like(name, tensor, shapes, indices)
        rows = shapes.rows.get(name, {})
        for dimension, column, added in moves.columns.get(name, []):
            cut = cut.clone() if cut is tensor else cut
            place = rows[dimension].index(column) if dimension in rows else column
            more = added[rows[1 - dimension]] if 1 - dimension in rows else added
            chosen = cut.select(dimension, place)
            chosen.copy_((chosen.double() + more.to(tensor.device)).to(tensor.dtype))
    if name in moves.factors:
        cut = (cut.double() * moves.factors[name]).to(tensor.dtype)
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
        return cut.contiguous(memory_format=torch.channels_last)
    return cut.contiguous()


def _with_containers(module: nn.Module) -> Iterator[nn.Module]:
    """Give a module and the lists and dicts of modules in it."""
    yield module
    for child in module.children():
        if isinstance(child, nn.ModuleDict | nn.ModuleList):
            yield from _with_containers(child)


def _replaced(container: Any, place: list[str], value: Any) -> Any:
    """Return a copy of a list, tuple or dict with another value at a place in it, or in what it holds."""
    if not place:
        return value
    if isinstance(container, dict):
        return {**container, place[0]: _replaced(container[place[0]], place[1:], value)}
    items = list(container)
    items[int(place[0])] = _replaced(items[int(place[0])], place[1:], value)
    return type(container)(items)


def _every_tensor(modules: Mapping[str, nn.Module]) -> list[tuple[str, nn.Module, str, Tensor]]:
    """Return every parameter and buffer with its full name and its place, tied ones at all of their places."""
    return [
        (f"{path}.{attribute}" if path else attribute, module, attribute, tensor)
        for path, module in modules.items()
        for store in (parameters_of(module), buffers_of(module))
        for attribute, tensor in store.items()
        if tensor is not None
    ]
