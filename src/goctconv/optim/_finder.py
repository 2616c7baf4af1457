"""Discovery of the activation behind every BatchNorm in the first forward pass, with no example of the input."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .._torch import (
    REGISTRIES,
    FakeTensor,
    FakeTensorMode,
    buffers_of,
    called_while_compiling,
    force_eager,
    in_backward,
    is_running,
    is_transformed,
    map_tensors,
    module_call,
    storage_key,
    tensors_in,
)
from ..graph import OwnedHook, Tracer
from ._activations import Call, Observe, Value
from ._follower import Follower, check_same_activation
from ._results import StatisticsError
from ._statistics import WatchedLayer, by_image


class ActivationFinder:
    """Watches whole forward passes until it knows what follows every layer, then takes its hooks off.

    A pass begins with the outermost module that is called, whichever that is, and is recorded operation by operation,
    so that functions and in-place operations are found too. Where a BatchNorm's output leaves that module as it is, the
    passes that follow are watched too, until the step.

    While `torch.compile` traces the model, nothing can be watched: a pass with fake tensors is made then, which
    computes nothing and changes nothing.
    """

    def __init__(
        self, model: nn.Module, layers: Iterable[WatchedLayer], keep: Callable[[RemovableHandle], None]
    ) -> None:
        self._model = model
        self._layers: dict[nn.Module, WatchedLayer] = {layer.norm: layer for layer in layers}
        self._names = {module: name for name, module in model.named_modules()}
        self._keep = keep
        self._follower: Follower | None = None
        self._pass: _Pass | None = None
        self._calls: list[tuple[WatchedLayer, Call]] = []
        self._reached = 0
        self._asked: set[str] = set()
        self._is_compiled = False
        self._handles: list[RemovableHandle] = []
        self._is_needed = called_while_compiling(self._answer)
        self._find_with_fakes = called_while_compiling(self._trace_with_fakes)
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
        if self._pass is not None:  # an interrupt left a pass
            self._abandon()
        self._learn_all(self._calls)
        self._abandon()

    def finish(self) -> None:
        """Take the hooks off if everything is known; compiled code, which would miss them, keeps them."""
        self._asked.clear()
        if not self._is_compiled and all(layer.path is not None for layer in self._layers.values()):
            self.remove()

    def _has_unknown(self) -> bool:
        return any(layer.path is None and layer.norm.training for layer in self._layers.values())

    def _answer(self, name: str) -> bool:
        """Return whether a module's pass is to be traced; one compilation may ask again, and must be answered alike."""
        if self._has_unknown():
            self._asked.add(name)
        return name in self._asked

    def _before(self, module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """See a module that is called: the pre-hook of every module."""
        if self._pass is not None and self._pass.is_stale():
            self._abandon()
        if self._pass is None:
            if torch.compiler.is_compiling():
                if self._is_needed(self._names[module]):
                    self._find_with_fakes(self._names[module], *args, **keywords)
                return
            if in_backward() or is_transformed() or not self._has_unknown():
                return
            self._begin(module_call(), force_eager())
        if self._pass is not None and self._pass.is_in_this_thread():
            self._pass.enter(self._names.get(module, ""), module, args)

    def _after(self, module: nn.Module, args: tuple[Any, ...], _: dict[str, Any], output: Any) -> None:
        """See a module that has returned or failed: the forward hook of every module."""
        running = self._pass
        if running is None or running.modules[-1:] != [module] or not running.is_in_this_thread():
            return
        failed = sys.exc_info()[1] is not running.error_before  # an exception passes through the hooks
        running.leave(self._names.get(module, ""), module, args, None if failed else output)
        if running.modules:
            return
        if failed:
            self._abandon()
        else:
            self._end(module, output)

    def _begin(self, root: FrameType | None, *contexts: AbstractContextManager[Any]) -> _Pass:
        self._follower = self._follower or Follower(self._begin_call)
        self._pass = _Pass(self._follower, root)
        for context in (*contexts, self._pass):
            self._pass.contexts.enter_context(context)
        return self._pass

    def _leave_contexts(self) -> None:
        running, self._pass = self._pass, None
        if running is not None:
            running.contexts.close()

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
        leaves = tensors_in(output)
        self._reached |= follower.reach_of(leaves) if leaves else -1
        values = [] if module is self._model else [follower.value_of(leaf) for leaf in leaves]
        still_open = {value.call for value in values if value is not None and value.operation is None}
        closed = [pair for pair in self._calls if pair[1] not in still_open]
        self._calls = [pair for pair in self._calls if pair[1] in still_open]
        self._learn_all(closed)
        if not self._calls:
            self._follower, self._reached = None, 0

    def _begin_call(self, module: nn.Module) -> Call | None:
        """Return a new call of a module whose activation is to be found."""
        layer = self._layers.get(module)
        if layer is None or layer.path is not None:
            return None
        call = Call(_observer(layer))
        self._calls.append((layer, call))
        return call

    def _learn_all(self, calls: list[tuple[WatchedLayer, Call]]) -> None:
        try:
            for layer, call in calls:
                if call.output is not None:
                    self._learn(layer, call, call.output)
        finally:
            for _, call in calls:
                call.forget()

    def _learn(self, layer: WatchedLayer, call: Call, output: Tensor) -> None:
        found = call.activation(self._reached)
        path = call.path(found)
        if layer.path is not None and not layer.path.reads_the_same(path):
            first, layer.path = layer.path, None  # so that the next pass finds it again
            layer.restore(None)
            check_same_activation(layer.name, first, path)
        if layer.path is None:
            layer.learn(path, call, output)
            if path.module is not None:
                self._keep(path.module.register_forward_hook(OwnedHook(layer.after_activation, layer.reads_only)))
        measured = call.own
        if found is not None:
            measured = found.measured if path.module is not None else found.measured_reproduced
        if measured is not None:
            layer.add(measured, call.shape[0])

    def _trace_with_fakes(self, name: str, *args: Any, **keywords: Any) -> None:
        if not self._has_unknown():  # torch.compile traces some code twice
            return
        self._is_compiled = True
        module = next(module for module, found in self._names.items() if found == name)
        try:
            with FakeTensorMode(allow_non_fake_inputs=True) as mode, _kept_as_it_is(module, mode):
                fakes, fake_keywords = map_tensors(mode.from_tensor, (args, keywords))
                running = self._begin(None)
                running.enter(name, module, fakes)
                output = module.forward(*fakes, **fake_keywords)
                running.leave(name, module, fakes, output)
                self._leave_contexts()
            self._end(self._model, output)
            if is_running(module):  # and only its forward is compiled: this hook, and the last one, run by themselves
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


class _Pass(Tracer):
    """A forward pass that is being recorded, from the call of the outermost module to its return."""

    def __init__(self, follower: Follower, root: FrameType | None) -> None:
        super().__init__(follower)
        self.modules: list[nn.Module] = []  # that run, the innermost last
        self.contexts = ExitStack()
        self.error_before = sys.exc_info()[1]
        self._root = root
        self._thread = threading.get_ident()

    def enter(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Record that a module is called."""
        self.modules.append(module)
        super().enter(path, module, args)

    def leave(self, path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Record that a module has returned; None as output: it has failed."""
        self.modules.pop()
        super().leave(path, module, args, output)

    def is_in_this_thread(self) -> bool:
        """Whether it runs in the present thread."""
        return self._thread == threading.get_ident()

    def is_stale(self) -> bool:
        """Whether it was left by an exception that runs no hooks, as an interrupt from the keyboard does."""
        if self._root is None or not self.is_in_this_thread():
            return False
        frame = inspect.currentframe()
        while frame is not None and frame is not self._root:
            frame = frame.f_back
        return frame is None


@contextmanager
def _kept_as_it_is(module: nn.Module, mode: FakeTensorMode) -> Iterator[None]:
    """Make buffers fake ones, and restore them and all other attributes of modules afterwards."""
    kept = [(owner, dict(buffers_of(owner)), _plain_attributes(owner)) for owner in module.modules()]
    for owner, buffers, _ in kept:
        fakes = {name: mode.from_tensor(buffer) for name, buffer in buffers.items() if buffer is not None}
        buffers_of(owner).update(fakes)
    try:
        yield
    finally:
        for owner, buffers, attributes in kept:
            buffers_of(owner).update(buffers)
            for name in _plain_attributes(owner).keys() - attributes.keys():
                del vars(owner)[name]
            vars(owner).update(attributes)


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    """Return a module's attributes but for hooks, parameters, buffers and children."""
    return {name: value for name, value in vars(module).items() if name not in REGISTRIES and "hook" not in name}


def _observer(layer: WatchedLayer) -> Observe:
    """Return a function that measures the output, or a function of it, at once: it may be changed in place later.

    It gives the metric as it would be read off a module, and as it would be from a reproduction, to the last bit.
    """
    counts = layer.norm.training and torch.is_grad_enabled() and layer.counts_this_pass()

    def observe(
        call: Call, activation: Tensor, value: Value | None, is_moved: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        if not counts or isinstance(activation, FakeTensor):
            return None, None
        plain = activation.detach()
        if value is None or call.output is None:
            return layer.metric(plain), None
        # as the BatchNorm put it out, of which the activation may have got a view or copy
        reproduced, output = plain, call.output.detach()
        if is_moved or (plain.shape, plain.dtype) != (output.shape, output.dtype):
            is_in_place = storage_key(output) == storage_key(plain)
            reproduced = output if is_in_place else call.path(value).reproduce(output)
        is_view = plain.shape != call.shape  # what a module on the output itself returns is none
        return None if is_view else layer.metric(plain), by_image(layer.metric, reproduced)

    return observe
