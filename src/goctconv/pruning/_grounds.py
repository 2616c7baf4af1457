"""Grounds of a decision: facts about a network and a verifier, in its own precision or in float64."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from .._torch import map_tensors
from ..graph import Cost, measuring_cost
from ._copies import sharing_copy
from ._inputs import Call, copied
from ._metadata import stage_shapes
from ._verify import Checked, Run, Verifier, output_of
from .propagate import Facts


class Runner:
    """Runs a pruned network on the example, where it was compared in another precision before."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def check(self, slim: nn.Module, _: dict[str, list[int]]) -> Checked:
        """Run a network, and measure that."""
        run = Run(None, Cost(), {})
        with measuring_cost(slim) as run.cost, stage_shapes(slim) as run.shapes:
            run.output = output_of(slim, self._call)
        return Checked({}, run)


@dataclass
class Grounds:
    """Grounds of a decision.

    Attributes:
        masked: The masked network.
        calls: The examples.
        facts: About the masked network.
        verifier: Compares others with it.
        is_double: Whether all of that is in float64, though the model is not.
        learned: Inputs that the facts are of, besides the example.
    """

    masked: nn.Module
    calls: list[Call]
    facts: Facts
    verifier: Verifier
    is_double: bool = False
    learned: list[Call] = field(default_factory=list)

    def slim(self) -> nn.Module:
        """Return a copy of the masked network to cut, in this precision."""
        return sharing_copy(self.masked)

    def knowing(self, facts: Facts, call: Call) -> Grounds:
        """Return the same with facts of another input too."""
        return replace(self, facts=facts, learned=[*self.learned, call])

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Make this the precision of tensors that a network makes itself."""
        before = torch.get_default_dtype()
        try:
            if self.is_double:
                torch.set_default_dtype(torch.float64)
            yield
        finally:
            torch.set_default_dtype(before)


def doubled(model: nn.Module, calls: list[Call]) -> tuple[nn.Module, list[Call]]:
    """Return a copy of a model, and inputs, in float64: its outputs differ from another's by more than rounding only.

    Autocast leaves float64 as it is, and what sorts near-equal numbers sorts them alike.
    """

    def cast(tensor: Tensor) -> Tensor:
        return tensor.double() if tensor.is_floating_point() else tensor

    return copy.deepcopy(model).double(), [map_tensors(cast, copied(call)) for call in calls]
