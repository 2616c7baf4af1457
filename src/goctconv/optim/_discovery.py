"""Find the activation behind every BatchNorm in the first forward pass, with no example of the input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from ._activation_statistics import ActivationStatistics, _in_backward
from ._errors import StatisticsError
from ._following import Call, Follower
from ._hooks import OwnedHook


class _Frame(NamedTuple):
    """A module call that has begun."""

    module: nn.Module
    call: Call | None
    is_on_output: Call | None


class ActivationFinder:
    """Watches whole forward passes until it knows what follows every layer, then takes its hooks off.

    A pass begins with the outermost module that is called, whichever that is, and is seen at the level of ATen
    operations, so that functions and in-place operations are found too. While `torch.compile` traces the model, nothing
    can be watched: a pass with fake tensors is made then, which computes nothing and changes nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[_BatchNorm, ActivationStatistics],
        keep: Callable[[RemovableHandle], None],
    ) -> None:
        self._layers = layers
        self._names = {module: name for name, module in model.named_modules()}
        self._keep = keep
        self._follower: Follower | None = None
        self._contexts: list[Any] = []
        self._frames: list[_Frame] = []
        self._calls: list[tuple[ActivationStatistics, Call]] = []
        self._is_fake = False
        self._error_before: BaseException | None = None
        self._handles: list[RemovableHandle] = []
        self._is_needed = _called_while_compiling(self._has_unknown)
        self._find_with_fakes = _called_while_compiling(self._trace_with_fakes)
        for module in model.modules():
            self._handles += [
                module.register_forward_pre_hook(OwnedHook(self._before), with_kwargs=True),
                module.register_forward_hook(OwnedHook(self._after), prepend=True, with_kwargs=True, always_call=True),
            ]

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _has_unknown(self) -> bool:
        return any(layer.recipe is None and norm.training for norm, layer in self._layers.items())

    def _before(self, module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if self._follower is None:
            if torch.compiler.is_compiling():
                if self._is_needed():
                    self._find_with_fakes(self._names[module], *args, **keywords)
                return
            if _in_backward() or not self._has_unknown():
                return
            self._begin()
        self._enter(module, args)

    def _after(self, module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        del keywords
        if self._follower is None or not self._frames or self._frames[-1].module is not module:
            return
        frame = self._frames.pop()
        failed = sys.exc_info()[1] is not self._error_before
        if isinstance(output, Tensor) and not failed:
            self._leave(frame, args, output)
        if not self._frames:
            self._end(failed=failed)

    def _begin(self) -> None:
        self._follower = Follower()
        self._error_before = sys.exc_info()[1]
        if not self._is_fake and "torch._dynamo" in sys.modules:  # a compiled part would hide its operations
            self._contexts.append(torch.compiler.set_stance("force_eager"))
        self._contexts.append(self._follower)
        for context in self._contexts:
            context.__enter__()

    def _end(self, *, failed: bool) -> None:
        for context in reversed(self._contexts):
            context.__exit__(None, None, None)
        calls, fake = self._calls, self._is_fake
        self._contexts, self._calls, self._frames, self._follower = [], [], [], None
        try:
            if not failed:
                for layer, call in calls:
                    self._learn(layer, call, fake=fake)
        finally:
            for _, call in calls:
                call.forget()
        if all(layer.recipe is not None for layer in self._layers.values()):
            self.remove()

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        follower = self._follower
        assert follower is not None  # noqa: S101  # a pass has begun
        call = None
        layer = self._layers.get(module) if isinstance(module, _BatchNorm) else None
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
        if frame.call is not None:
            follower.norm_calls.pop()
            frame.call.is_internal = frame.call.activation is not None
            frame.call.output = output
            frame.call.observe(frame.call, output)
            if not frame.call.is_internal:
                follower.follow(output, frame.call)
        elif isinstance(frame.module, nn.modules.dropout._DropoutNd) and args and isinstance(args[0], Tensor):
            follower.alias(output, args[0])
        elif frame.is_on_output is not None:
            value = follower.value_of(output)
            if value is not None and value.call is frame.is_on_output and value.operation is not None:
                value.call.modules.setdefault(value, (frame.module, self._names.get(frame.module, "")))

    def _observer(self, layer: ActivationStatistics, module: nn.Module) -> Callable[[Call, Tensor], None]:
        """Return a function that measures the activation as found so far; the last measurement is the one that counts.

        It is measured at once, for an in-place operation may follow.
        """
        counts = module.training and torch.is_grad_enabled() and layer.counts_this_pass()

        def observe(call: Call, activation: Tensor) -> None:
            follower = self._follower
            if follower is None:
                return
            is_moved = call.output is not activation and follower.layout_of(activation) != ()
            follower.muted = True
            try:
                call.shape = activation.shape if call.output is None else call.output.shape
                if counts and not isinstance(activation, FakeTensor):
                    call.measured_reproduced = layer.measure_reproduced(
                        _in_layout(call, activation.detach(), is_moved=is_moved)
                    )
                    is_view = activation.shape != call.shape  # what a module on the output itself returns is none
                    call.measured = None if is_view else layer.metric(activation.detach())
            finally:
                follower.muted = False

        return observe

    def _learn(self, layer: ActivationStatistics, call: Call, *, fake: bool) -> None:
        if call.output is None or call.shape is None:
            return
        recipe = call.recipe()
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
            if recipe.module is not None:
                hook = OwnedHook(layer.after_activation)
                self._keep(recipe.module.register_forward_hook(hook))
        measured = call.measured_reproduced if recipe.steps and recipe.module is None else call.measured
        if measured is not None:
            layer.add(measured, call.shape[0])
        elif fake:
            layer.allocate(call.shape[1], call.output.dtype, call.output.device)

    def _trace_with_fakes(self, name: str, *args: Any, **keywords: Any) -> None:
        module = next(module for module, found in self._names.items() if found == name)
        self._is_fake = True
        try:
            with FakeTensorMode(allow_non_fake_inputs=True) as mode:
                fakes, fake_keywords = pytree.tree_map_only(Tensor, mode.from_tensor, (args, keywords))
                self._begin()
                self._enter(module, fakes)
                buffers = [(owner, dict(owner._buffers)) for owner in module.modules()]
                for owner, own in buffers:  # else small ones, as num_batches_tracked, would be changed for real
                    owner._buffers.update({key: mode.from_tensor(one) for key, one in own.items() if one is not None})
                try:
                    module.forward(*fakes, **fake_keywords)
                except Exception as error:
                    self._end(failed=True)
                    raise StatisticsError(
                        f"the activations of {name or 'the model'!r} could not be traced while torch.compile does "
                        f"({type(error).__name__}: {error}): "
                        "run one training forward of the model before it is compiled"
                    ) from error
                finally:
                    for owner, own in buffers:
                        owner._buffers.update(own)
            self._frames.clear()
            self._end(failed=False)
        finally:
            self._is_fake = False


def _in_layout(call: Call, activation: Tensor, *, is_moved: bool) -> Tensor:
    """Return an activation in the shape and type of the BatchNorm's output, of which it may have got a view or copy."""
    if call.output is None:
        return activation
    output = call.output.detach()
    if not is_moved and (activation.shape, activation.dtype) == (output.shape, output.dtype):
        return activation
    if output.untyped_storage()._cdata == activation.untyped_storage()._cdata:
        return output  # the activation was in place
    return call.recipe().reproduce(output)


def _called_while_compiling(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that `torch.compile` calls while it traces; its result is taken as a constant, unguarded."""

    def call(*args: Any, **keywords: Any) -> Any:
        return method(*args, **keywords)

    function: Callable[..., Any] = torch.compiler.assume_constant_result(call)  # type: ignore[no-untyped-call]
    return function
