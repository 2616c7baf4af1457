"""BatchNorm outputs, followed operation by operation to the activation that is applied to them alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._torch import BatchNorm, DropoutNd, OpOverload, is_mutable, storage_key, tensors_in
from ..graph import (
    IDENTITIES,
    MATRIX_PRODUCTS,
    VIEWS,
    Observer,
    Operation,
    StorageMap,
    functional,
    is_batch_norm,
    is_pointwise,
    name_of,
    product_of,
    recording,
)
from ._activations import ActivationPath, Call, Learned, Value
from ._results import StatisticsError

_PRODUCTS = {"convolution", *MATRIX_PRODUCTS}
"""Products that consume channels and write channels; those of batches of matrices have none."""


class _Followed(NamedTuple):
    """A tensor whose value is known, and how its elements were rearranged since the BatchNorm put them out."""

    shape: torch.Size
    stride: tuple[int, ...]
    is_contiguous: bool
    layout: tuple[Any, ...]
    value: Value


class Follower(Observer):
    """Knows which tensors of a forward pass are functions of one BatchNorm's output alone.

    Tensors are known by their storages, which views share and in-place operations keep.

    Args:
        begin: Returns a new call for a module that is called if its output is to be followed, else None.
    """

    def __init__(self, begin: Callable[[nn.Module], Call | None]) -> None:
        self._begin = begin
        self._frames: list[tuple[Call | None, Call | None]] = []  # of a module, or of the BatchNorm it is called behind
        self._norm_calls: list[Call] = []
        self._values: StorageMap[_Followed] = StorageMap()
        self._parameters: StorageMap[nn.Parameter] = StorageMap()
        self._macs: StorageMap[float] = StorageMap()
        self._reach: dict[int, int] = {}
        self._bits = 0

    def enter(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:  # noqa: ARG002
        """Begin to follow a BatchNorm, or note that a module is called on the output of one."""
        source = _first_tensor(args)
        call = self._begin(module)
        if call is not None:
            self._norm_calls.append(call)
            call.writing_macs = (None if source is None else self._macs.get(source)) or 0.0
        value = None if source is None or len(args) > 1 else self.value_of(source)
        is_output = value is not None and value.operation is None and value.call.output is source
        self._frames.append((call, value.call if is_output and value is not None else None))

    def leave(self, path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Note the output of a BatchNorm, or that a module has computed a function of one."""
        call, call_before = self._frames.pop()
        if not isinstance(output, Tensor):
            return
        value, source = self.value_of(output), _first_tensor(args)
        if call is not None:
            self._leave_norm(call, output, value)
        elif isinstance(module, DropoutNd) and source is not None:
            found = self.value_of(source)  # dropout's output is treated as equal to its input
            if found is not None:
                self._set(output, found, (*self.layout_of(source), "alias"))
        elif value is not None and value.call is call_before and value.operation is not None and value.module is None:
            value.module, value.path = module, path

    def _leave_norm(self, call: Call, output: Tensor, value: Value | None) -> None:
        self._norm_calls.pop()
        call.is_internal = value is not None and value.call is call and value.operation is not None
        call.output, call.shape = output, output.shape
        call.own, _ = call.observe(call, output, None, False)
        if not call.is_internal:
            self._follow(output, call)

    def after(self, operation: Operation) -> None:
        """Note what an operation makes of tensors that are followed."""
        reach = self.reach_of(operation.tensors)
        for tensor in operation.results:
            self._reach[storage_key(tensor)] = reach
        name, args, result = operation.name, operation.args, operation.result
        if is_batch_norm(name):
            output = result[0] if isinstance(result, tuple | list) and result else result
            if self._norm_calls and isinstance(output, Tensor) and output.shape == args[0].shape:
                self._follow(output, self._norm_calls[-1])
        elif name in _PRODUCTS and isinstance(result, Tensor) and storage_key(result):
            self._note_product(operation)
        elif args and isinstance(args[0], Tensor):
            self._note_function(operation)

    def reach_of(self, tensors: Iterable[Tensor]) -> int:
        """Return the bits of the functions that tensors depend on."""
        reach = 0
        for tensor in tensors:
            reach |= self._reach.get(storage_key(tensor), 0)
        return reach

    def value_of(self, tensor: Tensor) -> Value | None:
        """Return what a tensor is known to be; views that rearrange all of its elements included."""
        followed = self._values.get(tensor)
        return followed.value if followed is not None and followed.shape.numel() == tensor.numel() else None

    def layout_of(self, tensor: Tensor) -> tuple[Any, ...]:
        """Return how the elements of a followed tensor are rearranged; () if they are as the BatchNorm put them out."""
        followed = self._values.get(tensor)
        assert followed is not None  # noqa: S101  # it has a value
        is_same = (tensor.shape, tensor.stride()) == (followed.shape, followed.stride)
        if is_same or (followed.is_contiguous and tensor.is_contiguous()):
            return followed.layout
        return (*followed.layout, tensor.shape, tensor.stride())

    def _set(self, tensor: Tensor, value: Value, layout: tuple[Any, ...] = ()) -> None:
        if storage_key(tensor):
            followed = _Followed(tensor.shape, tensor.stride(), tensor.is_contiguous(), layout, value)
            self._values.set(tensor, followed)

    def _follow(self, tensor: Tensor, call: Call) -> None:
        """Begin with a BatchNorm's output."""
        self._set(tensor, Value(call))
        call.bit = self._new_bit(tensor)

    def _new_bit(self, tensor: Tensor) -> int:
        bit = 1 << self._bits
        self._bits += 1
        self._reach[storage_key(tensor)] = self._reach.get(storage_key(tensor), 0) | bit
        return bit

    def _note_product(self, operation: Operation) -> None:
        product = product_of(operation)
        if product is None:
            return
        self._macs.set(operation.result, product.macs / max(product.out_channels, 1))
        value = self.value_of(product.source)
        if value is not None:
            value.call.reading_macs += product.macs / max(product.in_channels, 1)

    def _note_function(self, operation: Operation) -> None:
        result = operation.result[0] if operation.name == "log_sigmoid_forward" else operation.result
        if not isinstance(result, Tensor):
            return
        if operation.name in VIEWS or operation.name in IDENTITIES:
            self._note_same(operation.args[0], result)
            return
        found = self._elementwise(operation.func, operation.args, operation.keywords, result)
        if found is not None:
            value, layout = found
            self._set(result, value, layout)
            value.bit = self._new_bit(result)
            value.measured, value.measured_reproduced = value.call.observe(value.call, result, value, layout != ())
            value.call.seen.append(value)
        elif is_mutable(operation.func):
            self._values.forget(result)

    def _note_same(self, source: Tensor, result: Tensor) -> None:
        parameter = self._parameter_of(source)
        if parameter is not None:
            self._parameters.set(result, parameter)
        elif storage_key(source) != storage_key(result):
            value = self.value_of(source)
            if value is not None and source.numel() == result.numel():
                self._set(result, value, self.layout_of(source))

    def _parameter_of(self, tensor: Tensor) -> nn.Parameter | None:
        return tensor if isinstance(tensor, nn.Parameter) else self._parameters.get(tensor)

    def _elementwise(
        self, func: OpOverload, args: tuple[Any, ...], keywords: Mapping[str, Any], result: Tensor
    ) -> tuple[Value, tuple[Any, ...]] | None:
        """Return the value of an elementwise function of one BatchNorm's output, and its layout; else None."""
        function = functional(func)
        if not (is_pointwise(function) or is_pointwise(func)):
            return None
        if name_of(func) == "rrelu_with_noise":  # reproduced without the noise, as the mean of its slopes
            lower, upper = (*(*args, *keywords.values())[2:4], 1 / 8, 1 / 3)[:2]
            args, keywords = (args[0], (lower + upper) / 2), {}
        operands = tuple(self._operand(arg) for arg in args)
        inputs = [operand for operand in operands if isinstance(operand, Value)]
        pairs = list(zip(args, operands, strict=True))
        followed = [arg for arg, operand in pairs if isinstance(operand, Value)]
        if (
            not inputs
            or any(operand is None and arg is not None for arg, operand in pairs)
            or any(isinstance(value, Tensor) for value in keywords.values())
            or any(value.call is not inputs[0].call for value in inputs)
            or any(tensor.shape != result.shape for tensor in followed)
        ):
            return None
        layout = self.layout_of(followed[0])
        if any(self.layout_of(tensor) != layout for tensor in followed):
            return None  # the output meets a rearrangement of itself
        source = self._values.get(followed[0])
        is_rearranged = layout != () or source is None or source.shape != followed[0].shape
        if is_rearranged and any(isinstance(operand, Learned) for operand in operands):
            return None  # which channel is which is not known
        return Value(inputs[0].call, function, operands, dict(keywords)), layout

    def _operand(self, arg: Any) -> Any:
        """Return a value, a parameter or a number; None for a tensor that is something else."""
        if not isinstance(arg, Tensor):
            return arg
        parameter = self._parameter_of(arg)
        if parameter is not None:
            return Learned(parameter, tuple(arg.shape)) if parameter.numel() == arg.numel() else None
        return self.value_of(arg)


