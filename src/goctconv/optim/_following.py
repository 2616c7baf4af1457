"""Follow a BatchNorm's output, operation by operation, to the activation that is applied to it alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from ._recipes import Learned, Recipe, Slot, Step

_aten = torch.ops.aten
_IDENTITIES = {"alias", "clone", "detach", "_to_copy", "contiguous", "lift_fresh", "positive", "_conj"}
_VIEWS = {"view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze", "flatten", "expand"}
_LINEAR = {"add", "sub", "rsub", "mul", "div", "neg"}
_PRODUCTS = {"mul", "div"}
# Elementwise, though PyTorch (or its older versions) does not tag them so:
_WITHOUT_TAG = {"hardswish", "_prelu_kernel", "prelu", "leaky_relu", "elu", "log_sigmoid_forward", "rrelu_with_noise"}


@dataclass(eq=False)
class Value:
    """An elementwise function of one BatchNorm's output; the output itself where there is no operation."""

    call: Call
    operation: Any = None
    operands: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> list[Value]:
        """The values that it is computed from."""
        return [operand for operand in self.operands if isinstance(operand, Value)]

    @property
    def is_nonlinear(self) -> bool:
        """Whether the operation itself is, in the BatchNorm's output."""
        name = _name(self.operation)
        return self.operation is not None and (name not in _LINEAR or (name in _PRODUCTS and len(self.inputs) > 1))

    def contains(self, other: Value, visited: set[Value]) -> bool:
        """Whether the other one is a step on the way to this one."""
        if self is other:
            return True
        fresh = [value for value in self.inputs if value not in visited]
        visited.update(fresh)
        return any(value.contains(other, visited) for value in fresh)


class Seen(NamedTuple):
    """A function of the output that came up in the forward pass, with its metric, (B, C), where it counts."""

    value: Value
    bit: int
    measured: Tensor | None
    measured_reproduced: Tensor | None


@dataclass(eq=False)
class Call:
    """One call of a BatchNorm: what came out, and which functions of it were seen since.

    Attributes:
        observe: Measures an activation; see `ActivationFinder`.
        output: What the BatchNorm returned.
        own: The metric of that, (B, C), where it counts.
        bit: Tells in `Follower.reach_of` what depends on it.
        is_internal: Whether the BatchNorm applies an activation itself.
        seen: Functions of the output, in order.
        modules: Modules called on the output alone, by what they returned.
        writing_macs: Multiply-accumulate operations, per channel, of the convolution that is normalised.
        reading_macs: The same of the convolutions that read the channel.
        shape: Of the output.
        dtype: Of the output.
    """

    observe: Callable[[Call, Tensor, Value | None], tuple[Tensor | None, Tensor | None]]
    output: Tensor | None = None
    own: Tensor | None = None
    bit: int = 0
    is_internal: bool = False
    seen: list[Seen] = field(default_factory=list)
    modules: dict[Value, tuple[nn.Module, str]] = field(default_factory=dict)
    reading_macs: float = 0.0
    writing_macs: float = 0.0
    shape: torch.Size | None = None
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def activation(self, reached: int) -> Seen | None:
        """Return the activation: the first non-linear function of the output, or a combination that contains it.

        Args:
            reached: Bits of what the model's output depends on: checks and logging do not count.
        """
        if self.is_internal:
            return None
        found: Seen | None = None
        is_combined = False
        is_lost = not reached & (self.bit | sum(one.bit for one in self.seen))  # it leaves in a way that is not seen
        for one in self.seen if is_lost else [one for one in self.seen if one.bit & reached]:
            value = one.value
            if found is None:
                found = one if value.is_nonlinear else None
            elif len(value.inputs) > 1 and value.contains(found.value, set()):
                is_combined = is_combined or any(not each.contains(found.value, set()) for each in value.inputs)
                found = one if is_combined else found
            elif is_combined and value.inputs == [found.value] and not value.is_nonlinear:
                found = one
        return found

    def forget(self) -> None:
        """Let go of tensors: values and calls refer to each other, and would keep them until garbage is collected."""
        self.output = None
        self.seen.clear()
        self.modules.clear()

    def recipe(self, value: Value | None) -> Recipe:
        """Return how to read a function of the output; the output itself if there is none."""
        if value is None:
            return Recipe((), None, "its own activation" if self.is_internal else "its output")
        steps: list[Step] = []
        self._write(value, steps, {})
        module, name = self.modules.get(value, (None, ""))
        described = f"{name} ({type(module).__name__})" if module is not None else _name(value.operation)
        return Recipe(tuple(steps), module, described)

    def _write(self, value: Value, steps: list[Step], slots: dict[Value, Slot]) -> Slot:
        if value.operation is None:
            return Slot(0)
        if value not in slots:
            operands = tuple(
                self._write(operand, steps, slots) if isinstance(operand, Value) else operand
                for operand in value.operands
            )
            steps.append(Step(value.operation, operands, value.keywords))
            slots[value] = Slot(len(steps))
        return slots[value]


