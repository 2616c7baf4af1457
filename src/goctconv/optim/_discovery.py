"""Find the activation behind every BatchNorm in the first forward pass, with no example of the input."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from .._torch import BatchNorm, DropoutNd
from ..graph import OwnedHook
from ._activation_statistics import ActivationStatistics, in_backward, is_transformed
from ._errors import StatisticsError
from ._following import Call, Follower, Value


class _Frame(NamedTuple):
    """A module call that has begun."""

    module: nn.Module
    call: Call | None
    is_on_output: Call | None


class ActivationFinder:
    """Watches whole forward passes until it knows what follows every layer, then takes its hooks off.

    A pass begins with the outermost module that is called, whichever that is, and is seen at the level of ATen
    operations, so that functions and in-place operations are found too. Where a BatchNorm's output leaves that module
    as it is, the passes that follow are watched too, until the step.

    While `torch.compile` traces the model, nothing can be watched: a pass with fake tensors is made then, which
    computes nothing and changes nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[BatchNorm, ActivationStatistics],
        keep: Callable[[RemovableHandle], None],
    ) -> None:
        self._model = model
        self._layers = layers
        self._names = {module: name for name, module in model.named_modules()}
        self._keep = keep
        self._follower: Follower | None = None
        self._is_watching = False
        self._contexts: list[Any] = []
        self._frames: list[_Frame] = []
        self._calls: list[tuple[ActivationStatistics, Call]] = []
        self._reached = 0
        self._root: FrameType | None = None
        self._thread = 0
        self._error_before: BaseException | None = None
        self._asked: set[str] = set()
        self._is_compiled = False
        self._handles: list[RemovableHandle] = []
        self._is_needed = _called_while_compiling(self._answer)
        self._find_with_fakes = _called_while_compiling(self._trace_with_fakes)
        for module in model.modules():
            self._handles += [
                module.register_forward_pre_hook(OwnedHook(self._before), with_kwargs=True),
                module.register_forward_hook(OwnedHook(self._after), prepend=True, with_kwargs=True, always_call=True),
            ]

    def remove(self) -> None:
        """Take the hooks off."""
        self._abandon()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def conclude(self) -> None:
        """Learn from passes whose BatchNorm outputs left the module that was called: no more is to come."""
        if self._is_watching:  # an interrupt left a pass
            self._abandon()
        self._learn_all(self._calls)
        self._calls, self._follower, self._reached = [], None, 0

    def finish(self) -> None:
        """Take the hooks off if everything is known; compiled code, which would miss them, keeps them."""
        self._asked.clear()
        if not self._is_compiled and all(layer.recipe is not None for layer in self._layers.values()):
            self.remove()

    def _has_unknown(self) -> bool:
        return any(layer.recipe is None and norm.training for norm, layer in self._layers.items())

    def _answer(self, name: str) -> bool:
        """Return whether a module's pass is to be traced; one compilation may ask again, and must be answered alike."""
        if self._has_unknown():
            self._asked.add(name)
        return name in self._asked

    def _before(self, module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if not self._is_watching:
            if torch.compiler.is_compiling():
                if self._is_needed(self._names[module]):
                    self._find_with_fakes(self._names[module], *args, **keywords)
                return
            if in_backward() or is_transformed() or not self._has_unknown():
                return
            self._begin(is_fake=False)
        elif self._is_stale():
            self._abandon()
            self._before(module, args, keywords)
            return
        if self._thread == threading.get_ident():
            self._enter(module, args)

    def _after(self, module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        del keywords
        if not self._is_watching or not self._frames or self._frames[-1].module is not module:
            return
        if self._thread != threading.get_ident():
            return
        frame = self._frames.pop()
        failed = sys.exc_info()[1] is not self._error_before
        if isinstance(output, Tensor) and not failed:
            self._leave(frame, args, output)
        if self._frames:
            return
        if failed:
            self._abandon()
        else:
            self._end(module, output)

    def _is_stale(self) -> bool:
        """Whether the pass was left by an exception that runs no hooks, as an interrupt from the keyboard does."""
        if self._root is None or self._thread != threading.get_ident():
            return False
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame is not self._root:
            frame = frame.f_back
        return frame is None

    def _begin(self, *, is_fake: bool) -> None:
        self._follower = self._follower or Follower()
        self._is_watching = True
        self._error_before = sys.exc_info()[1]
        self._thread = threading.get_ident()
        self._root = None if is_fake else _module_call()
        if not is_fake and "torch._dynamo" in sys.modules:  # a compiled part would hide its operations
            self._contexts.append(torch.compiler.set_stance("force_eager"))
        self._contexts.append(self._follower)
        for context in self._contexts:
            context.__enter__()

    def _leave_contexts(self) -> None:
        for context in reversed(self._contexts):
            context.__exit__(None, None, None)
        self._contexts, self._frames, self._root, self._is_watching = [], [], None, False

    def _abandon(self) -> None:
        """Forget a pass that was not completed."""
        self._leave_contexts()
        for _, call in self._calls:
            call.forget()
        self._calls, self._follower, self._reached = [], None, 0

    def _end(self, module: nn.Module, output: Any) -> None:
        """Learn from a pass; what put out the BatchNorm's own output may be followed by something in the next one."""
        follower = self._follower
        assert follower is not None  # noqa: S101  # a pass has begun
        self._leave_contexts()
        leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
        self._reached |= follower.reach_of(leaves) if leaves else -1
        values = [] if module is self._model else [follower.value_of(leaf) for leaf in leaves]
        still_open = {value.call for value in values if value is not None and value.operation is None}
        closed = [pair for pair in self._calls if pair[1] not in still_open]
        self._calls = [pair for pair in self._calls if pair[1] in still_open]
        self._learn_all(closed)
        if not self._calls:
            self._follower, self._reached = None, 0

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        follower = self._follower
        assert follower is not None  # noqa: S101  # a pass has begun
        call = None
        layer = self._layers.get(module) if isinstance(module, BatchNorm) else None
        if layer is not None and layer.recipe is None:
            call = Call(self._observer(layer, module))
            follower.norm_calls.append(call)
            self._calls.append((layer, call))
            if args and isinstance(args[0], Tensor):
                call.writing_macs = follower.macs_behind(args[0])
        value = follower.value_of(args[0]) if len(args) == 1 and isinstance(args[0], Tensor) else None
        is_output = value is not None and value.operation is None and value.call.output is args[0]
        self._frames.append(_Frame(module, call, value.call if is_output and value is not None else None))

    def _leave(self, frame: _Frame, args: tuple[Any, ...], output: Tensor) -> None:
        follower = self._follower
        assert follower is not None  # noqa: S101  # a pass has begun
        value = follower.value_of(output)
        if frame.call is not None:
            call = frame.call
            follower.norm_calls.pop()
            call.is_internal = value is not None and value.call is call and value.operation is not None
            call.output, call.shape, call.dtype, call.device = output, output.shape, output.dtype, output.device
            call.own, _ = call.observe(call, output, None)
            if not call.is_internal:
                follower.follow(output, call)
        elif isinstance(frame.module, DropoutNd) and args and isinstance(args[0], Tensor):
            follower.alias(output, args[0])
        elif value is not None and value.operation is not None and value.call is frame.is_on_output:
            value.call.modules.setdefault(value, (frame.module, self._names.get(frame.module, "")))

    def _observer(
        self, layer: ActivationStatistics, module: nn.Module
    ) -> Callable[[Call, Tensor, Value | None], tuple[Tensor | None, Tensor | None]]:
        """Return a function that measures the output, or a function of it, at once: it may be changed in place later.

        It gives the metric as it would be read off a module, and as it would be from a reproduction, to the last bit.
        """
        counts = module.training and torch.is_grad_enabled() and layer.counts_this_pass()

        def observe(call: Call, activation: Tensor, value: Value | None) -> tuple[Tensor | None, Tensor | None]:
            follower = self._follower
            if not counts or isinstance(activation, FakeTensor) or follower is None:
                return None, None
            is_moved = value is not None and follower.layout_of(activation) != ()
            follower.muted = True
            try:
                plain = activation.detach()
                if value is None or call.output is None:
                    return layer.metric(plain), None
                in_layout = _in_layout(call, plain, value, is_moved=is_moved)
                is_view = plain.shape != call.shape  # what a module on the output itself returns is none
                return None if is_view else layer.metric(plain), layer.measure_reproduced(in_layout)
            finally:
                follower.muted = False

        return observe

    def _learn_all(self, calls: list[tuple[ActivationStatistics, Call]]) -> None:
        try:
            for layer, call in calls:
                self._learn(layer, call)
        finally:
            for _, call in calls:
                call.forget()

    def _learn(self, layer: ActivationStatistics, call: Call) -> None:
        if call.shape is None:
            return
        found = call.activation(self._reached)
        recipe = call.recipe(None if found is None else found.value)
        if layer.recipe is not None and not layer.recipe.reads_the_same(recipe):
            first, layer.recipe = layer.recipe, None  # so that the next pass finds it again
            layer.reset()
            raise StatisticsError(
                f"{layer.name!r} is called several times, and different activations follow: {first.activation} "
                f"and {recipe.activation}; exclude it, or use one BatchNorm for each"
            )
        if layer.recipe is None:
            layer.recipe = recipe
            layer.learn_cost(call.shape, call.writing_macs, call.reading_macs)
            layer.allocate(call.shape[1], call.dtype, call.device)
            if recipe.module is not None:
                self._keep(recipe.module.register_forward_hook(OwnedHook(layer.after_activation)))
        measured = call.own
        if found is not None:
            measured = found.measured if recipe.module is not None else found.measured_reproduced
        if measured is not None:
            layer.add(measured, call.shape[0])

    def _trace_with_fakes(self, name: str, *args: Any, **keywords: Any) -> None:
        if not self._has_unknown():  # torch.compile traces some code twice
            return
        self._is_compiled = True
        module = next(module for module, found in self._names.items() if found == name)
        try:
            with FakeTensorMode(allow_non_fake_inputs=True) as mode, _kept_as_it_is(module, mode):
                fakes, fake_keywords = pytree.tree_map_only(Tensor, mode.from_tensor, (args, keywords))
                self._begin(is_fake=True)
                self._enter(module, fakes)
                output = module.forward(*fakes, **fake_keywords)
                self._leave_root(fakes, output)
                self._leave_contexts()
            self._end(self._model, output)
            if _is_running(module):  # and only its forward is compiled: this hook, and the last one, run by themselves
                self._is_compiled = False
                self.finish()
        except Exception as error:
            self._abandon()
            raise StatisticsError(
                f"the activations of {name or 'the model'!r} could not be traced while torch.compile does "
                f"({type(error).__name__}: {error}): run one training forward of the model before it is compiled"
            ) from error
        except BaseException:
            self._abandon()
            raise

    def _leave_root(self, args: tuple[Any, ...], output: Any) -> None:
        frame = self._frames.pop()
        if isinstance(output, Tensor):
            self._leave(frame, args, output)


@contextmanager
def _kept_as_it_is(module: nn.Module, mode: FakeTensorMode) -> Iterator[None]:
    """Let buffers be fake ones, and bring them and all other attributes of modules back afterwards."""
    hidden = {"_parameters", "_buffers", "_modules"}
    buffers = [(owner, dict(owner._buffers)) for owner in module.modules()]
    plain = [
        (owner, {key: value for key, value in vars(owner).items() if key not in hidden and "hook" not in key})
        for owner in module.modules()
    ]
    for owner, own in buffers:
        owner._buffers.update({key: mode.from_tensor(one) for key, one in own.items() if one is not None})
    try:
        yield
    finally:
        for owner, own in buffers:
            owner._buffers.update(own)
        for owner, kept in plain:
            for key in [key for key in vars(owner) if key not in kept and key not in hidden and "hook" not in key]:
                del vars(owner)[key]
            vars(owner).update(kept)


def _is_running(module: nn.Module) -> bool:
    """Whether a module's call is one of Python's own, and not one that `torch.compile` goes through."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "_call_impl" and frame.f_locals.get("self") is module:
            return True
        frame = frame.f_back
    return False


def _module_call() -> FrameType | None:
    """Return the frame of the module call that the running hook belongs to: the one that outlives the hook."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "_call_impl":
        frame = frame.f_back
    return frame


def _in_layout(call: Call, activation: Tensor, value: Value, *, is_moved: bool) -> Tensor:
    """Return an activation in the shape and type of the BatchNorm's output, of which it may have got a view or copy."""
    assert call.output is not None  # noqa: S101  # it has returned
    output = call.output.detach()
    if not is_moved and (activation.shape, activation.dtype) == (output.shape, output.dtype):
        return activation
    if output.untyped_storage()._cdata == activation.untyped_storage()._cdata:
        return output  # the activation was in place
    return call.recipe(value).reproduce(output)


def _called_while_compiling(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that `torch.compile` calls while it traces; its result is taken as a constant, unguarded."""

    def call(*args: Any, **keywords: Any) -> Any:
        return method(*args, **keywords)

    function: Callable[..., Any] = torch.compiler.assume_constant_result(call)  # type: ignore[no-untyped-call]
    return function
