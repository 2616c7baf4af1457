"""Forward passes of a network, followed operation by operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._checks import ArgumentError, escaped
from ..._torch import map_tensors, parameters_of
from ...graph import modules_by_path, recording, seed_generators
from .._copies import sharing_copy
from .._inputs import Call, PruningError, copied, described, set_mode, tensors_of
from . import (  # noqa: F401  # rules
    _convolution,
    _creation,
    _elements,
    _indexing,
    _matmul,
    _normalization,
    _pointwise,
    _recurrent,
    _reduction,
    _sampling,
    _scans,
    _view,
)
from ._context import Propagation
from ._facts import Facts
from ._shadows import FROZEN, uniform
from ._sizes import sourced_attributes
from ._values import tensors_in

_ENLARGEMENTS = (1, 2, 3)  # some heads do not fit on small images


class Pass(NamedTuple):
    """A forward pass in eval mode.

    Attributes:
        facts: What it tells about channels.
        idle: Modules with parameters that did not run.
        output: What the model returned, or what counts of it.
    """

    facts: Facts
    idle: list[str]
    output: Any


def trace(model: nn.Module, call: Call) -> Pass:
    """Run a model once; it is one to be thrown away."""
    try:
        propagation, output = _run(model, call, Facts())
    except ArgumentError:  # of outputs=
        raise
    except Exception as error:
        raise PruningError(
            f"the model does not run on {{example_inputs}} of shape {described(call)} ({type(error).__name__}: "
            f"{escaped(error)}): pass what it is called with, of a size that it takes"
        ) from error
    facts = propagation.facts
    bound = facts.bound
    idle = [
        path
        for path, module in modules_by_path(model).items()
        if path not in propagation.called
        and parameters_of(module)
        and not any((f"{path}.{name}" if path else name) in bound for name in parameters_of(module))
    ]
    return Pass(facts, idle, output)


def trace_heads(model: nn.Module, call: Call, facts: Facts) -> tuple[Facts, str]:
    """Add what a second pass tells: of auxiliary heads, which run in train mode only.

    It runs containers in train mode, and what is random or learns statistics in eval mode.

    Returns:
        The facts, and why the heads could not be followed; empty if they could.
    """
    problem = ""
    for factor in _ENLARGEMENTS:
        copy = sharing_copy(model)
        set_mode(copy, with_heads=True)
        both = facts.continued()
        try:
            _run(copy, _enlarged(call, factor), both)
        except Exception as error:  # noqa: BLE001  # whatever a network raises in train mode
            problem = problem or f"{type(error).__name__}: {error}"
        else:
            return (both if both.bound - facts.bound else facts), ""
    return facts, problem


def trace_again(model: nn.Module, call: Call, facts: Facts) -> Facts | None:
    """Add what a pass with another input tells, such as one of a size at which other layers run; None if it fails."""
    both = facts.continued()
    both.consumers = [replace(consumer) for consumer in facts.consumers]
    both.grouped = {consumer.weight: consumer for consumer in both.consumers if consumer.weight in facts.grouped}
    try:
        _run(sharing_copy(model).eval(), call, both)
    except Exception:  # noqa: BLE001  # whatever a network raises
        return None
    return both


def trace_others(model: nn.Module, calls: Sequence[Call], facts: Facts) -> Facts:
    """Add what passes with further examples tell."""
    for call in calls:
        more = trace_again(model, call, facts)
        if more is None:
            trace(sharing_copy(model).eval(), call)  # says why
            raise PruningError(f"the model cannot be followed on {{example_inputs}} of shape {described(call)}")
        facts = more
    return facts


def trace_all(model: nn.Module, calls: Sequence[Call]) -> Facts:
    """Return what forward passes with some examples tell; the model is left alone."""
    return trace_others(model, calls[1:], trace(sharing_copy(model).eval(), calls[0]).facts)


def _run(model: nn.Module, call: Call, facts: Facts) -> tuple[Propagation, Any]:
    modules = modules_by_path(model)
    t = Propagation(modules, facts)
    with torch.inference_mode():
        own = copied(call)
        seed_generators(0, tensors_in((own.args, own.keywords)))
        for tensor in tensors_in((own.args, own.keywords)):
            t.shadows.set(tensor, uniform(tensor.shape, FROZEN))
        with sourced_attributes(modules, t.sources.uses), recording(model, t, modules=modules) as t.tracer, t.sources:
            output = own.run(model)
        for tensor in tensors_of(output):
            t.note_output(tensor)
        t.finish()
    return t, output


def _enlarged(call: Call, factor: int) -> Call:
    def resized(tensor: Tensor) -> Tensor:
        if factor == 1 or tensor.dim() != 4 or not tensor.is_floating_point():
            return tensor
        return F.interpolate(tensor, scale_factor=float(factor))

    return map_tensors(resized, call)
