"""The recording of a forward pass: operations, module calls, arguments by name, and what is left alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from goctconv.graph import Observer, Operation, recording


class Log(Observer):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.operations: list[Operation] = []

    def enter(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:  # noqa: ARG002
        (args[0] + 1).sum()  # what an observer computes is not recorded
        self.lines.append(f"enter {path}")

    def before(self, operation: Operation) -> None:
        assert operation.result is None
        self.lines.append(f"before {operation.path}: {operation.name}")

    def after(self, operation: Operation) -> None:
        operation.results[0].sum()
        self.operations.append(operation)

    def leave(self, path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:  # noqa: ARG002
        self.lines.append(f"leave {path}{'' if output is not None else ' without output'}")


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 5, 1), nn.Sequential(nn.ReLU(inplace=True)))


def test_modules_and_operations_in_their_order() -> None:
    model, log, images = network(), Log(), torch.zeros(2, 3, 7, 7)
    with torch.no_grad(), recording(model, log) as tracer:
        assert tracer.path == ""
        model(images)
    assert log.lines == [
        *("enter ", "enter 0", "before 0: convolution", "leave 0"),
        *("enter 1", "enter 1.0", "before 1.0: relu", "leave 1.0", "leave 1", "leave "),
    ]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_operations_hold_arguments_and_results() -> None:
    model, log = network(), Log()
    images = torch.zeros(2, 3, 7, 7)
    with torch.no_grad(), recording(model, log):
        output = model(images)
    convolution, relu = log.operations
    assert convolution.arguments["input"] is convolution.tensors[0] is images
    assert convolution.arguments["stride"] == [1, 1]
    assert (convolution.arguments["transposed"], convolution.is_in_place) == (False, False)
    assert [tuple(tensor.shape) for tensor in convolution.tensors] == [(2, 3, 7, 7), (5, 3, 1, 1), (5,)]
    assert relu.is_in_place
    assert relu.result is output


def test_defaults_keywords_and_lists_are_arguments() -> None:
    log = Log()
    pieces = [torch.zeros(2, 3), torch.zeros(2, 4)]
    with recording(nn.Identity(), log):
        torch.cat(pieces, 1)
        torch.add(pieces[0], pieces[0], alpha=2)
        torch.sum(pieces[0])
    cat, add, _ = log.operations
    assert all(a is b for a, b in zip(cat.tensors, pieces, strict=True))
    assert cat.arguments["dim"] == 1
    assert add.arguments["alpha"] == 2
    assert add.arguments["other"] is pieces[0]


def test_an_exception_takes_everything_off() -> None:
    class Failing(nn.Module):
        def forward(self, _: Tensor) -> Tensor:
            raise ZeroDivisionError

    model, log = nn.Sequential(nn.ReLU(), Failing()), Log()
    with pytest.raises(ZeroDivisionError), recording(model, log) as tracer:
        model(torch.zeros(2))
    assert log.lines[-2:] == ["leave 1 without output", "leave  without output"]
    assert tracer.paths == []
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_inference_mode_shows_whole_operators() -> None:
    model, log, images = nn.Linear(3, 4), Log(), torch.zeros(2, 3)
    with torch.inference_mode(), recording(model, log) as tracer:
        output = model(images)
        with tracer.muted():
            output.sum()
    assert [operation.name for operation in log.operations] == ["linear"]


class Refused(nn.Module):
    """Calls a module whose own pre-hook raises an exception, and goes on without it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ReLU()
        self.inner.register_forward_pre_hook(self._refuse)

    @staticmethod
    def _refuse(*_: object) -> None:
        raise RuntimeError("not today")

    def forward(self, x: Tensor) -> Tensor:
        try:
            return self.inner(x)
        except RuntimeError:
            return x * 2


def test_a_module_that_another_hook_refused_takes_no_path_off() -> None:
    model, log, images = nn.Sequential(Refused()), Log(), torch.zeros(2)
    with torch.no_grad(), recording(model, log):
        model(images)
    assert log.lines == ["enter ", "enter 0", "before 0: mul", "leave 0", "leave "]
