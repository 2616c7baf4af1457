"""Verification that a pruned network gives what the masked one gives, on other inputs and at another size too."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from .._checks import ArgumentError, ArgumentTypeError, escaped
from .._torch import BatchNorm, map_tensors, storage_key, tensors_in
from ..graph import Cost, Observer, Operation, measuring_cost, modules_of, parameters_in, recording, seed_generators
from ._copies import independent_copy
from ._inputs import Call, PruningError, copied, set_mode, tensors_of
from ._inside import comparable, outputs_inside
from ._masking import CONSTANT
from ._metadata import StageShapes, stage_shapes
from ._trials import other_batch, other_sizes, random_inputs, random_other_sizes
from .propagate import Pass, trace

_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 3e-2, torch.bfloat16: 1e-1}
_OF_ROUNDED_WEIGHTS = {torch.float16: 5e-3, torch.bfloat16: 3e-2}
"""Tolerances where weights of low precision are computed with in float32."""
_NEAR_EQUAL = (
    "near-equal scores are sorted or thresholded, and the last bits of the input change the masked one's outputs too: "
    "let what comes before count (outputs=), or pass a comparison of your own (compare=)"
)
_NOISE_FACTOR = 20
_EXAMPLE = "the example"
_OWN_ATTRIBUTES = frozenset(vars(nn.Module()))
_HOOKS = frozenset({"_forward_pre_hooks", "_forward_hooks"})
_PLAIN = frozenset({int, float, bool, str, type(None)})
Compare: TypeAlias = "Callable[[Any, Any], bool]"
"""A function of the outputs of the masked and of the pruned network; whether they are equal."""


@dataclass(frozen=True)
class _Trial:
    """An input and the masked network's outputs; ``with_heads`` runs auxiliary heads too.

    ``also`` is another name, of an input that is two things in one.
    """

    name: str
    call: Call
    output: Any
    with_heads: bool = False
    also: str = ""

    @property
    def expected(self) -> list[Tensor]:
        """The tensors in the output."""
        return list(tensors_of(self.output))


@dataclass
class Run:
    """A forward pass that is measured.

    Attributes:
        output: What the model returned, or what counts of it.
        cost: Of the pass.
        shapes: Of the outputs that metadata describe.
    """

    output: Any
    cost: Cost
    shapes: StageShapes

    @property
    def outputs(self) -> list[Tensor]:
        """The tensors in the output."""
        return list(tensors_of(self.output))


def traced(model: nn.Module, call: Call) -> tuple[Pass, Run]:
    """Follow a forward pass, and measure it; the model is one to be thrown away."""
    with measuring_cost(model) as cost, stage_shapes(model) as shapes:
        found = trace(model, call)
    return found, Run(found.output, cost, shapes)


class Checked(NamedTuple):
    """A comparison that held.

    Attributes:
        difference: The largest one, relative to the largest output, by what was put in.
        run: Of the pruned network on the example.
    """

    difference: dict[str, float]
    run: Run


class Verifier:
    """Runs a masked network on the example, on random input of its shapes, and at a second size that it takes.

    Args:
        masked: The network.
        calls: The examples.
        run: What it gave for that.
        with_heads: Whether to run it once with its auxiliary heads.
        thorough: Whether to look at more than the examples.
        compare: What is allowed to differ; see `goctconv.pruning.prune_channels`.

    Attributes:
        run: That.
        notes: What could not be compared.
        failed_on: The input other than the example on which a comparison failed last.

    Raises:
        PruningError: It returns no tensor, or no number.
    """

    def __init__(
        self,
        masked: nn.Module,
        calls: Sequence[Call],
        run: Run,
        *,
        with_heads: bool = False,
        thorough: bool = True,
        compare: float | Compare | None = None,
    ) -> None:
        self._masked = masked
        self._compare_with = compare
        call = calls[0]
        self.run = run
        self.notes: list[str] = []
        self.failed_on: Call | None = None
        self._trials = [_Trial(_EXAMPLE, call, run.output)]
        self._same: _Trial | None = None  # for which the outputs are those of other inputs
        if not run.outputs:
            what = f"{type(masked).__name__} returns" if call.outputs is None else "{outputs} returns"
            raise PruningError(f"{what} no tensor, so nothing could be compared")
        numbers = [output for output in run.outputs if output.is_floating_point() and output.numel()]
        if not _has_numbers(run.outputs):
            self.notes.append(
                "the model puts out no numbers on the example, so what its modules put out was compared: better pass "
                "an example on which it finds something"
            )
        if numbers and not any(torch.isfinite(output).any() for output in numbers):
            raise PruningError(
                f"{type(masked).__name__} puts out no finite number on the example, so nothing could be compared: load "
                "weights, or let BatchNorm see data in train mode first"
            )
        self._lowest = _lowest(masked)
        self._precise = _as_float(masked) if thorough and self._lowest in _OF_ROUNDED_WEIGHTS else masked
        if thorough:
            self._be_thorough(call if self._precise is masked else _floats(call), with_heads)
        self._trials += [
            _Trial(f"example {number}", its, output_of(self._precise, its))
            for number, its in enumerate((its if self._precise is masked else _floats(its) for its in calls[1:]), 2)
        ]

    def _be_thorough(self, call: Call, with_heads: bool) -> None:
        generator = torch.Generator().manual_seed(0)
        taken = self._add("random input", random_other_sizes(call, generator), also="another size")
        if taken is None:
            self._add("random input", random_inputs(call, generator))
            taken = self._add("another size", other_sizes(call, generator))
        if taken is None and next(other_sizes(call, generator), None) is not None:
            self.notes.append("no second size was compared: the model takes none of those that were tried")
        if taken is None or batch_sizes(taken) == batch_sizes(call):
            self._add("another batch size", other_batch(call, generator))
        example, *others = self._trials
        if _has_numbers(self.run.outputs):
            same = (trial for trial in others if _equal(trial.expected, example.expected) or _has_equal_rows(trial))
            self._same = next(same, None)
        if self._same is not None:
            self.notes.append(CONSTANT)
        if with_heads:
            self._add("auxiliary heads", iter([call]), with_heads=True)

    @property
    def seen(self) -> list[tuple[str, Call, list[Tensor]]]:
        """The example and the first other input, by name, with the outputs of the masked network."""
        is_rounded = self._precise is not self._masked
        return [
            (trial.name, trial.call, trial.expected)
            for trial in self._trials[: 1 if is_rounded else 2]
            if not trial.with_heads
        ]

    def variation(self, model: nn.Module) -> float | None:
        """Return by how much the original's outputs vary, relative to the largest, if the masked network's do not."""
        trial = self._same
        if trial is None or self._precise is not self._masked:
            return None
        outputs = outputs_of(model, trial.call)
        others = outputs_of(model, self._trials[0].call)
        if _has_equal_rows(trial):
            outputs = [output for output in outputs if output.shape[:1] == (max(batch_sizes(trial.call)),)]
            others = [output[:1].expand_as(output) for output in outputs]
        pairs = zip(outputs, others, strict=False)
        return max((_relative(a, b) for a, b in pairs if a.shape == b.shape and a.is_floating_point()), default=None)

    def _add(self, name: str, calls: Iterator[Call], *, with_heads: bool = False, also: str = "") -> Call | None:
        """Add the first input that the masked network takes, and gives the same for again; return it."""
        for call in calls:
            try:
                output = output_of(self._precise, call, with_heads=with_heads)
                again = output_of(self._precise, call, with_heads=with_heads) if with_heads else output
            except Exception:  # noqa: BLE001, S112  # networks refuse sizes in many ways
                continue
            if all(_is_same(a, b) for a, b in zip(tensors_of(output), tensors_of(again), strict=True)):
                self._trials.append(_Trial(name, call, output, with_heads, also))
                return call
        return None

    def check(self, slim: nn.Module, removed: dict[str, list[int]]) -> Checked:
        """Compare a pruned network with the masked one."""
        found: dict[str, float] = {}
        run = Run(None, Cost(), {})
        with measuring_cost(slim) as run.cost, stage_shapes(slim) as run.shapes:
            found[_EXAMPLE] = self._compare(slim, self._trials[0], removed)
        precise = slim if self._precise is self._masked else _as_float(slim)
        for trial in self._trials[1:]:
            found[trial.name] = self._compare(precise, trial, removed)
        for trial in self._trials:
            if not _has_numbers(trial.expected):
                found[trial.name] = self._difference_inside(slim if trial.name == _EXAMPLE else precise, trial)
            if trial.also:
                found[trial.also] = found[trial.name]
        return Checked(found, run)

    def _compare(self, slim: nn.Module, trial: _Trial, removed: dict[str, list[int]]) -> float:
        self.failed_on = None if trial.name == _EXAMPLE or trial.with_heads else trial.call
        try:
            output = output_of(slim, trial.call, with_heads=trial.with_heads)
        except Exception as error:
            where = _failing(slim, trial)
            raise PruningError(
                f"the pruned model does not run on {trial.name}: {where} raised {type(error).__name__}: "
                f"{escaped(error)}",
                module=where,
            ) from error
        actual = list(tensors_of(output))
        if callable(self._compare_with):
            return self._judged(trial, output, self._compare_with)
        shapes = [[tuple(output.shape) for output in outputs] for outputs in (actual, trial.expected)]
        if shapes[0] != shapes[1]:
            raise self._of_other_shapes(trial, *shapes)
        noise: float | None = None
        worst = 0.0
        for expected, output in zip(trial.expected, actual, strict=True):
            difference, tolerance = _relative(expected, output), self._tolerance(expected)
            if not difference <= tolerance:
                noise = self._noise(trial) if noise is None else noise
                if self._compare_with is not None or not difference <= min(_NOISE_FACTOR * noise, tolerance**0.5):
                    first = self._first_difference(slim, trial, removed)
                    where = f"{first} is the first BatchNorm that does"
                    if not first:
                        where = "no BatchNorm does: the reason lies behind the last one"
                        where = _NEAR_EQUAL if difference <= _NOISE_FACTOR * noise else where
                    raise PruningError(
                        f"the outputs of the pruned and the masked model differ by {difference:.1e} of the largest on "
                        f"{trial.name}; {where}",
                        module=first,
                    )
            worst = max(worst, difference)
        return worst

    def _of_other_shapes(self, trial: _Trial, actual: list[Any], expected: list[Any]) -> PruningError:
        """Return the error of outputs of other shapes, which rounding alone may give."""
        text = f"the pruned model puts out {actual} on {trial.name}, the masked one {expected}"
        if self._noise(trial) < float("inf"):
            return PruningError(text)
        return PruningError(f"{text}; {_NEAR_EQUAL}", module="")

    def _difference_inside(self, slim: nn.Module, trial: _Trial) -> float:
        """Return by how much modules differ whose outputs have the shape of the masked network's."""
        models = (self._masked if trial.name == _EXAMPLE else self._precise, slim)
        inside = [
            outputs_inside(model, partial(outputs_of, model, trial.call, with_heads=trial.with_heads))
            for model in models
        ]
        worst = 0.0
        pairs_inside = comparable(*inside)
        if not pairs_inside and not any(output.numel() > 1 for output in trial.expected):
            raise PruningError(
                f"the model puts out nothing on {trial.name}, and no module inside puts out what could be compared "
                "instead: pass an example on which it finds something"
            )
        for path, pairs in pairs_inside.items():
            for expected, actual in pairs:
                difference = _relative(expected, actual)
                if not difference <= self._tolerance(expected):
                    raise PruningError(
                        f"{path} puts out something else than in the masked model, by {difference:.1e} of the largest, "
                        f"on {trial.name}, on which the model puts out nothing: pass an example on which it finds "
                        "something",
                        module=path,
                    )
                worst = max(worst, difference)
        return worst

    def _judged(self, trial: _Trial, output: Any, compare: Compare) -> float:
        """Compare outputs by the caller's function; return the largest difference of those of equal shapes."""
        try:
            is_equal: object = compare(trial.output, output)
        except Exception as error:
            problem = f"{{compare}} raised {type(error).__name__} on {trial.name}: {escaped(error)}"
            raise ArgumentError("compare", compare, problem=problem) from error
        if isinstance(is_equal, Tensor) and is_equal.dtype == torch.bool and is_equal.numel() == 1:
            is_equal = bool(is_equal)
        if not isinstance(is_equal, bool | np.bool_):
            cure = "return whether the outputs are equal; pass a number for a tolerance"
            raise ArgumentTypeError("compare", compare, problem=f"returned {is_equal!r}, not True or False", cure=cure)
        if not is_equal:
            problem = f"the outputs of the pruned and the masked model on {trial.name} are not equal by {{compare}}"
            raise PruningError(problem)
        pairs = zip(trial.expected, tensors_of(output), strict=False)
        found = [_relative(a, b) for a, b in pairs if a.shape == b.shape and _is_real_or_complex(a)]
        return max(found, default=0.0)

    def _tolerance(self, expected: Tensor) -> float:
        if isinstance(self._compare_with, float | int) and _is_real_or_complex(expected):
            return float(self._compare_with)
        if expected.dtype == torch.float32 and self._precise is not self._masked:
            return _OF_ROUNDED_WEIGHTS[self._lowest]
        return _TOLERANCE.get(expected.dtype.to_real() if expected.is_complex() else expected.dtype, 0.0)

    def _noise(self, trial: _Trial) -> float:
        """Return by how much the outputs change if the input does in its last bits."""

        def shaken(tensor: Tensor) -> Tensor:
            return tensor * (1 + 4 * torch.finfo(tensor.dtype).eps) if tensor.is_floating_point() else tensor

        model = self._precise if trial.name != _EXAMPLE else self._masked
        again = outputs_of(model, trial.call, with_heads=trial.with_heads, seed=1)
        if not all(_is_same(a, b) for a, b in zip(trial.expected, again, strict=True)):
            raise PruningError(
                f"{type(model).__name__} gives other outputs when it is called again, in eval mode too, so nothing can "
                "be compared: switch off what is random in it, such as dropout with training=True"
            )
        call = map_tensors(shaken, trial.call)
        other = outputs_of(model, call, with_heads=trial.with_heads)
        if [output.shape for output in other] != [output.shape for output in trial.expected]:
            return float("inf")
        pairs = zip(trial.expected, other, strict=True)
        return max((_relative(x, y) for x, y in pairs if _is_real_or_complex(x)), default=0.0)

    def _first_difference(self, slim: nn.Module, trial: _Trial, removed: dict[str, list[int]]) -> str:
        """Return the BatchNorm whose channels that are left differ first; empty if those of none do."""
        expected = _norm_outputs(self._masked if trial.name == _EXAMPLE else self._precise, trial)
        for name, output in _norm_outputs(slim, trial).items():
            if name not in expected:
                continue
            gone = set(removed.get(name, []))
            kept = [channel for channel in range(expected[name].shape[1]) if channel not in gone]
            wanted = expected[name][:, kept]
            if wanted.shape != output.shape or not _relative(wanted, output) <= self._tolerance(output):
                return name
        return ""