class _Followed(NamedTuple):
    """A tensor whose value is known, and how its elements were rearranged since the BatchNorm put them out."""

    reference: StorageWeakRef
    shape: torch.Size
    stride: tuple[int, ...]
    is_contiguous: bool
    layout: tuple[Any, ...]
    value: Value


class Follower(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own is not typed
    """Sees every operation of a forward pass, and knows which tensors are functions of one BatchNorm's output alone.

    Tensors are known by their storages, which views share and in-place operations keep.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own is not typed
        self.muted = False
        self.norm_calls: list[Call] = []
        self._values: dict[int, _Followed] = {}
        self._reach: dict[int, int] = {}
        self._bits = 0
        self._parameters: dict[int, tuple[StorageWeakRef, nn.Parameter]] = {}
        self._macs: dict[int, tuple[StorageWeakRef, float]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, and note what it makes of tensors that are followed."""
        result = func(*args, **(kwargs or {}))
        if not self.muted:
            reach = self.reach_of((args, kwargs))
            for one in _tensors(result):
                self._reach[_key(one)] = reach
            self._note(func, args, kwargs or {}, result)
        return result

    def reach_of(self, tensors: Any) -> int:
        """Return the bits of the functions that tensors depend on."""
        reach = 0
        for one in _tensors(tensors):
            reach |= self._reach.get(_key(one), 0)
        return reach

    def follow(self, tensor: Tensor, call: Call) -> None:
        """Begin with a BatchNorm's output."""
        self._set(tensor, Value(call))
        call.bit = self._new_bit(tensor)

    def alias(self, tensor: Tensor, source: Tensor) -> None:
        """Treat a tensor as equal to another one, as dropout's output is for this purpose."""
        value = self.value_of(source)
        if value is not None:
            self._set(tensor, value, (*self.layout_of(source), "alias"))

    def value_of(self, tensor: Tensor) -> Value | None:
        """Return what a tensor is known to be; views that rearrange all of its elements included."""
        followed = self._values.get(_key(tensor))
        if followed is None or not _is_alive(followed.reference) or followed.shape.numel() != tensor.numel():
            return None
        return followed.value

    def layout_of(self, tensor: Tensor) -> tuple[Any, ...]:
        """Return how the elements of a followed tensor are rearranged; () if they are as the BatchNorm put them out."""
        followed = self._values[_key(tensor)]
        is_same = (tensor.shape, tensor.stride()) == (followed.shape, followed.stride)
        if is_same or (followed.is_contiguous and tensor.is_contiguous()):
            return followed.layout
        return (*followed.layout, tensor.shape, tensor.stride())

    def macs_behind(self, tensor: Tensor) -> float:
        """Return the multiply-accumulate operations for one channel of a convolution's output; 0 of other tensors."""
        reference, macs = self._macs.get(_key(tensor), (None, 0.0))
        return macs if _is_alive(reference) else 0.0

    def _set(self, tensor: Tensor, value: Value, layout: tuple[Any, ...] = ()) -> None:
        if _key(tensor):
            self._values[_key(tensor)] = _Followed(
                _reference(tensor), tensor.shape, tensor.stride(), tensor.is_contiguous(), layout, value
            )

    def _note(self, func: Any, args: tuple[Any, ...], keywords: dict[str, Any], result: Any) -> None:
        name = _name(func)
        if "batch_norm" in name:
            self._note_batch_norm(args, result)
        elif name in _MACS and isinstance(result, Tensor) and _key(result):
            self._note_macs(name, args, result)
        elif args and isinstance(args[0], Tensor):
            self._note_function(func, name, args, keywords, result)

    def _note_function(
        self, func: Any, name: str, args: tuple[Any, ...], keywords: dict[str, Any], result: Any
    ) -> None:
        if name == "log_sigmoid_forward":
            result = result[0]
        if isinstance(result, Tensor):
            if name in _VIEWS or name in _IDENTITIES:
                self._note_same(args[0], result)
            else:
                found = self._elementwise(func, args, keywords, result)
                if found is not None:
                    value, layout = found
                    self._set(result, value, layout)
                    self._see(value, result)
                elif func._schema.is_mutable:
                    self._values.pop(_key(result), None)

    def _see(self, value: Value, tensor: Tensor) -> None:
        bit = self._new_bit(tensor)
        value.call.seen.append(Seen(value, bit, *value.call.observe(value.call, tensor, value)))

    def _new_bit(self, tensor: Tensor) -> int:
        bit = 1 << self._bits
        self._bits += 1
        self._reach[_key(tensor)] = self._reach.get(_key(tensor), 0) | bit
        return bit

    def _note_batch_norm(self, args: tuple[Any, ...], result: Any) -> None:
        output = result[0] if isinstance(result, tuple | list) and result else result
        if self.norm_calls and isinstance(output, Tensor) and output.shape == args[0].shape:
            self.follow(output, self.norm_calls[-1])

    def _note_same(self, source: Tensor, result: Tensor) -> None:
        parameter = self._parameter_of(source)
        if parameter is not None and _key(result):
            self._parameters[_key(result)] = (_reference(result), parameter)
        elif _key(source) != _key(result):
            value = self.value_of(source)
            if value is not None and source.numel() == result.numel():
                self._set(result, value, self.layout_of(source))

    def _parameter_of(self, tensor: Tensor) -> nn.Parameter | None:
        if isinstance(tensor, nn.Parameter):
            return tensor
        reference, parameter = self._parameters.get(_key(tensor), (None, None))
        return parameter if _is_alive(reference) else None

    def _elementwise(
        self, func: Any, args: tuple[Any, ...], keywords: dict[str, Any], result: Tensor
    ) -> tuple[Value, tuple[Any, ...]] | None:
        """Return the value of an elementwise function of one BatchNorm's output, and its layout; else None."""
        operation = _functional(func)
        if not (torch.Tag.pointwise in operation.tags or _name(func) in _WITHOUT_TAG):
            return None
        if _name(func) == "rrelu_with_noise":  # reproduced without the noise, as the mean of its slopes
            lower, upper = (*(*args, *keywords.values())[2:4], 1 / 8, 1 / 3)[:2]
            args, keywords = (args[0], (lower + upper) / 2), {}
        operands = tuple(self._operand(arg) for arg in args)
        inputs = [operand for operand in operands if isinstance(operand, Value)]
        followed = [arg for arg, operand in zip(args, operands, strict=True) if isinstance(operand, Value)]
        if (
            not inputs
            or any(operand is None and arg is not None for operand, arg in zip(operands, args, strict=True))
            or any(isinstance(one, Tensor) for one in keywords.values())
            or any(one.call is not inputs[0].call for one in inputs)
            or any(one.shape != result.shape for one in followed)
        ):
            return None
        layout = self.layout_of(followed[0])
        if any(self.layout_of(one) != layout for one in followed):
            return None  # the output meets a rearrangement of itself
        has_parameters = any(isinstance(operand, Learned) for operand in operands)
        if has_parameters and (layout or self._values[_key(followed[0])].shape != followed[0].shape):
            return None  # which channel is which is not known
        return Value(inputs[0].call, operation, operands, keywords), layout

    def _operand(self, arg: Any) -> Any:
        """Return a value, a parameter or a number; None for a tensor that is something else."""
        if not isinstance(arg, Tensor):
            return arg
        parameter = self._parameter_of(arg)
        if parameter is not None:
            return Learned(parameter, tuple(arg.shape)) if parameter.numel() == arg.numel() else None
        return self.value_of(arg)

    def _note_macs(self, name: str, args: tuple[Any, ...], result: Tensor) -> None:
        source, outputs, inputs = _MACS[name](args)
        channels = result.shape[1] if name == "convolution" else result.shape[-1]
        self._macs[_key(result)] = (_reference(result), outputs(result) / channels)
        value = self.value_of(source)
        if value is not None:
            value.call.reading_macs += outputs(result) / inputs


def _convolution(args: tuple[Any, ...]) -> tuple[Tensor, Callable[[Tensor], float], int]:
    source, weight, is_transposed = args[0], args[1], args[6]
    macs_per = weight.numel() / weight.shape[0]  # of one output element; of one input element if transposed

    def macs(result: Tensor) -> float:
        elements: int = (source if is_transposed else result).numel()
        return float(elements * macs_per)

    return source, macs, source.shape[1]


def _linear(position: int) -> Callable[[tuple[Any, ...]], tuple[Tensor, Callable[[Tensor], float], int]]:
    def counted(args: tuple[Any, ...]) -> tuple[Tensor, Callable[[Tensor], float], int]:
        source = args[position]
        return source, lambda result: float(result.numel() * source.shape[-1]), source.shape[-1]

    return counted


_MACS = {"convolution": _convolution, "addmm": _linear(1), "mm": _linear(0), "linear": _linear(0)}


def _tensors(arguments: Any) -> Iterator[Tensor]:
    for leaf in pytree.tree_leaves(arguments):
        if isinstance(leaf, Tensor):
            yield leaf


def _name(func: Any) -> str:
    """Return an operation's name without overload, in-place ones under the name of their functional twins."""
    if func is None:
        return ""
    name: str = func.overloadpacket.__name__
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def _functional(func: Any) -> Any:
    """Return the operation that gives the same result and changes nothing."""
    name = _name(func)
    if name == "rrelu_with_noise":
        return _aten.leaky_relu.default
    if name == "log_sigmoid_forward":
        return _aten.log_sigmoid.default
    if not func._schema.is_mutable:
        return func
    functional = getattr(_aten, name, None)
    return getattr(functional, func._overloadname, func) if functional is not None else func


def _reference(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]  # torch's own is not typed


def _is_alive(reference: StorageWeakRef | None) -> bool:
    return reference is not None and not reference.expired()  # type: ignore[no-untyped-call]  # torch's own


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else 0  # sparse ones have no storage
