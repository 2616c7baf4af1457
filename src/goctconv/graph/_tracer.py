"""The recording of a forward pass: every operation and every module call, handed to observers as they happen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .._torch import DispatchMode, OpOverload, arguments_by_name, operator_name
from ._modules import modules_by_path
from ._operators import is_in_place, name_of


class Operation:
    """One ATen operation of a forward pass.

    Attributes:
        name: Of the operator, without overload, and without the underscore of an in-place form.
        func: The operator.
        args: Its arguments.
        keywords: Its keyword arguments.
        path: Of the module that runs; empty for the model itself.
        is_in_place: Whether the operator is an in-place form, such as ``add_``.
        result: What it returned; None while it has not run.
    """

    __slots__ = ("_arguments", "args", "func", "is_in_place", "keywords", "name", "path", "result")

    def __init__(self, func: OpOverload, args: tuple[Any, ...], keywords: dict[str, Any], path: str) -> None:
        self.name, self.is_in_place = _named(func)
        self.func = func
        self.args = args
        self.keywords = keywords
        self.path = path
        self.result: Any = None
        self._arguments: dict[str, Any] | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """All arguments by the names of the operator's schema, defaults included."""
        if self._arguments is None:
            self._arguments = arguments_by_name(self.func, self.args, self.keywords)
        return self._arguments

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors among the arguments, in order."""
        return [*flat_tensors(self.args), *flat_tensors(tuple(self.keywords.values()))]

    @property
    def results(self) -> list[Tensor]:
        """The tensors that it returned, in order."""
        return flat_tensors((self.result,))


@cache
def _named(func: OpOverload) -> tuple[str, bool]:
    """Return an operator's name without the underscore of an in-place form, and whether it is one."""
    name = operator_name(func)
    return name_of(func), is_in_place(name)


def flat_tensors(values: Sequence[Any]) -> list[Tensor]:
    """Return the tensors among values and in lists and tuples of them: what operators take and return."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += flat_tensors(value)
    return found


class Observer:
    """Sees a forward pass as it runs; a subclass defines the methods that it needs."""

    def enter(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module is called; its path is the last one of the tracer's by now."""

    def before(self, operation: Operation) -> None:
        """An operation is about to run, and perhaps to change its arguments in place."""

    def after(self, operation: Operation) -> None:
        """An operation has run."""

    def leave(self, path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """A module has returned, or raised an exception: the output is None then. Its path is taken off by now."""


class Tracer(DispatchMode):
    """Hands operations and module calls to observers, in their order, while it is entered as a context.

    What observers compute themselves is not recorded. ``paths`` are those of the modules that run, the outermost first.
    """

    def __init__(self, *observers: Observer) -> None:
        super().__init__()
        self.observers = observers
        self.paths: list[str] = []
        self._is_muted = False

    @property
    def path(self) -> str:
        """The path of the module that runs; empty for the model itself, and where none does."""
        return self.paths[-1] if self.paths else ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation between the calls of the observers."""
        keywords = kwargs or {}
        if self._is_muted:
            return func(*args, **keywords)
        operation = Operation(func, args, keywords, self.path)
        for observer in self.observers:
            observer.before(operation)
        operation.result = func(*args, **keywords)
        for observer in self.observers:
            observer.after(operation)
        return operation.result

    def enter(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Record that a module is called: for forward pre-hooks."""
        self.paths.append(path)
        before, self._is_muted = self._is_muted, True
        try:
            for observer in self.observers:
                observer.enter(path, module, args)
        finally:
            self._is_muted = before

    def leave(self, path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Record that a module has returned: for forward hooks, which also run where `enter` did not."""
        if not self.paths or self.paths[-1] != path:  # another pre-hook raised an exception before ours ran
            return
        self.paths.pop()
        before, self._is_muted = self._is_muted, True
        try:
            for observer in self.observers:
                observer.leave(path, module, args, output)
        finally:
            self._is_muted = before

    @contextmanager
    def muted(self) -> Iterator[None]:
        """Record no operations for a while."""
        before, self._is_muted = self._is_muted, True
        try:
            yield
        finally:
            self._is_muted = before


@contextmanager
def recording(
    model: nn.Module, *observers: Observer, modules: Mapping[str, nn.Module] | None = None
) -> Iterator[Tracer]:
    """Record what a model runs while the context lasts, and lend the tracer; modules go by their first names.

    They may be given, where they are known.
    """
    tracer = Tracer(*observers)
    handles: list[RemovableHandle] = []
    try:
        for path, module in (modules or modules_by_path(model)).items():
            handles.append(module.register_forward_pre_hook(partial(_enter, tracer, path)))
            handles.append(module.register_forward_hook(partial(_leave, tracer, path), always_call=True))
        with tracer:
            yield tracer
    finally:
        for handle in handles:
            handle.remove()


def _enter(tracer: Tracer, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
    tracer.enter(path, module, args)


def _leave(tracer: Tracer, path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    tracer.leave(path, module, args, output)
