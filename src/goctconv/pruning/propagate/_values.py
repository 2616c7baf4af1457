"""Values of tensors: the stored tensor that a weight is, and the constants that channels are."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..._torch import buffers_of, parameters_of, storage_key
from ...graph import StorageMap
from ._shadows import Shadow, by_dimension, changes, compressed, tidy

_AGREEMENT = {torch.float64: 1e-11}
"""By how much the values of a constant may differ from place to place, by dtype; 1e-5 for the others."""
_SCALINGS = {"mul", "multiply", "div", "divide"}
_CASTS = {"_to_copy", "to", "float", "half", "double", "type_as"}


class Stored:
    """The parameters and buffers of a model, found by their memory.

    Args:
        modules: Of the model, by path.

    Attributes:
        casts: Types of less precision that they were cast to.
    """

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self._stored: dict[tuple[int, int], tuple[str, Tensor]] = {}
        self._names: dict[int, str] = {}
        self._scaled: dict[int, tuple[Callable[[], Tensor | None], str, float]] = {}
        self.casts: set[torch.dtype] = set()
        self._cast: dict[int, tuple[Callable[[], Tensor | None], str]] = {}
        stores: list[tuple[str, Mapping[str, Tensor | None]]] = []
        stores += [(path, parameters_of(module)) for path, module in modules.items()]
        stores += [(path, buffers_of(module)) for path, module in modules.items()]
        for path, store in stores:
            for name, tensor in store.items():
                if tensor is not None and tensor.numel():
                    known = self._stored.setdefault(_place(tensor), (f"{path}.{name}" if path else name, tensor))
                    if known[1] is tensor:
                        self._names[id(tensor)] = known[0]

    def name_of(self, tensor: Tensor) -> str | None:
        """Return the name of the parameter or buffer that a tensor is as a whole; None if it is none."""
        known = self._names.get(id(tensor))
        if known is not None:
            return known
        if tensor.layout != torch.strided or not tensor.numel():
            return None
        name, stored = self._stored.get(_place(tensor), ("", None))
        if stored is not None and stored.shape == tensor.shape and stored.stride() == tensor.stride():
            return name
        reference, name = self._cast.get(storage_key(tensor), (lambda: None, ""))
        return name if reference() is tensor else None

    def is_own(self, tensor: Tensor) -> bool:
        """Whether a tensor is a parameter or buffer itself, and no other one in its memory."""
        return id(tensor) in self._names

    def weight_of(self, weight: Tensor) -> tuple[str, float] | None:
        """Return the name of the parameter that a weight is, and the number that it was multiplied by."""
        name = self.name_of(weight)
        if name is not None:
            return name, 1.0
        reference, name, factor = self._scaled.get(storage_key(weight), (lambda: None, "", 1.0))
        return (name, factor) if reference() is weight else None

    def note_alias(self, name: str, args: tuple[Any, ...], result: Any) -> bool:
        """Note a parameter that is cast to another type, or a weight that is one times a number.

        Such weights are not followed element by element.
        """
        if name in _CASTS and isinstance(result, Tensor) and result is not args[0]:
            cast = self.name_of(args[0])
            if cast is not None and result.shape == args[0].shape:
                self._cast[storage_key(result)] = (weakref.ref(result), cast)
                if result.element_size() < args[0].element_size():
                    self.casts.add(result.dtype)
            return cast is not None
        if name not in _SCALINGS or len(args) < 2 or not isinstance(args[1], int | float):
            return False
        stored = self.name_of(args[0]) if isinstance(args[0], Tensor) and args[0].dim() > 1 else None
        if stored is None or result is args[0] or not args[1]:
            return False
        factor = float(args[1]) if name.startswith("mul") else 1 / args[1]
        self._scaled[storage_key(result)] = (weakref.ref(result), stored, factor)
        return True

    def forget(self, tensor: Tensor) -> None:
        """Forget that a tensor, which was changed in place, was a scaled parameter."""
        self._scaled.pop(storage_key(tensor), None)
        self._cast.pop(storage_key(tensor), None)


class Constants(NamedTuple):
    """Which channels are constants, and their values."""

    constant: Tensor
    values: Tensor


class Taints:
    """Constants that a border of zeros, or an average that counts one, changed alike in all channels."""

    def __init__(self) -> None:
        self._of: StorageMap[tuple[Callable[[], Tensor | None], Constants]] = StorageMap()

    def find(self, tensor: Tensor) -> Constants | None:
        """Return constants of a tensor that depend on the place in the same way in all channels."""
        reference, found = self._of.get(tensor) or (lambda: None, None)
        return found if reference() is tensor else None

    def add(self, source: Tensor, shadow: Shadow, result: Tensor, dimension: int = 1) -> None:
        """Note that the constants of a tensor became dependent on the place, all in the same way."""
        found = self.find(source)
        if found is None and len(shadow.changing) == 1 and source.dim() > dimension:
            found = constants_of(source, shadow, dimension)
        if found is not None and found.constant.any():
            self._of.set(result, (weakref.ref(result), found))

    def forget(self, tensor: Tensor) -> None:
        """Forget what was known of a tensor, which was changed in place."""
        self._of.forget(tensor)


def constants_of(source: Tensor, shadow: Shadow, dimension: int) -> Constants:
    """Return which channels are constants, and their values, which must be the same everywhere."""
    size = source.shape[dimension]
    constant, values = np.zeros(size, dtype=bool), np.zeros(size)
    chosen = np.flatnonzero(shadow.flags_along(dimension).numpy())
    if len(chosen) and source.numel():
        rows = _rows(source, dimension, chosen)
        middle = rows[:, 0].double().cpu().numpy()
        bounds = rows.amin(1), rows.amax(1)  # aminmax is ten times as slow
        low, high = (bound.double().cpu().numpy() for bound in bounds)
        agree = high - low <= _AGREEMENT.get(source.dtype, 1e-5) * np.abs(middle)
        constant[chosen] = agree
        values[chosen] = np.where(agree, middle, 0)
    return Constants(torch.from_numpy(constant), torch.from_numpy(values))


def _rows(source: Tensor, dimension: int, chosen: NDArray[np.int64]) -> Tensor:
    """Return what lies at some places along a dimension, a row for each."""
    index = torch.from_numpy(chosen)
    found = source.index_select(dimension, index if source.is_cpu else index.to(source.device))
    return (found if not dimension else found.movedim(dimension, 0)).reshape(
        len(chosen), source.numel() // max(source.shape[dimension], 1)
    )


def _are(rows: Tensor, value: float) -> Tensor:
    """Return which rows are a value everywhere."""
    if rows.is_complex() or not rows.numel():
        return (rows == value).all(1)
    return (rows.amin(1) == value) & (rows.amax(1) == value)


def agreeing(source: Tensor, shadow: Shadow) -> Shadow:
    """Return a shadow with those constants only that are the same in all places of a channel."""
    if not shadow.has_constants:
        return shadow
    flags = tidy(shadow.constant)
    changing = shadow.changing
    places = [d for d in range(source.dim()) if d not in changing]
    if source.is_complex():
        return shadow.without_constants()
    if not places or not source.numel():
        return shadow
    values = source.double().cpu()
    low, high = values.amin(places, keepdim=True), values.amax(places, keepdim=True)
    agree = high - low <= _AGREEMENT.get(source.dtype, 1e-5) * low.abs()
    for d in places:
        flags = flags.narrow(d, 0, 1) if flags.stride(d) == 0 else flags.all(d, keepdim=True)
    return Shadow(shadow.labels, (flags & agree).expand(source.shape))


def only_where(source: Tensor, shadow: Shadow, value: float) -> Shadow:
    """Return a shadow with those constants only that have a value."""
    if not source.dim():
        return Shadow(shadow.labels, shadow.constant & (source == value).cpu())
    if not shadow.has_constants:
        return shadow
    if shadow.dimension is not None:
        chosen = np.flatnonzero(shadow.flags_along(shadow.dimension).numpy())
        found = np.zeros(source.shape[shadow.dimension], dtype=bool)
        found[chosen] = _are(_rows(source, shadow.dimension, chosen), value).cpu().numpy()
        labels = shadow.channels_along(shadow.dimension)
        return by_dimension(shadow.shape, shadow.dimension, labels, torch.from_numpy(found))
    flags = tidy(shadow.constant)
    changing = changes(flags)
    if len(changing) > 1:
        return Shadow(shadow.labels, tidy(flags & (source == value).cpu()))
    dimension = changing[0] if changing else 0
    chosen = np.flatnonzero(compressed(flags).reshape(-1).numpy()) if changing else np.arange(source.shape[0])
    equal = torch.zeros(source.shape[dimension], dtype=torch.bool)
    equal[chosen] = _are(_rows(source, dimension, chosen), value).cpu()
    if not changing:
        equal = equal.all().expand(source.shape[dimension])
    view = [1] * source.dim()
    view[dimension] = -1
    return Shadow(shadow.labels, equal.view(view).expand(source.shape))


def tensors_in(arguments: Any) -> Iterator[Tensor]:
    """Give the tensors in the arguments or results of an operation."""
    if isinstance(arguments, Tensor):
        yield arguments
    elif isinstance(arguments, list | tuple):
        for argument in arguments:
            yield from tensors_in(argument)
    elif isinstance(arguments, dict):
        for argument in arguments.values():
            yield from tensors_in(argument)


def _place(tensor: Tensor) -> tuple[int, int]:
    return storage_key(tensor), int(tensor.storage_offset())
