"""What is known while a forward pass is followed: shadows of tensors, names of weights, values of constants."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .._torch import ConvNd
from ._facts import Blocks, Cut, Facts, Follow, Loss, Reader
from ._provenance import SizeSources, Source, SourcedInt
from ._shadows import FIRST, FROZEN, NONE, Shadow, Shadows, along, changes, compressed, rows_along, tidy, uniform

_LARGEST_FOLLOWED = 1 << 18  # elements of a stored tensor that are followed one by one
_AGREEMENT = {torch.float64: 1e-11}
"""By how much the values of a constant may differ from place to place, by dtype; for the others see below."""


@dataclass
class Operation:
    """One operation that runs.

    Attributes:
        name: Without a trailing underscore.
        func: What was called.
        args: With what.
        keywords: The same.
        arguments: Both by name, with defaults.
        known: Shadows of the tensors that were put in, by id, as they were before.
        result: What it gave.
    """

    name: str
    func: Any
    args: tuple[Any, ...]
    keywords: dict[str, Any]
    arguments: dict[str, Any]
    known: dict[int, Shadow | None]
    result: Any

    @property
    def source(self) -> Tensor | None:
        """The first argument, if it is a tensor."""
        return self.args[0] if self.args and isinstance(self.args[0], Tensor) else None

    @property
    def shadow(self) -> Shadow | None:
        """Of the first argument."""
        return None if self.source is None else self.known.get(id(self.source))


@dataclass
class Stained:
    """Constants that a border of zeros, or an average that counts one, changed alike in all channels."""

    tensor: Callable[[], Tensor | None]
    constant: Tensor
    values: Tensor


class Lookups:
    """What rules ask and tell while they follow a forward pass."""

    def __init__(self, model: nn.Module) -> None:
        self.facts = Facts()
        self.shadows = Shadows()
        self.path: list[str] = []
        self.sources = SizeSources(self.channels_of)
        self._stored: dict[tuple[int, int], tuple[str, Tensor]] = {}
        self._derived: dict[int, tuple[Callable[[], Tensor | None], str, float]] = {}
        self._stained: dict[int, Stained] = {}
        self._followed: set[str] = set()
        self._outputs: dict[int, tuple[Callable[[], Tensor | None], Reader]] = {}
        self._plain = {path for path, module in model.named_modules() if isinstance(module, ConvNd | nn.Linear)}
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.numel():
                self._stored.setdefault(_place(tensor), (name, tensor))

    @property
    def where(self) -> str:
        """The path of the module that runs."""
        return self.path[-1] if self.path and self.path[-1] else "the model"

    @property
    def is_plain(self) -> bool:
        """Whether the module that runs is a convolution or linear layer of PyTorch's, or a subclass of one."""
        return bool(self.path) and self.path[-1] in self._plain

    # Shadows of tensors

    def shadow(self, tensor: Tensor) -> Shadow | None:
        """Return a tensor's shadow; None for one that no channel is known of."""
        found = self.shadows.find(tensor)
        if found is not None:
            return found
        stored = self.stored_as(tensor)
        if stored is None or not tensor.dim() or tensor.numel() == 1:
            return None
        if tensor.dim() > 1:
            self._followed.add(stored[0])
        if tensor.dim() > 1 and tensor.numel() > _LARGEST_FOLLOWED:
            return uniform(tensor.shape, FROZEN, constant=True)
        return Shadow(self._element_labels(*stored), torch.tensor(True).expand(tensor.shape))

    def put(self, result: Any, shadow: Shadow | None) -> bool:
        """Give a result its shadow; return whether it fits."""
        if not isinstance(result, Tensor) or shadow is None or shadow.shape != result.shape:
            return False
        self.shadows.set(result, shadow)
        return True

    def channels_of(self, tensor: Tensor, dimension: int) -> Tensor | None:
        """Return the labels of channels along a dimension; None if there are none."""
        shadow = self.shadows.find(tensor)
        if shadow is None or dimension not in changes(shadow.labels):
            return None
        return rows_along(shadow.labels, dimension)[0]

    # Stored tensors

    def stored_as(self, tensor: Tensor) -> tuple[str, Tensor] | None:
        """Return name and value of the parameter or buffer that a tensor is, whole and as it is stored."""
        if tensor.layout != torch.strided or not tensor.numel():
            return None
        stored = self._stored.get(_place(tensor))
        if stored is None or stored[1].shape != tensor.shape or stored[1].stride() != tensor.stride():
            return None
        return stored

    def weight_of(self, weight: Tensor) -> tuple[str, float] | None:
        """Return the name of the parameter that a weight is, and the number that it was multiplied by."""
        stored = self.stored_as(weight)
        if stored is not None:
            return stored[0], 1.0
        reference, name, factor = self._derived.get(_storage(weight), (lambda: None, "", 1.0))
        return (name, factor) if reference() is weight else None

    def note_derived(self, name: str, args: tuple[Any, ...], result: Any) -> bool:
        """Note a weight that is a parameter times a number; those are not followed element by element."""
        if name not in {"mul", "div", "multiply", "divide"} or len(args) < 2 or not isinstance(args[1], int | float):
            return False
        stored = self.stored_as(args[0]) if isinstance(args[0], Tensor) and args[0].dim() > 1 else None
        if stored is None or result is args[0] or not args[1]:
            return False
        factor = float(args[1]) if name.startswith("mul") else 1 / args[1]
        self._derived[_storage(result)] = (weakref.ref(result), stored[0], factor)
        return True

    def row_labels(self, name: str, dimension: int, count: int) -> Tensor:
        """Return the labels of a stored tensor's entries along one dimension."""
        if (name, dimension) not in self.facts.rows:
            self.facts.rows[name, dimension] = self.facts.fresh(count)
        return self.facts.rows[name, dimension]

    def _element_labels(self, name: str, tensor: Tensor) -> Tensor:
        if tensor.dim() == 1:
            return self.row_labels(name, 0, len(tensor))
        if name not in self.facts.elements:
            self.facts.elements[name] = self.facts.fresh(tensor.numel()).view(tensor.shape)
        return self.facts.elements[name]

    def bind(self, name: str, dimension: int, labels: Tensor) -> None:
        """Note that the entries of a stored tensor along one dimension belong to channels."""
        self.facts.bind(name, dimension, torch.where(labels == NONE, FROZEN, labels).to(torch.int32))

    def bind_bias(self, bias: Tensor | None, labels: Tensor) -> str:
        """Note what a bias belongs to; return its name, empty if there is none, ``"?"`` for one that is computed."""
        if bias is None:
            return ""
        stored = self.stored_as(bias)
        if stored is None:
            self.facts.freeze(labels, f"the bias of {self.where} is computed")
            return "?"
        self.bind(stored[0], 0, labels)
        self.facts.count_use(stored[0])
        return stored[0]

    # Readers and what reads their output

    def add_reader(self, reader: Reader, result: Tensor) -> None:
        """Note a layer that mixes channels."""
        is_own = self.is_plain and self.path[-1] == reader.weight.rpartition(".")[0]
        reader.is_plain = reader.is_plain and reader.bias != "?" and bool(reader.bias or is_own)
        reader.losses = len(self.facts.losses)
        self._outputs[_storage(result)] = (weakref.ref(result), reader)
        self.facts.count_use(reader.weight)
        self.facts.readers.append(reader)

    def note_follower(self, name: str, args: tuple[Any, ...], tensors: list[Tensor]) -> None:
        """Note the BatchNorm that alone reads a layer's output."""
        for tensor in tensors:
            reference, reader = self._outputs.get(_storage(tensor), (lambda: None, None))
            if reader is None or reference() is None:
                continue
            is_norm = "batch_norm" in name and reference() is tensor is args[0] and len(args) > 3
            stored = self.stored_as(args[3]) if is_norm and isinstance(args[3], Tensor) else None
            is_first = reader.follower == ""
            reader.follower = stored[0].rpartition(".")[0] if stored is not None and is_first else "?"

    def note_output(self, tensor: Tensor) -> None:
        """Note a tensor that the model puts out."""
        self.note_follower("", (), [tensor])
        shadow = self.shadows.find(tensor)
        if shadow is not None:
            self.facts.freeze(compressed(shadow.labels), "it is put out by the model")

    def note_padding(self) -> None:
        """Let layers without a place for a constant keep one input, inside modules that are made again by widths."""
        for reader in self.facts.readers:
            is_inside = any(reader.module.startswith(f"{path}." if path else "") for path in self.facts.inputs)
            reader.padded |= is_inside and not reader.bias and reader.follower in {"", "?"}

    # Constants

    def constants(self, source: Tensor, shadow: Shadow, dimension: int) -> tuple[Tensor, Tensor]:
        """Return which channels are constants, and their values, which must be the same everywhere."""
        values = torch.zeros(source.shape[dimension], dtype=torch.float64)
        constant = along(tidy(shadow.constant), dimension)
        if constant is None or not constant.any():
            return torch.zeros(len(values), dtype=torch.bool), values
        chosen = constant.nonzero()[:, 0]
        rows = source.movedim(dimension, 0)[chosen.to(source.device)].reshape(len(chosen), -1)
        middle = rows[:, 0].double().cpu()
        low, high = (one.double().cpu() for one in rows.aminmax(dim=1))
        agree = high - low <= _AGREEMENT.get(source.dtype, 1e-5) * middle.abs()
        constant = constant.clone()
        constant[chosen] = agree
        values[chosen] = torch.where(agree, middle, torch.zeros_like(middle))
        return constant, values

    def only_where(self, source: Tensor, shadow: Shadow, value: float) -> Shadow:
        """Return a shadow with those constants only that have a value."""
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

    def stain(self, source: Tensor, shadow: Shadow, result: Tensor, dimension: int = 1) -> None:
        """Note that constants of a tensor became, all in the same way, dependent on the place."""
        found = self.stained(source)
        if found is None and len(changes(shadow.labels)) == 1 and source.dim() > dimension:
            found = self.constants(source, shadow, dimension)
        if found is not None and found[0].any():
            self._stained[_storage(result)] = Stained(weakref.ref(result), *found)

    def stained(self, tensor: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return constants, and their values, that depend on the place in the same way in all channels."""
        found = self._stained.get(_storage(tensor))
        return (found.constant, found.values) if found is not None and found.tensor() is tensor else None

    def forget(self, result: Any) -> None:
        """Forget what was known of a tensor's values, for it was changed in place."""
        for one in tensors_in(result):
            self._stained.pop(_storage(one), None)
            self._derived.pop(_storage(one), None)

    def note_losses(self, op: Operation) -> None:
        """Note channels that were constants before an operation, and are none after it."""
        given = [_labels_where(shadow, constant=True) for shadow in op.known.values() if shadow is not None]
        given = [labels for labels in given if len(labels)]
        if not given:
            return
        results = [self.shadows.find(one) for one in tensors_in(op.result)]
        live = [_labels_where(shadow, constant=False) for shadow in results if shadow is not None]
        if live:
            before, after = torch.cat(given), torch.cat(live)
            lost = before[torch.isin(before, after)]
            if len(lost):
                self.facts.losses.append(Loss(lost, op.name, self.where))

    # Sizes

    def note_size(self, labels: Tensor, source: Source | None, reason: str) -> bool:
        """Note that the code computes the length of a piece from something; return whether that is known."""
        if source is None:
            return False
        if source.channels is None:
            self.facts.cuts.append(Cut(labels, source, reason))
        else:
            self.facts.follows.append(Follow(labels, source.channels, source.compute, reason))
        return True

    def note_uses(self) -> None:
        """Note what else the code does with numbers of channels, and with weights of layers."""
        for (name, _), labels in self.facts.rows.items():
            if name in self._followed:
                self.facts.freeze(labels, f"{name} is used in other ways too")
        self._note_numbers()
        for source, other in self.sources.uses.equalities:
            if source.channels is not None:
                self._note_equality(source, source.channels, other)

    def _note_numbers(self) -> None:
        """Note that numbers of channels which the code computes with must stay."""
        numbers = self.sources.uses.numbers
        fixed = {one.place for one in numbers}
        for one in numbers:
            if one.channels is not None:
                self.facts.freeze(one.channels, "their number is computed with")
        for cut in self.facts.cuts:
            if cut.source.place in fixed:
                self.facts.freeze(cut.labels, f"{'.'.join(cut.source.place)} is computed with")
        for split in self.facts.splits:
            if split.source.place in fixed:
                self.facts.freeze(torch.cat(split.pieces), f"{'.'.join(split.source.place)} is computed with")

    def _note_equality(self, source: Source, channels: Tensor, other: int) -> None:
        """Note that a number of channels must stay what it is compared with."""
        reason = "their number is compared with another"
        theirs = other.source if isinstance(other, SourcedInt) else None
        if theirs is None:
            nothing = torch.zeros(0, dtype=torch.int32)
            amount = int(other)
            self.facts.follows.append(Follow(nothing, channels, lambda n: source.compute(n) - amount, reason))
        elif theirs.channels is None and source.compute is int:
            self.facts.cuts.append(Cut(channels, theirs, reason))

    def note_rows(self, rows: Tensor, reason: str) -> None:
        """Note that rows must keep equally many channels."""
        if len(rows) > 1:
            self.facts.blocks.append(Blocks(list(rows), reason))


def _labels_where(shadow: Shadow, *, constant: bool) -> Tensor:
    """Return the labels of what is constant, or is not."""
    flags = compressed(shadow.constant)
    if bool(flags.all()) if not constant else not bool(flags.any()):
        return torch.zeros(0, dtype=torch.int32)
    labels = compressed(shadow.labels)
    labels, flags = torch.broadcast_tensors(labels, flags)  # type: ignore[no-untyped-call]  # torch's own
    found: Tensor = labels[flags if constant else ~flags]
    return found[found >= FIRST]


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _place(tensor: Tensor) -> tuple[int, int]:
    return _storage(tensor), int(tensor.storage_offset())


def tensors_in(arguments: Any) -> Iterator[Tensor]:
    """Give the tensors in arguments or results."""
    for leaf in pytree.tree_leaves(arguments):
        if isinstance(leaf, Tensor):
            yield leaf


def aligned(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return pairs of labels of two tensors of equal shapes, each pair but once where strides tell."""
    a, b = torch.broadcast_tensors(compressed(a), compressed(b))  # type: ignore[no-untyped-call]  # torch's own
    return a.reshape(-1), b.reshape(-1)