def _first_tensor(args: tuple[Any, ...]) -> Tensor | None:
    return args[0] if args and isinstance(args[0], Tensor) else None


def find_activations(model: nn.Module, norms: Mapping[str, BatchNorm], *inputs: Any) -> dict[str, ActivationPath]:
    """Return what follows each BatchNorm in one forward pass, by name; layers that do not run are absent."""
    names = {norm: name for name, norm in norms.items()}
    calls: list[tuple[str, Call]] = []

    def begin(module: nn.Module) -> Call | None:
        if not isinstance(module, BatchNorm) or module not in names:
            return None
        calls.append((names[module], Call()))
        return calls[-1][1]

    follower = Follower(begin)
    with recording(model, follower):
        output = model(*inputs)
    leaves = tensors_in(output)
    reached = follower.reach_of(leaves) if leaves else -1
    found: dict[str, ActivationPath] = {}
    for name, call in calls:
        path = call.path(call.activation(reached))
        check_same_activation(name, found.setdefault(name, path), path)
        call.forget()
    return found


def check_same_activation(name: str, first: ActivationPath, other: ActivationPath) -> None:
    """Check that the same activation follows at two calls of a layer."""
    if not first.reads_the_same(other):
        raise StatisticsError(
            f"{name!r} is called several times, and different activations follow: {first.activation} and "
            f"{other.activation}; exclude it, or use one BatchNorm for each"
        )