def _has_numbers(outputs: Sequence[Tensor]) -> bool:
    """Whether any output has elements that are no integers."""
    return any(output.numel() and _is_real_or_complex(output) for output in outputs)


def _equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return len(some) == len(others) and all(torch.equal(a.to(b.dtype), b) for a, b in zip(some, others, strict=True))


def _has_equal_rows(trial: _Trial) -> bool:
    """Whether a network gave the same for every item of a batch of several."""
    count = max(batch_sizes(trial.call), default=0)
    outputs = [output for output in trial.expected if output.is_floating_point() and output.shape[:1] == (count,)]
    return count > 1 and bool(outputs) and all(torch.equal(output, output[:1].expand_as(output)) for output in outputs)


def _relative(a: Tensor, b: Tensor) -> float:
    """Return the largest difference relative to the largest value; infinite where other things differ."""
    if not _is_real_or_complex(a) or not a.numel():
        return 0.0 if torch.equal(a, b) else float("inf")
    if a.is_complex():
        return _relative(torch.view_as_real(a), torch.view_as_real(b)) if b.is_complex() else float("inf")
    scale = a.double().abs().amax()
    if not torch.isfinite(scale):
        finite = torch.isfinite(a)
        if not _is_same(a[~finite], b[~finite]):
            return float("inf")
        return _relative(a[finite], b[finite])
    difference = float((a.double() - b.double()).abs().amax() / scale.clamp(min=1e-300))
    return float("inf") if math.isnan(difference) else difference


