from __future__ import annotations

import copy
import operator
import textwrap
from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import fx, nn

from ..._checks import ArgumentError, ArgumentTypeError, check_choice, check_share, escaped
from ..._torch import map_tensors, tensors_in
from ...graph import Selection, select, unwrapped
from .._goctconv import Upsample
from ._choices import Choices, ChoicesChanged
from ._rewriter import Rewriter
from ._rules import rule_of
from ._trace import traced

_TOLERANCE = 1e-4  # of the largest output, between a network and itself converted with all width at the finest scale


def octave(
    model: nn.Module,
    example_inputs: Any,
    *,
    alpha: float | Sequence[float] = 0.5,
    keep: Selection = (),
    downsample: str = "avg",
    upsample: Upsample = "nearest",
) -> fx.GraphModule:
    """Return a network whose convolutions are octave convolutions, with the weights of the original.

    Inside of it, features have several scales: a share of the channels has half the resolution, and costs a quarter.
    Every convolution connects all scales with the parts of its weight; depthwise and grouped ones keep every group at
    its scale. Strides, BatchNorm, activations, pooling, enlargement, sums and concatenations go by scales. Inputs and
    outputs are plain tensors, and so is what other operations take: scales are then joined at the finest resolution.

    The original stays as it is. With ``alpha=0`` the result computes the same; with coarse channels it starts near the
    original and is to be trained on. It takes images of any size that the original takes.

    Args:
        model: A network that `torch.fx` can trace, such as those of torchvision and timm. Modules inside of it that
            cannot be traced stay as they are, with a warning. DataParallel and `torch.compile` around it are left out.
        example_inputs: An image batch, or a tuple of arguments. Convolutions that give one pixel for it stay plain.
        alpha: Share of channels at half the resolution, rounded down to whole channels (and groups); of several, those
            at half, quarter, ... of it. The finest scale has the rest.
        keep: Modules that stay as they are, with all inside of them: names, globs, modules, or functions of name and
            module. As published, the first convolution.
        downsample: How a fine scale reaches a coarse one: "avg" or "max" pooling.
        upsample: How a coarse scale reaches a fine one: "nearest" or "bilinear".

    Raises:
        ArgumentError: Shares that sum to more than 1; names of no module; an example that the network does not run on;
            a network that cannot be traced, that has no convolution to convert, or that computes something else when
            its operations go by scales.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from goctconv.layers import octave
        >>> model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3, 2, 1), nn.ReLU())
        >>> model.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten()).append(nn.Linear(8, 5))  # doctest: +ELLIPSIS
        Sequential(...)
        >>> small = octave(model, torch.rand(1, 3, 32, 32))
        >>> small.get_submodule("2")  # doctest: +ELLIPSIS
        StridedGOctConv(...)
        >>> small(torch.rand(2, 3, 33, 47)).shape
        torch.Size([2, 5])

    Source: Chen et al., "Drop an Octave: Reducing Spatial Redundancy in Convolutional Neural Networks with Octave
    Convolution", ICCV 2019; with several coarse scales, Cheng et al., TPAMI 2021.
    """
    model = unwrapped(model)
    if isinstance(model, torch.jit.ScriptModule):
        cure = "pass the network that it was made of"
        raise ArgumentTypeError("model", type(model).__name__, problem="is compiled by TorchScript", cure=cure)
    args = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    if not any(True for _ in tensors_in(args)):
        raise ArgumentTypeError("example_inputs", example_inputs, "a tensor, or a tuple of arguments with one")
    shares = _shares(alpha)
    check_choice("downsample", downsample, ("avg", "max"))
    check_choice("upsample", upsample, get_args(Upsample))
    names = _names(model, keep)
    network = copy.deepcopy(model).eval()
    _check_example(network, example_inputs, args)
    graph = traced(network, args)
    _check_equal(
        network, _converted(network, graph, Choices((0.0,) * len(shares), downsample, upsample, {*names})), args
    )
    result = _converted(network, graph, Choices(shares, downsample, upsample, {*names}))
    _check_runs(result, args)
    _set_modes(result, model)
    return result


