from __future__ import annotations

import copy
from typing import Any, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ._arithmetic import flush, is_fixed
from ._deployed import Deployed
from ._fold import Folded, fold_blocks, fold_factors, fold_into
from ._parts import Plain
from ._report import Deployment
from ._rewrite import rewrite
from ._traced import pairs_of

Backend: TypeAlias = Literal["eager", "compile"]

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 1e-1}
_SIDE = 64  # of the image of a pass, where none is given


def deploy(
    model: nn.Module,
    *,
    backend: Backend = "eager",
    dtype: torch.dtype | None = None,
    example_inputs: Tensor | tuple[Any, ...] | None = None,
) -> Deployed:
    """Return a network that computes the same as another one, faster, and can no longer be trained.

    BatchNorm and constant factors of weights become part of the convolutions before them, computed in float64 and rounded
    once; weights too small for a normal number become zero. ``deployment`` of what is returned tells what was done.

    Works with any network. In blocks of this package the order of the layers is known; elsewhere, a BatchNorm is
    folded only if a pass with ``example_inputs`` shows that it alone takes the output of a convolution, and if the
    output of the network stays the same.

    Args:
        model: The network, in training mode or not; it is left as it is.
        backend: "eager", or "compile" for `torch.compile`, whose first call for a size takes minutes.
        dtype: What to compute in: torch.float32, float64, bfloat16 or float16; by default that of the parameters.
            Inputs are converted, and outputs converted back to the type of the input.
        example_inputs: A tensor or a tuple of arguments that the network takes; by default an image of 64×64 pixels. Only
            networks with BatchNorm outside of this package's blocks need it.

    Returns:
        A module in eval mode that is called like ``model``.

    Raises:
        TypeError: ``model`` is no module, or ``dtype`` no type of floating-point numbers.
        ValueError: Another ``backend``; a network that is compiled, scripted or quantized.

    Example:
        >>> import torch
        >>> import goctconv
        >>> model = goctconv.create_model("test_csnet").eval()
        >>> deployed = goctconv.deploy(model)
        >>> deployed(torch.rand(1, 3, 67, 83)).shape
        torch.Size([1, 1, 67, 83])
    """
    _check(model, backend, dtype)
    network = copy.deepcopy(unwrapped(model)).eval().requires_grad_(requires_grad=False)
    plain, folded, notes = Plain(network), Folded(), []
    fold_blocks(network, plain, folded)
    if any(is_fixed(module) for module in network.modules()):
        network = _fold_elsewhere(network, example_inputs, folded, notes)
    fold_factors(network, folded)
    if dtype is not None:
        network = network.to(dtype)
    rewritten = rewrite(network)
    if _is_on_cpu(network):
        network = network.to(memory_format=torch.channels_last)
    notes += _left(network)
    report = Deployment(
        network=type(network).__name__,
        backend=backend,
        dtype=str(_dtype_of(network)).removeprefix("torch."),
        folded=tuple(folded.norms),
        scaled=tuple(folded.factors),
        flushed=flush(network),
        rewritten=tuple(rewritten),
        notes=tuple(notes),
    )
    return Deployed(network, report, None if dtype is None else dtype)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside wrappers for several devices."""
    while isinstance(model, DataParallel | DistributedDataParallel):
        model = cast("nn.Module", model.module)
    return model


def _check(model: object, backend: str, dtype: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}: make it with create_model")
    if isinstance(model, Deployed):
        raise ValueError("this network is deployed already: deploy the one that it was made from")
    if isinstance(model, torch.jit.ScriptModule) or hasattr(model, "_orig_mod"):
        raise ValueError(
            f"a {type(model).__name__} cannot be changed any more: deploy the network it was made from "
            "(model._orig_mod of torch.compile), with backend='compile' if it is to be compiled"
        )
    if backend not in get_args(Backend):
        raise ValueError(f"backend={backend!r} must be one of {get_args(Backend)}")
    if dtype is not None and dtype not in _DTYPES:
        names = ", ".join(map(str, _DTYPES))
        raise TypeError(f"dtype={dtype!r} must be one of {names}, or None for that of the parameters")
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise ValueError(f"{name} has no values, it is on the meta device: load weights first")


def _is_on_cpu(network: nn.Module) -> bool:
    return all(one.device.type == "cpu" for one in network.parameters())


def _dtype_of(network: nn.Module) -> torch.dtype:
    return next((one.dtype for one in network.parameters() if one.is_floating_point()), torch.get_default_dtype())


def _fold_elsewhere(
    network: nn.Module, example_inputs: Tensor | tuple[Any, ...] | None, folded: Folded, notes: list[str]
) -> nn.Module:
    """Return the network with what a pass proves foldable folded, if that leaves its output as it is."""
    call = _example(network, example_inputs)
    try:
        with torch.no_grad():
            expected = network(*call)
        pairs = pairs_of(network, call, Plain(network))
    except Exception as error:  # whatever a network raises that takes other inputs
        if example_inputs is not None:
            raise ValueError(f"the network does not run on example_inputs: {error}") from error
        notes.append(f"the network does not run on an image of {_SIDE}x{_SIDE}: pass example_inputs, to fold more")
        return network
    before = copy.deepcopy(network)
    known = len(folded.norms), len(folded.factors)
    for pair in pairs:
        fold_into(network, pair.layer, pair.scale, pair.norm, folded)
    with torch.no_grad():
        found = network(*call)
    if _are_close(found, expected):
        return network
    del folded.norms[known[0] :], folded.factors[known[1] :]
    notes.append("folding outside of this package's blocks changed the output, and was undone")
    return before


def _example(network: nn.Module, given: Tensor | tuple[Any, ...] | None) -> tuple[Any, ...]:
    if given is not None:
        return given if isinstance(given, tuple) else (given,)
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    channels = getattr(network, "in_chans", 3 if first is None else first.in_channels)
    like = next(network.parameters())
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(1, channels, _SIDE, _SIDE, generator=generator).to(like.device, like.dtype),)


def _are_close(found: Any, expected: Any) -> bool:
    pairs = zip(_tensors(found), _tensors(expected), strict=True)
    return all(
        bool((a - b).abs().max() <= _TOLERANCE.get(b.dtype, 0) * b.abs().max()) for a, b in pairs if b.numel()
    )


def _tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(output) if isinstance(leaf, Tensor)]


def _left(network: nn.Module) -> list[str]:
    left = [name for name, module in network.named_modules() if isinstance(module, _BatchNorm)]
    if not left:
        return []
    return [f"{len(left)} BatchNorm layers stand behind no convolution of their own, such as {left[0]}"]