def _is_real_or_complex(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _is_same(a: Tensor, b: Tensor) -> bool:
    """Whether tensors are equal, NaN where the other is too."""
    return torch.equal(a, b) or (a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all()))


def check_runs_itself(model: nn.Module, calls: Sequence[Call]) -> None:
    """Check that a copy of a model computes with weights of its own, and not with those of the original.

    It does the latter where a module holds a function that holds another module: ``self.run = lambda x: self.conv(x)``.
    """
    copy = independent_copy(model, model).eval()
    reads = _Reads({storage_key(tensor): name for name, tensor in model.named_parameters() if tensor.numel()})
    with torch.inference_mode(), recording(copy, reads):
        for call in calls:
            copied(call).run(copy)
    if reads.found:
        raise PruningError(
            f"a copy of {type(model).__name__} computes with weights of the original, such as {reads.found}: a module "
            "holds a function or hook that is tied to the original, as a lambda or torch.compile(module.forward) is: "
            "make it a method, or call it as model.compile() or torch.compile(model)"
        )


def holds_functions(module: nn.Module) -> bool:
    """Whether a module holds functions that may be tied to others, as lambdas are, or a forward pass of its own."""
    return any(
        name == "forward" or _may_be_tied(value)
        for name, value in vars(module).items()
        if type(value) not in _PLAIN and (name not in _OWN_ATTRIBUTES or (value and name in _HOOKS))
    )


