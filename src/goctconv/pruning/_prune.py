"""Pruning: from a model and a threshold to a plan, or to a slim, verified model."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from .._checks import check_flags
from .._torch import tensors_in
from ..graph import Selection, compare_timings, unwrapped
from ._copies import independent_copy, sharing_copy
from ._criteria import Criterion
from ._inputs import Call, Selector, as_calls, copied, quiet
from ._plan import PruningPlan
from ._report import PruningReport
from ._search import BnBias, Found, Options, Scope, search
from ._verify import Compare
from .surgery import Names, Surgery, transfer_optimizer

_ROUNDS = 8  # of timing


@dataclass(frozen=True, repr=False)
class PruningResult:
    """A pruned model, its plan and its report.

    Attributes:
        model: The slim model.
        plan: The cuts.
        report: What the cuts save, and why masked channels stayed.

    Example:
        >>> import timm, torch
        >>> from goctconv import prune_channels
        >>> model = timm.create_model("test_resnet")
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> result = prune_channels(model, torch.zeros(1, 3, 64, 64), ratio=0.3, bn_bias="zero")
        >>> model, optimizer = result.model, result.transfer_optimizer(optimizer)  # training goes on
    """

    model: nn.Module
    plan: PruningPlan
    report: PruningReport
    _names: Names

    def __repr__(self) -> str:
        return f"PruningResult({type(self.model).__name__}: {self.report.summary()})"

    def transfer_optimizer(self, optimizer: Optimizer) -> Optimizer:
        """Return an optimizer of the slim model, with the state of the original's, cut like its parameters.

        Param groups and their settings are kept; a bias that is new joins the group of the weight beside it. A
        `goctconv.DynamicWeightDecay` is moved with all that it knows, and optimizers inside others, as in Lookahead or
        SAM, are moved with them. Learning-rate schedulers stay with the optimizer that they were made with: make new
        ones.

        Args:
            optimizer: The one that trained the original.

        Raises:
            PruningError: The optimizer holds other parameters, or state that cannot be cut or copied.
        """
        plan = self.plan
        return transfer_optimizer(optimizer, self._names, self.model, plan.steps, plan.moves, plan.removed)


def plan_pruning(
    model: nn.Module,
    example_inputs: Any,
    *,
    threshold: float | None = None,
    ratio: float | None = None,
    scope: Scope | None = None,
    max_ratio: float = 1.0,
    criterion: Criterion = "gamma",
    groups: bool = False,
    balance: bool = False,
    bn_bias: BnBias = "keep",
    keep: Selection = (),
    round_to: int | None = None,
    min_channels: int = 1,
    outputs: Selector | None = None,
    compare: float | Compare | None = None,
) -> PruningPlan:
    """Find the channels that `prune_channels` would remove; the model is not changed.

    The parameters are those of `prune_channels`, where they are described.

    Returns:
        The plan, with its report.

    Raises:
        PruningError: The model cannot be traced or cut.
        ArgumentError: An argument is out of range.

    Example:
        >>> import timm, torch
        >>> from goctconv import plan_pruning
        >>> plan = plan_pruning(timm.create_model("resnet18"), torch.zeros(1, 3, 64, 64), ratio=0.3)
        >>> plan.report.masked
        1440
    """
    options = Options(
        *(threshold, ratio, scope, max_ratio, criterion, groups, bn_bias, keep, round_to, min_channels),
        compare=compare,
        balance=balance,
    )
    return search(unwrapped(model), as_calls(example_inputs, outputs), options).plan


def prune_channels(
    model: nn.Module,
    example_inputs: Any,
    *,
    threshold: float | None = None,
    ratio: float | None = None,
    scope: Scope | None = None,
    max_ratio: float = 1.0,
    criterion: Criterion = "gamma",
    groups: bool = False,
    balance: bool = False,
    bn_bias: BnBias = "keep",
    keep: Selection = (),
    round_to: int | None = None,
    min_channels: int = 1,
    outputs: Selector | None = None,
    compare: float | Compare | None = None,
    inplace: bool = False,
    verify: bool = True,
    latency: bool = False,
) -> PruningResult:
    """Remove channels of a BatchNorm network so that its output does not change, and verify that.

    Channels are masked first: γ := 0 for those that a criterion chooses. Each is then a constant, at every input and
    every size of it. The constants are moved into the layers that read them, and the channels are removed. The pruned
    network equals the masked one at every input size, to rounding. In train mode it does too, except for random
    operations, and for a BatchNorm that reads a constant: the statistics of a batch make another constant of it than
    the running ones.

    Args:
        model: Any network with BatchNorm; it may be wrapped in DistributedDataParallel or compiled, and is unwrapped.
        example_inputs: Arguments of a call: a tensor, a tuple of arguments, or a dict of keyword arguments. A list
            holds several such calls, all of which are followed and compared, for networks that run other layers in
            each.
        threshold: Channels with a score below it are masked; 1e-20 is published for ``criterion="gamma"``.
        ratio: In place of a threshold: the share of channels to mask.
        scope: Whether the share is of all channels together, ``"global"``, or of each ``"layer"``; the default for
            criteria of filters, whose scores do not compare between layers.
        max_ratio: The largest share of a layer that is masked.
        criterion: The score of channels: ``"gamma"``, abs(γ); ``"gamma_first"``, in a chain of depthwise layers that of
            the first BatchNorm, and γ and β of the whole chain are masked with it; ``"l1_filter"`` and
            ``"geometric_median"``, of the filter that makes the channel; or a function of the model that returns scores
            by BatchNorm. Scores of filters exist for layers right before a BatchNorm only.
        groups: Whether channels that can only go together, such as those that are summed, share their mean score.
        balance: Whether channels are chosen in equal numbers where the code needs that: of every group of a grouped
            convolution, and of every piece of ``chunk``, channel shuffles and the like. The ones with the lowest scores
            of each piece are masked, at other places in each. A ratio is met as nearly as that allows; with a
            threshold, every piece loses as many as the one that has the fewest channels below it.
        bn_bias: ``"keep"`` leaves β of masked channels, which become constants; ``"zero"`` masks it too.
        keep: BatchNorm layers that keep all channels: names, globs, modules, or functions of name and module.
        round_to: Let the number of channels of every layer be a multiple of it, if possible.
        min_channels: The least number of channels of every layer.
        outputs: A function of what the model returns that returns what counts of it, such as ``lambda out: out[0]`` for
            a detector that returns its feature maps too. All of it counts by default: channels that the model puts out
            must stay.
        compare: The largest difference to the masked network that is allowed, relative to the largest output; by
            default 1e-4 in float32, 1e-10 in float64. Or a function of both outputs, masked and pruned, as ``outputs``
            returns them, that returns whether they are equal, such as one that matches boxes.
        inplace: Change the model itself; if anything goes wrong, it is as before, bit for bit.
        verify: Whether to compare the result with the masked network on random input and at a second size too, and not
            on the example only; numbers that the code makes of sizes are not understood without.
        latency: Whether to measure the time of a forward pass before and after, for the report.

    Returns:
        The slim model, the plan and the report.

    Raises:
        PruningError: The model cannot be traced or cut: no BatchNorm, NaN weights, scripted, quantized or parametrized;
            or the result differs from the masked network. The model is as it was.
        ArgumentError: An argument is out of range, or of a wrong type.

    Example:
        >>> import timm, torch
        >>> from goctconv import prune_channels
        >>> model = timm.create_model("resnet18", zero_init_last=False)
        >>> result = prune_channels(model, torch.zeros(1, 3, 64, 64), ratio=0.3, criterion="l1_filter", groups=True)
        >>> result.report.parameters[0], result.report.parameters[1] < 8_000_000
        (11689512, True)
    """
    options = Options(
        *(threshold, ratio, scope, max_ratio, criterion, groups, bn_bias, keep, round_to, min_channels),
        compare=compare,
        balance=balance,
    )
    check_flags(inplace=inplace, verify=verify, latency=latency)
    inner, calls = unwrapped(model), as_calls(example_inputs, outputs)
    names = [(weakref.ref(parameter), name) for name, parameter in inner.named_parameters()]
    found = search(inner, calls, options, thorough=verify)
    if latency:
        found.plan.report = replace(found.plan.report, milliseconds=_times(found, calls[0]))
    if inplace:
        del found.slim  # its weights, before they are made again
        slim = _changed(inner, found)
    else:
        slim = independent_copy(found.slim, inner)
    return PruningResult(slim, found.plan, found.plan.report, names)


def _changed(model: nn.Module, found: Found) -> nn.Module:
    """Cut a model itself and compare it with the masked one, or leave it as it was."""
    surgery = Surgery(model)
    try:
        found.plan.masks.apply(model, surgery)
        found.plan.cut(surgery)
        with torch.no_grad(), quiet():
            found.verifier.check(sharing_copy(model), found.plan.removed)
    except BaseException:
        surgery.roll_back()
        raise
    return model


def _times(found: Found, call: Call) -> tuple[float, float]:
    """Return the median milliseconds of a forward pass of the masked and of the slim model."""
    sides = {"masked": found.masked.eval(), "slim": sharing_copy(found.slim).eval()}
    is_cuda = any(tensor.is_cuda for tensor in tensors_in(call))

    def run(side: str) -> None:
        copied(call).run(sides[side])
        if is_cuda:
            torch.cuda.synchronize()

    with torch.no_grad(), quiet():
        timings = compare_timings({side: partial(run, side) for side in sides}, rounds=_ROUNDS, warmup=1)
    return 1000 * timings.median("masked"), 1000 * timings.median("slim")