def _shares(alpha: float | Sequence[float]) -> tuple[float, ...]:
    given = tuple(alpha) if isinstance(alpha, Sequence) else (alpha,)
    expected = "a number from 0 to 1, or one for each coarser scale, that sum to at most 1"
    cure = "for several scales pass a tuple such as (0.25, 0.25)"
    try:
        shares = tuple(check_share("alpha", share) for share in given)
    except ArgumentError as error:
        raise type(error)("alpha", alpha, expected, cure) from None
    if not shares or sum(shares) > 1 + 1e-9:
        raise ArgumentError("alpha", alpha, expected, cure)
    return shares


def _names(model: nn.Module, keep: Selection) -> set[str]:
    if isinstance(keep, list | tuple | set | frozenset) and not keep:
        return set()
    modules = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
    return set(select(model, modules, keep, "keep", "module"))


@torch.no_grad()
def _check_example(network: nn.Module, example_inputs: Any, args: tuple[Any, ...]) -> None:
    """Check that a network runs on a copy of the example."""
    try:
        network(*map_tensors(torch.clone, args))
    except Exception as error:
        is_image = isinstance(example_inputs, torch.Tensor)  # of which a message shows the shape
        shapes = "" if is_image else f"of shape {', '.join(str(tuple(tensor.shape)) for tensor in tensors_in(args))} "
        reason = escaped(textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" …"))
        kind = ArgumentError if is_image or isinstance(example_inputs, tuple) else ArgumentTypeError
        problem = f"{shapes}does not run through the model ({reason})"
        cure = "pass what the model is called with: a batch of images (B, C, H, W), or a tuple of its arguments"
        raise kind("example_inputs", example_inputs, problem=problem, cure=cure) from error


def _converted(network: nn.Module, graph: fx.Graph, choices: Choices) -> fx.GraphModule:
    """Return a converted copy of a network in eval mode."""
    while True:
        rewriter = Rewriter(network, graph, choices, rule_of)
        try:
            rewritten = rewriter.run()
        except ChoicesChanged:
            continue
        break
    if not rewriter.converted:
        expected = "a network with a torch.nn.Conv2d that gives several pixels and that {keep} does not name"
        cure = "pass a batch of images (B, C, H, W) as {example_inputs}, of a size that leaves several pixels"
        raise ArgumentError("model", type(network).__name__, expected, cure)
    twin = copy.deepcopy(network)
    found: dict[str, Any] = {}
    for node in rewritten.nodes:
        if node.op in {"call_module", "get_attr"}:
            found[node.target] = rewriter.modules.get(node.target) or operator.attrgetter(node.target)(twin)
    return fx.GraphModule(found, rewritten, class_name=f"Octave{type(network).__name__}").eval()


@torch.no_grad()
def _check_equal(network: nn.Module, converted: fx.GraphModule, args: tuple[Any, ...]) -> None:
    """Check that operations by scales compute the same where all width is at the finest scale."""
    for expected, actual in zip(tensors_in(network(*args)), tensors_in(converted(*args)), strict=True):
        if not expected.is_floating_point() or not expected.numel():
            continue
        tolerance = max(_TOLERANCE, 100 * torch.finfo(expected.dtype).eps) * float(expected.abs().max())
        if expected.shape != actual.shape or not torch.allclose(actual, expected, 0, tolerance, equal_nan=True):
            raise ArgumentError(
                "model",
                type(network).__name__,
                problem="computes something else when its operations go by scales, even with all width at the finest",
                cure="name the modules of unusual operations in {keep}",
            )


class _Runner(fx.Interpreter):
    """Runs a graph and remembers what it was at."""

    at: Any = None

    def run_node(self, n: fx.Node) -> Any:
        self.at = n.target
        return super().run_node(n)


@torch.no_grad()
def _check_runs(converted: fx.GraphModule, args: tuple[Any, ...]) -> None:
    runner = _Runner(converted)
    try:
        runner.run(*args)
    except Exception as error:
        problem = f"does not run on the example with coarse scales: {runner.at} raised {type(error).__name__}: {error}"
        cure = "pass a larger example, or name the module in {keep}"
        raise ArgumentError("model", type(converted).__name__, cure=cure, problem=escaped(problem)) from error


def _set_modes(converted: nn.Module, model: nn.Module) -> None:
    """Bring every module to train or eval mode as the original's of the same name."""
    known = dict(converted.named_modules())
    for name, module in model.named_modules():
        if name in known:
            known[name].train(module.training)