def _may_be_tied(value: Any, depth: int = 3) -> bool:
    """Whether a value is a function that may know modules or tensors by more than its arguments, or holds one."""
    if isinstance(value, MethodType):
        value = value.__func__
    if isinstance(value, FunctionType):
        known = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        named = (value.__globals__.get(name) for name in value.__code__.co_names)
        return bool(value.__closure__) or any(isinstance(item, nn.Module | Tensor) for item in (*known, *named))
    if not depth or isinstance(value, nn.Module | Tensor | type | ModuleType):
        return False
    inside: Iterable[Any]
    if isinstance(value, partial):
        inside = (value.func,)
    elif isinstance(value, dict | list | tuple | set):
        inside = value.values() if isinstance(value, dict) else value
    else:
        inside = getattr(value, "__dict__", {}).values()
    return any(_may_be_tied(item, depth - 1) for item in inside if type(item) not in _PLAIN)


class _Reads(Observer):
    """Sees whether tensors are read."""

    def __init__(self, names: dict[int, str]) -> None:
        self._names = names
        self.found = ""

    def before(self, operation: Operation) -> None:
        """Look at the inputs of an operation."""
        for tensor in operation.tensors:
            self.found = self.found or self._names.get(storage_key(tensor), "")


def _lowest(model: nn.Module) -> torch.dtype:
    """Return the dtype of least precision that a model's parameters have."""
    kinds = {parameter.dtype for parameter in parameters_in(modules_of(model)) if parameter.is_floating_point()}
    return max(kinds, key=lambda kind: torch.finfo(kind).eps, default=torch.float32)


