"""The private, untyped and version-dependent parts of PyTorch that the package uses, one typed name each.

Tried with torch 2.14.1 unless a comment says otherwise; 2.6 is the oldest version that is supported.
"""

from __future__ import annotations

import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cache, partial
from operator import attrgetter
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, _jit_internal, _ops, fx, nn
from torch._subclasses import fake_tensor
from torch.autograd import forward_ad
from torch.jit._trace import is_tracing as _is_tracing
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.module import _has_any_global_hook
from torch.optim import Optimizer
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle
from typing_extensions import Self

BatchNorm: TypeAlias = _BatchNorm
ConvNd: TypeAlias = _ConvNd
ConvTransposeNd: TypeAlias = _ConvTransposeNd
InstanceNorm: TypeAlias = _InstanceNorm
DropoutNd: TypeAlias = _DropoutNd
"""Modules of any number of dimensions: BatchNorm may be synchronized, and convolutions transposed."""
OpOverload: TypeAlias = _ops.OpOverload
"""An ATen operator."""
FakeTensor: TypeAlias = fake_tensor.FakeTensor
FakeTensorMode: TypeAlias = fake_tensor.FakeTensorMode
"""Tensors without memory, whose operations are not computed, and the mode that makes them."""
is_scripting = _jit_internal.is_scripting
"""Whether `torch.jit.script` compiles the code: the function `torch.jit.is_scripting`, which is not annotated there."""
Tree = TypeVar("Tree")
COMPILED = "_orig_mod"
"""The child in which `torch.compile` keeps the module that it wraps."""

# Modules: https://github.com/pytorch/pytorch/blob/main/torch/nn/modules/module.py

REGISTRIES = frozenset({"_parameters", "_buffers", "_modules"})
"""The attributes in which a module registers parameters, buffers and children."""
_CALL = "_call_impl"  # the function that runs a module's hooks and its forward


# What a module registers itself, None included; changing the dict changes the module. Compiled code asks for it, and
# torch.compile does not trace attrgetter.


