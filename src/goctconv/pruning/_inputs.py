"""The model and the example inputs that pruning is given, and the outputs of the model."""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .._checks import ArgumentError, ArgumentTypeError, Spelling, escaped, in_python, spelled
from .._torch import BatchNorm, DropoutNd, children_of, force_eager, map_tensors, parameters_of, split, tensors_in
from ..graph import modules_by_path, modules_of, named_batch_norms, parameters_in, stored_tensors, undisturbed

_DEEPEST = 8  # levels of containers and objects that an output may consist of
_QUANTIZED = frozenset({"quantized", "qat"})
_FLOAT_FUNCTIONALS = frozenset({"FloatFunctional", "FXFloatFunctional"})  # sums of a network yet to be quantized
_CHUNK = 1 << 15  # elements that are summed at once, as many as fit into a processor's cache
_SMALL = 1 << 12  # elements at most of tensors that are summed together
_AGREEMENT = 1e-12  # of sums in another order, as a share of what they can be at most

Selector: TypeAlias = "Callable[[Any], Any]"
"""A function of what a model returns that returns what counts of it."""


class Call(NamedTuple):
    """The arguments of a call of a model, and what counts of what it returns; None: all of it."""

    args: tuple[Any, ...]
    keywords: dict[str, Any]
    outputs: Selector | None = None

    def run(self, model: nn.Module) -> Any:
        """Call a model, and return what counts."""
        output = model(*self.args, **self.keywords)
        if self.outputs is None:
            return output
        try:
            return self.outputs(output)
        except Exception as error:
            problem = f"raised {type(error).__name__} on what the model returned, {type(output).__name__}"
            cure = "it is called with the output of every call"
            raise ArgumentError("outputs", self.outputs, problem=f"{problem}: {escaped(error)}", cure=cure) from error


