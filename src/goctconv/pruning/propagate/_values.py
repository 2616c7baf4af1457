"""Values of tensors: the stored tensor that a weight is, and the constants that channels are."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..._torch import buffers_of, parameters_of, storage_key
from ...graph import StorageMap
from ._shadows import Shadow, changes, compressed, tidy

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
        self._scaled: dict[int, tuple[Callable[[], Tensor | None], str, float]] = {}
        self.casts: set[torch.dtype] = set()
        self._cast: dict[int, tuple[Callable[[], Tensor | None], str]] = {}
        stores: list[tuple[str, Mapping[str, Tensor | None]]] = []
        stores += [(path, parameters_of(module)) for path, module in modules.items()]
        stores += [(path, buffers_of(module)) for path, module in modules.items()]
        for path, store in stores:
            for name, tensor in store.items():
                if tensor is not None and tensor.numel():
                    self._stored.setdefault(_place(tensor), (f"{path}.{name}" if path else name, tensor))

    def name_of(self, tensor: Tensor) -> str | None:
        """Return the name of the parameter or buffer that a tensor is as a whole; None if it is none."""
        if tensor.layout != torch.strided or not tensor.numel():
            return None
        name, stored = self._stored.get(_place(tensor), ("", None))
        if stored is not None and stored.shape == tensor.shape and stored.stride() == tensor.stride():
            return name
        reference, name = self._cast.get(storage_key(tensor), (lambda: None, ""))
        return name if reference() is tensor else None

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
        if found is None and len(changes(shadow.labels)) == 1 and source.dim() > dimension:
            found = constants_of(source, shadow, dimension)
        if found is not None and found.constant.any():
            self._of.set(result, (weakref.ref(result), found))

    def forget(self, tensor: Tensor) -> None:
        """Forget what was known of a tensor, which was changed in place."""
        self._of.forget(tensor)


def constants_of(source: Tensor, shadow: Shadow, dimension: int) -> Constants:
    """Return which channels are constants, and their values, which must be the same everywhere."""
    values = torch.zeros(source.shape[dimension], dtype=torch.float64)
    constant = shadow.flags_along(dimension)
    if not constant.any():
        return Constants(torch.zeros(len(values), dtype=torch.bool), values)
    chosen = constant.nonzero()[:, 0]
    rows = source.movedim(dimension, 0)[chosen.to(source.device)].reshape(len(chosen), -1)
    middle = rows[:, 0].double().cpu()
    low, high = (bound.double().cpu() for bound in rows.aminmax(dim=1))
    agree = high - low <= _AGREEMENT.get(source.dtype, 1e-5) * middle.abs()
    constant = constant.clone()
    constant[chosen] = agree
    values[chosen] = torch.where(agree, middle, torch.zeros_like(middle))
    return Constants(constant, values)


def agreeing(source: Tensor, shadow: Shadow) -> Shadow:
    """Return a shadow with those constants only that are the same in all places of a channel."""
    flags = tidy(shadow.constant)
    if not compressed(flags).any():
        return shadow
    changing = changes(shadow.labels)
    places = [d for d in range(source.dim()) if d not in changing]
    if source.is_complex():
        return shadow.without_constants()
    if not places:
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
    flags = tidy(shadow.constant)
    if not compressed(flags).any():
        return shadow
    changing = changes(flags)
    if len(changing) > 1:
        return Shadow(shadow.labels, tidy(flags & (source == value).cpu()))
    dimension = changing[0] if changing else 0
    chosen = compressed(flags).reshape(-1).nonzero()[:, 0] if changing else torch.arange(source.shape[0])
    rows = source.movedim(dimension, 0)[chosen.to(source.device)].reshape(len(chosen), -1)
    equal = torch.zeros(source.shape[dimension], dtype=torch.bool)
    equal[chosen] = (rows == value).all(1).cpu()
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