def parameters_of(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """Return the parameters that a module registers itself, None included."""
    return module._parameters


def buffers_of(module: nn.Module) -> dict[str, Tensor | None]:
    """Return the buffers that a module registers itself, None included."""
    return module._buffers


def children_of(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return the children that a module registers, None included."""
    return module._modules


forward_hooks_of: Callable[[nn.Module], dict[int, Callable[..., Any]]] = attrgetter("_forward_hooks")
"""A module's forward hooks by id, in the order of their calls."""


def flat_weights_of(module: nn.RNNBase, *, anew: bool = False) -> list[Any]:
    """Return the list of its parameters that a recurrent layer keeps, or that it should keep."""
    if not anew:
        return module._flat_weights
    return [getattr(module, name, None) for name in module._flat_weights_names]


def set_flat_weights(module: nn.RNNBase, weights: list[Any]) -> None:
    """Set the list of its parameters that a recurrent layer keeps."""
    vars(module)["_flat_weights"] = weights


def drop_forward_hooks(module: nn.Module, is_dropped: Callable[[Callable[..., Any]], bool]) -> None:
    """Remove the forward hooks and pre-hooks of a module that a function chooses."""
    for hooks, companions in (
        (module._forward_hooks, (module._forward_hooks_with_kwargs, module._forward_hooks_always_called)),
        (module._forward_pre_hooks, (module._forward_pre_hooks_with_kwargs,)),
    ):
        for key in [key for key, hook in hooks.items() if is_dropped(hook)]:
            del hooks[key]
            for companion in companions:
                companion.pop(key, None)


def _module_calls() -> Iterator[FrameType]:
    """Give the frames of the module calls that run, the innermost first."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == _CALL:
            yield frame
        frame = frame.f_back


def module_call() -> FrameType | None:
    """Return the frame of the innermost module call: of the one that runs this hook, for a hook."""
    return next(_module_calls(), None)


def is_running(module: nn.Module) -> bool:
    """Whether a call of a module runs by itself, and not in code that `torch.compile` made of it."""
    return any(frame.f_locals.get("self") is module for frame in _module_calls())


def called_plainly(module: nn.Module) -> bool:
    """Whether calling a module runs its class's forward pass alone: it has no hooks and no forward of its own."""
    return not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


_any_global_hook: Callable[[], bool] = _has_any_global_hook


def is_watched(module: nn.Module, is_allowed: Callable[[Callable[..., Any]], bool] = lambda _: False) -> bool:
    """Whether anything but its class's forward pass, and the forward hooks that are allowed, runs with a module."""
    others = module._backward_hooks or module._backward_pre_hooks or module._forward_pre_hooks
    has_others = bool(others) or "forward" in vars(module) or _any_global_hook()
    return has_others or not all(map(is_allowed, module._forward_hooks.values()))


def convolve_with(conv: nn.Conv2d, x: Tensor, weight: Tensor) -> Tensor:
    """Return what a convolution would compute with another weight."""
    output: Tensor = conv._conv_forward(x, weight, conv.bias)
    return output


def forget_compiled(module: nn.Module) -> None:
    """Forget what `torch.nn.Module.compile` made; a copy would run the code of the module that it is a copy of."""
    vars(module).pop("_compiled_call_impl", None)


class ObservedModule(nn.Module):
    """A module whose method `tensors_changed` is called after its tensors were moved, converted or loaded."""

    def tensors_changed(self) -> None:
        """Called after the parameters and buffers have changed."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        cast("Any", super())._apply(fn, recurse)
        self.tensors_changed()
        return self

    def _load_from_state_dict(self, *args: Any, **keywords: Any) -> None:
        super()._load_from_state_dict(*args, **keywords)
        self.tensors_changed()


# Optimizers

OPTIMIZER_HOOKS = (
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)
"""The attributes in which an optimizer registers hooks of saving and loading."""
STEP_HOOKS = frozenset({"_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"})
"""The attributes in which an optimizer registers hooks of its steps."""


def is_device(name: str) -> bool:
    """Whether torch knows a device of a name, present or not."""
    try:
        torch.device(name)
    except RuntimeError:
        return False
    return True


def has_scheduler(optimizer: Optimizer) -> bool:
    """Whether a learning-rate scheduler of torch counts an optimizer's steps."""
    return hasattr(optimizer.step, "_wrapped_by_lr_sched")


def drop_step_hooks(optimizer: Optimizer, is_chosen: Callable[[Any], bool]) -> None:
    """Remove the step hooks that a function of them chooses from an optimizer, and from those that it holds."""
    for each in (optimizer, *inner_optimizers(optimizer)):
        for hooks in (each._optimizer_step_pre_hooks, each._optimizer_step_post_hooks):
            for key in [key for key, hook in hooks.items() if is_chosen(hook)]:
                del hooks[key]


def drop_step_handles(optimizer: Optimizer, handles: Iterable[RemovableHandle]) -> None:
    """Remove step hooks from an optimizer that is a copy of the one which returned the handles."""
    for each in (optimizer, *inner_optimizers(optimizer)):
        for handle in handles:
            each._optimizer_step_pre_hooks.pop(handle.id, None)
            each._optimizer_step_post_hooks.pop(handle.id, None)


def complete_hooks(optimizer: Optimizer) -> None:
    """Give an optimizer that never called `Optimizer.__init__`, as wrappers of others do, the hooks that it lacks."""
    for each in (optimizer, *inner_optimizers(optimizer)):
        missing = [name for name in (*OPTIMIZER_HOOKS, *STEP_HOOKS) if not hasattr(each, name)]
        for name in missing:
            setattr(each, name, OrderedDict())
        if missing:
            each._patch_step_function()


def inner_optimizers(optimizer: Optimizer) -> list[Optimizer]:
    """Return the optimizers that an optimizer holds, such as the base of a Lookahead, and those that these hold."""
    found: dict[int, Optimizer] = {}
    waiting: list[Any] = list(vars(optimizer).values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, Optimizer) and value is not optimizer and id(value) not in found:
            found[id(value)] = value
            waiting.extend(vars(value).values())
        elif isinstance(value, list | tuple | dict):
            items = value.values() if isinstance(value, dict) else value
            waiting.extend(item for item in items if isinstance(item, Optimizer))
    return list(found.values())


def forget_size(optimizer: Optimizer) -> None:
    """Drop the number of elements that an LBFGS keeps, so that it counts them anew."""
    if "_numel_cache" in vars(optimizer):
        vars(optimizer)["_numel_cache"] = None


def is_sharded(optimizer: Optimizer) -> bool:
    """Whether every process steps a share of an optimizer's parameters, by an optimizer inside."""
    return any(kind.__name__ == "ZeroRedundancyOptimizer" for kind in type(optimizer).__mro__)


def can_be_sharded_anew(optimizer: Any) -> bool:
    """Whether nothing is lost if a ZeroRedundancyOptimizer shares its parameters out again."""
    return not optimizer._overlap_with_ddp and not optimizer.optim.state


def add_sharded_group(optimizer: Any, group: dict[str, Any]) -> None:
    """Add a group to a ZeroRedundancyOptimizer whose other groups were changed, and share the parameters out again."""
    Optimizer.add_param_group(optimizer, group)
    optimizer._clear_cache()
    optimizer._init_local_optimizer()
    if optimizer.parameters_as_bucket_view:
        optimizer._build_param_buckets()


# Storages


class StorageReference(Protocol):
    """A weak reference to a storage; while it lives, no other storage gets the same key."""

    def expired(self) -> bool:
        """Whether the storage is gone."""


storage_reference: Callable[[Any], StorageReference] = StorageWeakRef
"""Makes a weak reference of ``tensor.untyped_storage()``."""


def storage_key(tensor: Tensor) -> int:
    """Return a number that tells storages apart while they live; 0 for sparse tensors, which have none."""
    return int(tensor.untyped_storage()._cdata) if tensor.layout == torch.strided else 0


# Operators

if TYPE_CHECKING:

    class DispatchMode:  # documented below
        def __init__(self) -> None: ...

        def __enter__(self) -> Self: ...

        def __exit__(self, *error: object) -> None: ...

else:

    class DispatchMode(TorchDispatchMode):
        """`TorchDispatchMode`, which torch does not annotate: subclasses define ``__torch_dispatch__``."""

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            # Else torch (2.9 and later) imports its compiler, which takes seconds, and wraps ``__torch_dispatch__`` in
            # torch._disable_dynamo, which costs more per operation than small operations themselves.
            return False


def untraced() -> AbstractContextManager[None]:
    """Return a context in which operations reach neither dispatch modes nor tensor subclasses."""
    return cast("AbstractContextManager[None]", torch._C._DisableTorchDispatch())


operator_name: Callable[[OpOverload], str] = attrgetter("overloadpacket.__name__")
"""An operator's name without namespace and overload, such as ``"add_"``."""
overload_name: Callable[[OpOverload], str] = attrgetter("_overloadname")
"""The name of an overload, such as ``"Tensor"``."""
is_mutable: Callable[[OpOverload], bool] = attrgetter("_schema.is_mutable")
"""Whether an operator changes one of its arguments."""


@cache
def _parameters(func: OpOverload) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the names of an operator's parameters, and the defaults of those that have one."""
    parameters = func._schema.arguments
    defaults = {parameter.name: parameter.default_value for parameter in parameters if parameter.has_default_value()}
    return tuple(parameter.name for parameter in parameters), defaults


def arguments_by_name(func: OpOverload, args: Sequence[Any], keywords: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by the names of the operator's schema, defaults included."""
    names, defaults = _parameters(func)
    return {**defaults, **dict(zip(names, args, strict=False)), **keywords}


without_function_modes: Callable[[], AbstractContextManager[None]] = torch._C.DisableTorchFunction
"""A context in which no `TorchFunctionMode` sees calls."""

# What surrounds the running code

is_tracing: Callable[[], bool] = _is_tracing
"""Whether `torch.jit.trace` runs the code, as the older ONNX exporter does."""


def is_placeholder(value: object) -> bool:
    """Whether a value stands for one that only the graph will have that `torch.fx.symbolic_trace` records."""
    return isinstance(value, fx.Proxy)


def larger(a: int, b: int) -> int:
    """Return the larger of two sizes, which may be symbols, or proxies of `torch.fx`."""
    return max(a, b) if is_tracing() else cast("int", torch.sym_max(a, b))  # sizes that are traced are tensors


def smaller(a: int, b: int) -> int:
    """Return the smaller of two sizes, as `larger`."""
    return min(a, b) if is_tracing() else cast("int", torch.sym_min(a, b))


def is_compiled(model: object) -> bool:
    """Whether `torch.compile` or TorchScript made a module."""
    return isinstance(model, torch.jit.ScriptModule) or hasattr(model, COMPILED)


def in_backward() -> bool:
    """Whether the running code is part of a backward pass; `torch.utils.checkpoint` asks in the same way."""
    return torch._C._current_graph_task_id() != -1


def is_transformed() -> bool:
    """Whether `torch.func` transforms the running code, whose tensors stand for others."""
    return bool(torch._C._are_functorch_transforms_active())


def compiler_is_loaded() -> bool:
    """Whether `torch.compile` was used in this process."""
    return "torch._dynamo" in sys.modules


def force_eager() -> AbstractContextManager[Any]:
    """Return a context in which compiled parts of a model, which would hide their operations, run uncompiled.

    It loads no compiler, which takes seconds, where none is loaded.
    """
    return torch.compiler.set_stance("force_eager") if compiler_is_loaded() else ExitStack()


def is_eager_cpu(x: Tensor) -> bool:
    """Whether operations on a tensor run at once on a processor, and nothing but their result is needed.

    That is not so for gradients, and where anything follows the operations: a compiler, `torch.jit.trace`, a dispatch
    mode, a transform of `torch.func` or forward-mode differentiation.
    """
    return is_plain_cpu(x) and not (x.requires_grad and torch.is_grad_enabled())


def is_plain_cpu(x: Tensor) -> bool:
    """Whether operations on a tensor run at once on a processor, and nothing but autograd follows them."""
    if is_scripting():
        return False
    is_plain = type(x) is Tensor and x.device.type == "cpu"
    return is_plain and not (  # `torch.autograd.grad` batches gradients without a transform
        torch.compiler.is_compiling()
        or is_tracing()
        or _get_current_dispatch_mode() is not None
        or is_transformed()
        or torch._C._functorch.is_legacy_batchedtensor(x)
        or forward_ad._current_level >= 0
    )


_as_constant: Callable[[Any], Callable[..., Any]] = torch.compiler.assume_constant_result


def called_while_compiling(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that `torch.compile` calls while it traces; its result is taken as a constant, unguarded."""

    def call(*args: Any, **keywords: Any) -> Any:
        return method(*args, **keywords)

    return _as_constant(call)


version_of: Callable[[Tensor], int] = attrgetter("_version")
"""The number of times that a tensor was changed in place."""

# oneDNN

_onednn_is_available: Callable[[], bool] = torch.backends.mkldnn.is_available


def onednn_is_enabled() -> bool:
    """Whether `torch.backends.mkldnn.flags` leaves oneDNN on."""
    return bool(torch._C._get_mkldnn_enabled())


_ONEDNN_CHECKS = {
    torch.float32: "",
    torch.bfloat16: "_is_mkldnn_bf16_supported",
    torch.float16: "_is_mkldnn_fp16_supported",
}


@cache
def onednn_convolves(dtype: torch.dtype) -> bool:
    """Whether oneDNN's convolutions can be called for a type."""
    check = _ONEDNN_CHECKS.get(dtype)
    if check is None or not _onednn_is_available():
        return False
    needed = ["_convolution_pointwise", "_convolution_pointwise_", "_reorder_convolution_weight"]
    needed += [check] if check else []
    has_all = all(hasattr(torch.ops.mkldnn, name) for name in needed)
    return has_all and (not check or bool(getattr(torch.ops.mkldnn, check)()))


def onednn_convolution(*, adds: bool) -> Callable[..., Tensor]:
    """Return oneDNN's convolution, or the one that adds to its first argument in place.

    It is what the operator's own call ends in, which costs a quarter less for small features.
    """
    name = "_convolution_pointwise_" if adds else "_convolution_pointwise"
    operator = getattr(torch.ops.mkldnn, name)
    overload = operator.binary if adds else operator.default
    return cast("Callable[..., Tensor]", getattr(overload, "_op", overload))


def onednn_weight(conv: nn.Conv2d) -> Tensor:
    """Return the weight of a convolution in the order in which oneDNN reads it."""
    numbers = conv.padding, conv.stride, conv.dilation, conv.groups
    return cast("Tensor", torch.ops.mkldnn._reorder_convolution_weight(conv.weight, *numbers, None))


prelu_kernel: Callable[[Tensor, Tensor], Tensor] = torch._prelu_kernel
"""PReLU of slopes that broadcast to the input."""

# Functions that torch does not annotate

split: Callable[..., tuple[Tensor, ...]] = Tensor.split
broadcast_tensors: Callable[..., tuple[Tensor, ...]] = torch.broadcast_tensors

# The same of lists of tensors, in few calls of the device

add_each: Callable[[list[Tensor], list[Tensor]], object] = torch._foreach_add_
zero_each: Callable[[list[Tensor]], object] = torch._foreach_zero_
divide_each: Callable[..., tuple[Tensor, ...]] = torch._foreach_div
at_least: Callable[..., tuple[Tensor, ...]] = torch._foreach_clamp_min


leaves_of: Callable[[Any], list[Any]] = _pytree.tree_leaves
"""The leaves of nested lists, tuples, dicts and what else is registered as a pytree."""
map_leaves: Callable[[Callable[[Any], Any], Any], Any] = _pytree.tree_map
"""Returns a copy of a pytree, with a function of every leaf."""


def tensors_in(tree: Any) -> list[Tensor]:
    """Return the tensors in nested lists, tuples, dicts and what else is registered as a pytree."""
    return [leaf for leaf in leaves_of(tree) if isinstance(leaf, Tensor)]


def map_tensors(function: Callable[[Tensor], Any], tree: Tree) -> Tree:
    """Return a copy of nested lists, tuples and dicts with a function of every tensor in its place."""
    return cast("Tree", map_leaves(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, tree))


cuda_random_states: Callable[[], list[Tensor]] = torch.cuda.get_rng_state_all
cuda_is_used: Callable[[], bool] = torch.cuda.is_initialized


# Errors without a type of their own


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory is exhausted.

    The allocator of the processor raises a plain RuntimeError (2.13 to 2.15): "DefaultCPUAllocator: can't allocate
    memory: you tried to allocate ...".
    """
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def mark_stepped(optimizer: Optimizer) -> None:
    """Note that an optimizer has taken steps, in another process, lest its schedule warns that it has not."""
    vars(optimizer)["_opt_called"] = True


def worker_was_killed(error: Exception) -> bool:
    """Whether an error says that a process of a DataLoader has died, which only its text does (torch 2.6 to 2.15)."""
    return isinstance(error, RuntimeError) and "DataLoader worker" in str(error)


cuda_event: Callable[[], torch.cuda.Event] = partial(torch.cuda.Event, enable_timing=True)
"""Makes an event that keeps the time."""
cuda_stream: Callable[[], torch.cuda.Stream] = torch.cuda.Stream
"""Makes a stream of the current device."""


def end_workers(loader: DataLoader[Any]) -> None:
    """End the worker processes of a loader; another pass starts new ones."""
    iterator, loader._iterator = getattr(loader, "_iterator", None), None
    if iterator is not None:
        iterator._shutdown_workers()