class PruningError(RuntimeError):
    """A model cannot be pruned, or pruning it did not leave its output as it was; the model is unchanged.

    Attributes:
        module: The path of the module where a pruned model was seen to differ or fail; None if that is not known, empty
            behind the last BatchNorm.
    """

    def __init__(self, message: str, *, module: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.module = module

    def text(self, spelling: Spelling | None = None) -> str:
        """Return the message.

        Args:
            spelling: Writes an argument that the message names; as in Python by default.
        """
        return spelled(self.message, spelling or in_python)

    def __str__(self) -> str:
        return self.text()


def as_calls(example_inputs: Any, outputs: Selector | None = None) -> list[Call]:
    """Return calls: of a tensor, a tuple of arguments, or a dict of keywords; of a list, one for each of its items."""
    if outputs is not None and not callable(outputs):
        raise ArgumentTypeError(
            "outputs", outputs, "a function of what the model returns", "such as lambda out: out[0]"
        )
    if not isinstance(example_inputs, list):
        return [_as_call(example_inputs, outputs)]
    if not example_inputs:
        raise ArgumentError("example_inputs", example_inputs, problem="has no call", cure="pass one or more")
    return [_as_call(item, outputs, "pass (a, b) for two arguments of one call") for item in example_inputs]


def _as_call(example_inputs: Any, outputs: Selector | None, cure: str = "such as torch.zeros(1, 3, 224, 224)") -> Call:
    expected = "a tensor, a tuple of arguments, a dict of keyword arguments, or a list of such calls"
    if isinstance(example_inputs, Mapping):
        call = Call((), dict(example_inputs), outputs)
    elif isinstance(example_inputs, list):
        raise ArgumentTypeError(
            "example_inputs", example_inputs, expected, "pass ([a, b],) for an argument that is a list"
        )
    elif isinstance(example_inputs, tuple):
        call = Call(example_inputs, {}, outputs)
    else:
        call = Call((example_inputs,), {}, outputs)
    tensors = tensors_in(call)
    if not tensors:
        raise ArgumentTypeError("example_inputs", example_inputs, expected, cure)
    for tensor in tensors:
        if tensor.is_floating_point() and not tensor.is_meta and not torch.isfinite(tensor).all():
            problem = "has values that are NaN or infinite, which hide what a model computes"
            raise ArgumentError("example_inputs", example_inputs, problem=problem)
        if not tensor.numel():
            problem = f"has a tensor {tuple(tensor.shape)} without elements"
            raise ArgumentError("example_inputs", example_inputs, problem=problem, cure="pass one image or more")
    return call


def copied(call: Call) -> Call:
    """Return a call with tensors of its own, for a model may change its inputs."""
    return map_tensors(lambda tensor: tensor.detach().clone(), call)


def described(call: Call) -> str:
    """Return the shapes of a call's tensors."""
    return ", ".join(str(tuple(tensor.shape)) for tensor in tensors_in(call))


def tensors_of(output: Any, depth: int = _DEEPEST) -> Iterator[Tensor]:
    """Give every tensor that a model returned: in containers, mappings of any kind, and attributes of objects."""
    if isinstance(output, Tensor):
        yield output
    elif depth and not isinstance(output, nn.Module | type):
        if isinstance(output, Mapping):
            parts = list(output.values())
        elif isinstance(output, list | tuple):
            parts = list(output)
        else:
            parts = list(getattr(output, "__dict__", {}).values())
        for part in parts:
            yield from tensors_of(part, depth - 1)


def set_mode(model: nn.Module, *, with_heads: bool) -> None:
    """Put a model into eval mode; with auxiliary heads, only what is random or learns statistics."""
    for module in modules_of(model):
        is_training = with_heads and bool(children_of(module)) and not isinstance(module, BatchNorm | DropoutNd)
        if module.training != is_training:
            module.training = is_training


@contextmanager
def quiet() -> Iterator[None]:
    """Show no warnings, compile nothing, collect no garbage, and leave the generators of random numbers alone.

    Collecting would go through every module of every copy, again and again, and find next to nothing.
    """
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        with undisturbed(), warnings.catch_warnings(), force_eager():
            warnings.simplefilter("ignore")
            yield
    finally:
        if is_collecting:
            gc.enable()


def batch_norms(model: nn.Module) -> dict[str, BatchNorm]:
    """Return every BatchNorm with γ that is a parameter, and not computed from others, by its first name."""
    for name, module in modules_by_path(model).items():
        if problem := _problem(module):
            raise PruningError(f"{name or type(model).__name__} {problem}")
    found = {
        name: norm for name, norm in named_batch_norms(model).items() if parameters_of(norm).get("weight") is not None
    }
    if not found:
        frozen = next((name for name, its in model.named_modules() if "FrozenBatchNorm" in type(its).__name__), "")
        cure = f"; {frozen} is frozen, its γ is a buffer: put a BatchNorm2d in place of it" if frozen else ""
        raise PruningError(
            f"{type(model).__name__} has no BatchNorm with γ (affine=True), whose channels could be removed{cure}"
        )
    return found


def _problem(module: nn.Module) -> str:
    """Return why a module cannot be pruned, and the cure; empty if it can."""
    parameters = [own for own in parameters_of(module).values() if own is not None]
    if not parameters and not isinstance(module, torch.jit.ScriptModule) and not _is_quantized(module):
        return ""
    problems = {
        "is a TorchScript module, whose code is fixed: prune the model before scripting or tracing it": isinstance(
            module, torch.jit.ScriptModule
        ),
        "is quantized: prune the model before quantizing it": _is_quantized(module),
        "has no weights yet: run the model once before": any(map(is_lazy, parameters)),
        "has a DTensor, a part of which lies in every process: gather the model before pruning it": any(
            hasattr(parameter, "placements") for parameter in parameters
        ),
        "has weights without values, on the meta device: load them first": any(
            parameter.is_meta for parameter in parameters
        ),
    }
    return next((problem for problem, is_so in problems.items() if is_so), "")


def _is_quantized(module: nn.Module) -> bool:
    parts = type(module).__module__.split(".")
    is_of_torch = parts[:3] == ["torch", "ao", "nn"] or parts[:2] == ["torch", "nn"]
    return is_of_torch and not _QUANTIZED.isdisjoint(parts) and type(module).__name__ not in _FLOAT_FUNCTIONALS


def check_finite(model: nn.Module) -> dict[str, list[float]]:
    """Check that all weights and running statistics are numbers, and return their fingerprint."""
    found = fingerprint(model)
    if all(math.isfinite(total) for total, *_ in found.values()):
        return found
    statistics = [pair for path, norm in named_batch_norms(model).items() for pair in norm.named_buffers(path)]
    for name, tensor in (*model.named_parameters(), *statistics):
        total = found.get(name, [0.0])[0]
        bad = 0 if math.isfinite(total) else int((~torch.isfinite(tensor)).sum())
        if bad:
            raise PruningError(f"{name} has {bad} values that are NaN or infinite: load weights that are not damaged")
    return found


def fingerprint(model: nn.Module) -> dict[str, list[float]]:
    """Return the sum, the least and the largest value, and the number of values of every tensor, by name."""
    return fingerprints(stored_tensors(model))


@torch.no_grad()
def fingerprints(tensors: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Return the sum, the least and the largest value, and the number of values of tensors with numbers, by name."""
    flat = {name: its.reshape(-1) for name, its in tensors.items() if its.is_floating_point() and its.numel()}
    small = [name for name, its in flat.items() if len(its) <= _SMALL]
    found = dict(zip(small, _rows([flat[name] for name in small]), strict=True))
    return {name: found.get(name) or _row(its) for name, its in flat.items()}


def _row(values: Tensor) -> list[float]:
    least, largest = values.aminmax()
    if values.is_cpu and values.dtype in {torch.float32, torch.float64}:
        with np.errstate(all="ignore"):  # of damaged weights, which `check_finite` tells of
            total = float(np.add.reduce(values.detach().numpy(), dtype=np.float64))  # faster than torch's
    else:
        total = sum(float(part.sum(dtype=torch.float64)) for part in split(values, _CHUNK))
    return [total, float(least), float(largest), float(len(values))]


def _rows(tensors: Sequence[Tensor]) -> list[list[float]]:
    """Return what `_row` does for each of some tensors, all at once."""
    if not tensors:
        return []
    lengths = [len(values) for values in tensors]
    starts = np.cumsum([0, *lengths[:-1]])
    together = torch.cat([values.double().cpu() for values in tensors]).numpy()
    with np.errstate(all="ignore"):  # of damaged weights, which `check_finite` tells of
        columns = [function.reduceat(together, starts) for function in (np.add, np.minimum, np.maximum)]
    rows: list[list[float]] = np.stack([*columns, lengths], 1).tolist()
    return rows


def is_of(model: nn.Module, known: Mapping[str, Sequence[float]]) -> bool:
    """Whether a model's weights are those that a fingerprint is of."""
    found = fingerprint(model)
    return found.keys() == known.keys() and all(_agree(found[name], known[name]) for name in found)


def _agree(first: Sequence[float], second: Sequence[float]) -> bool:
    most = first[3] * max(abs(first[1]), abs(first[2]))
    return list(first[1:]) == list(second[1:]) and abs(first[0] - second[0]) <= _AGREEMENT * most


def check_devices(model: nn.Module, call: Any) -> None:
    """Check that example inputs are where the model is."""
    devices = {parameter.device for parameter in parameters_in(modules_of(model))}
    for tensor in tensors_in(call):
        if len(devices) == 1 and tensor.device not in devices:
            raise PruningError(
                f"{{example_inputs}} are on {tensor.device}, the model is on {next(iter(devices))}: move one of them"
            )