@torch.inference_mode()
def _as_float(model: nn.Module) -> nn.Module:
    """Return a copy of a model of low precision that computes with the same weights in float32."""
    return copy.deepcopy(model).float()


def _floats(call: Call) -> Call:
    def changed(tensor: Tensor) -> Tensor:
        return tensor.float() if tensor.dtype in _OF_ROUNDED_WEIGHTS else tensor

    return map_tensors(changed, call)


def batch_sizes(call: Call) -> list[int]:
    """Return the first sizes of the tensors of a call."""
    return [tensor.shape[0] for tensor in tensors_in(call) if tensor.dim()]


@torch.inference_mode()
def output_of(model: nn.Module, call: Call, *, with_heads: bool = False, seed: int = 0) -> Any:
    """Return the output of a model, or what counts of it; one that is random gives the same again for a seed."""
    seed_generators(seed, tensors_in(call))
    set_mode(model, with_heads=with_heads)
    return copied(call).run(model)


def outputs_of(model: nn.Module, call: Call, *, with_heads: bool = False, seed: int = 0) -> list[Tensor]:
    """Return the tensors in the output of a model."""
    return list(tensors_of(output_of(model, call, with_heads=with_heads, seed=seed)))


def _norm_outputs(model: nn.Module, trial: _Trial) -> dict[str, Tensor]:
    """Return the output of every BatchNorm, in the order of their calls."""
    found: dict[str, Tensor] = {}

    def remember(name: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() > 1:
            found.setdefault(name, output.clone())

    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: remember(name, output))
        for name, module in model.named_modules()
        if isinstance(module, BatchNorm)
    ]
    try:
        outputs_of(model, trial.call, with_heads=trial.with_heads)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _failing(model: nn.Module, trial: _Trial) -> str:
    """Return the path of the module that raises an exception."""
    running: list[str] = []
    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda _, __, name=name: running.append(name)))
        handles.append(module.register_forward_hook(lambda *_: _drop(running)))
    try:
        outputs_of(model, trial.call, with_heads=trial.with_heads)
    except Exception:  # noqa: BLE001  # it is known already
        return (running and running[-1]) or "the model"
    finally:
        for handle in handles:
            handle.remove()
    return "the model"


def _drop(running: list[str]) -> None:
    running.pop()
