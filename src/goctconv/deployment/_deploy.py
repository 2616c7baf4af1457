from __future__ import annotations

import copy
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from .._checks import ArgumentError, ArgumentTypeError, check_choice, check_integer, warn_caller
from .._torch import BatchNorm, is_compiled, map_tensors, tensors_in
from ..graph import drop_copied_hooks, unwrapped
from ._deployed import DeployedModel, DeploymentReport
from ._fold import Folded, drop_zero_paths, flush, fold_blocks, fold_factors, fold_into, is_fixed, pairs_of
from ._parts import Plain
from ._rewrite import rewrite
from .native import NativeNetwork, verified

Backend: TypeAlias = Literal["eager", "compile", "native"]

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 1e-1}
_SIDE = 64  # of the image of a pass, where none is given


def deploy(
    model: nn.Module,
    *,
    backend: Backend = "eager",
    dtype: torch.dtype | None = None,
    example_inputs: Tensor | tuple[Any, ...] | None = None,
    threads: int | None = None,
) -> DeployedModel:
    """Return a faster, numerically equivalent inference model.

    BatchNorm and constant factors of weights are folded into the convolutions before them, in float64 with one
    rounding; weights too small for a normal number become zero; paths that only add zero are removed. On a processor,
    the layers of this package then compute with faster kernels, in place. In export and compilation, if a gradient is
    needed, and on other devices they use PyTorch's own operations, with the same result.

    Any network can be deployed. In blocks of this package the order of the layers is known; elsewhere, a BatchNorm is
    folded only if a pass with ``example_inputs`` shows that it alone takes the output of a convolution, and if the
    output of the network stays the same. If control flow depends on the input size, pass an example of the size that
    the network will get.

    After the first call of a block of this package, a process with glibc keeps up to 64 MiB of freed memory instead of
    requesting it from the system at every call. After the first large image (about 1024×1024), it keeps what a call
    takes, up to 2 GiB, until ``release_memory()``.

    Args:
        model: The network, in training mode or not; it is not changed.
        backend: "eager"; "compile" for `torch.compile`, whose first call for a size takes minutes; or "native", for
            networks of one tensor (B, C, H, W) to one: written as C (see `goctconv.deployment.export_c`), compiled with
            ``$CC``, ziglang, clang or gcc, kept in the user's cache folder, and compared with the network. It runs for
            float32 images on the processor where no gradient is needed, and the eager form otherwise, or after
            ``load_state_dict``. Without a compiler, there is a warning and the eager form.
        dtype: Type of the computation: torch.float32, float64, bfloat16 or float16. Inputs are converted to it, and
            outputs back to the type of the input. None: that of the parameters, which inputs must have too. On
            processors, float16 is many times slower than float32.
        example_inputs: A tensor or a tuple of arguments of the network; by default an image of 64×64 pixels. Used only
            for networks with BatchNorm outside of this package's blocks.
        threads: Of the native form, which splits batches into images, and single images into bands of rows; by default
            as many as the process may use. PyTorch's own are set by `torch.set_num_threads`.

    Returns:
        A module that is called like ``model`` and stays in eval mode; ``train()`` is an error. Weights that are changed
        in place, or passed by `torch.func.functional_call`, may have no effect; those that ``load_state_dict`` loads
        have. Its attributes are ``network``, the network that runs; ``deployment``, a `DeploymentReport`; and
        ``dtype``, the type that inputs are converted to, or None.

    Raises:
        ArgumentTypeError: ``model`` is no module, or one that is compiled, scripted or deployed already; a ``dtype``
            that is none of those; ``example_inputs`` that are neither a tensor nor a tuple.
        NotSupportedError: The native form has not all operations of the network; names one and its module.
        ArgumentError: Another ``backend``; ``threads`` with another one; weights without values;
            ``example_inputs`` that the network does not take.

    Example:
        >>> import torch
        >>> import goctconv
        >>> model = goctconv.create_model("test_csnet").eval()
        >>> deployed = goctconv.deploy(model)
        >>> deployed(torch.rand(1, 3, 67, 83)).shape
        torch.Size([1, 1, 67, 83])
    """
    _check(model, backend, dtype, example_inputs)
    _check_threads(threads, backend, dtype)
    network = copy.deepcopy(unwrapped(model)).eval().requires_grad_(requires_grad=False)
    drop_copied_hooks(network.modules())
    folded, notes = Folded(), list[str]()
    fold_blocks(network, Plain(network), folded)
    if any(is_fixed(module) for module in network.modules()):
        network = _fold_elsewhere(network, example_inputs, folded, notes)
    fold_factors(network, folded)
    if dtype is not None:
        network = network.to(dtype)
    flushed, dropped = flush(network), drop_zero_paths(network)
    network, rewritten = rewrite(network)
    native, note = _native(network, threads) if backend == "native" else (None, "")
    report = DeploymentReport(
        network=type(unwrapped(model)).__name__,
        backend="eager" if note else backend,
        dtype=str(_dtype_of(network)).removeprefix("torch."),
        folded=tuple(folded.norms),
        scaled=tuple(folded.factors),
        dropped=tuple(dropped),
        flushed=flushed,
        rewritten=tuple(rewritten),
        notes=(*notes, *_left(network), *filter(None, [note])),
    )
    _put_channels_last(network)
    return DeployedModel(network, report, dtype, native)


def _check(model: object, backend: str, dtype: object, example_inputs: object) -> None:
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError("model", model, "a torch.nn.Module", "make it with create_model")
    cure = "deploy the one that it was made from"
    if isinstance(model, DeployedModel):
        raise ArgumentTypeError("model", model, problem="is deployed already", cure=cure)
    if is_compiled(model):
        cure = "deploy the network it was made from (model._orig_mod of torch.compile), with {backend='compile'}"
        raise ArgumentTypeError("model", model, problem="cannot be changed any more", cure=cure)
    check_choice("backend", backend, get_args(Backend))
    if dtype is not None and dtype not in _DTYPES:
        expected = f"one of {', '.join(map(str, _DTYPES))}, or None for that of the parameters"
        raise ArgumentTypeError("dtype", dtype, expected)
    if not (example_inputs is None or isinstance(example_inputs, Tensor | tuple)):
        expected = "a tensor or a tuple of arguments, such as torch.zeros(1, 3, 224, 224)"
        raise ArgumentTypeError("example_inputs", example_inputs, expected)
    for name, parameter in model.named_parameters():
        if is_lazy(parameter) or parameter.is_meta:
            cure = "load weights first, or run the model once if it is lazy"
            raise ArgumentError("model", model, problem=f"has no values in {name}", cure=cure)


def _check_threads(threads: int | None, backend: str, dtype: torch.dtype | None) -> None:
    if backend == "native" and dtype not in {None, torch.float32}:
        raise ArgumentError("dtype", dtype, "torch.float32, the only one of {backend='native'}")
    if threads is None:
        return
    check_integer("threads", threads, 1)
    if backend != "native":
        raise ArgumentError(
            "threads", threads, problem="belongs to {backend='native'}", cure="use torch.set_num_threads"
        )


def _native(network: nn.Module, threads: int | None) -> tuple[NativeNetwork | None, str]:
    """Return the network as compiled C, or a note, which is a warning too."""
    if _dtype_of(network) != torch.float32 or any(weight.device.type != "cpu" for weight in network.parameters()):
        raise ArgumentError(
            "model", network, "in float32 on the processor for {backend='native'}", "pass model.cpu().float()"
        )
    native, note = verified(network, _channels_of(network), threads)
    if note:
        warn_caller(note)
    return native, note


def _channels_of(network: nn.Module) -> int:
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    return int(getattr(network, "in_chans", 3 if first is None else first.in_channels))


@torch.no_grad()
def _put_channels_last(network: nn.Module) -> None:
    """Convert convolutions on a processor to the memory layout in which they are fastest; features follow."""
    for conv in network.modules():
        is_computed = parametrize.is_parametrized(conv) or not isinstance(getattr(conv, "weight", None), nn.Parameter)
        if isinstance(conv, nn.Conv2d) and not is_computed and conv.weight.device.type == "cpu":
            conv.weight = nn.Parameter(conv.weight.contiguous(memory_format=torch.channels_last), requires_grad=False)


def _dtype_of(network: nn.Module) -> torch.dtype:
    dtypes = (weight.dtype for weight in network.parameters() if weight.is_floating_point())
    return next(dtypes, torch.get_default_dtype())


def _fold_elsewhere(
    network: nn.Module, example_inputs: Tensor | tuple[Any, ...] | None, folded: Folded, notes: list[str]
) -> nn.Module:
    """Return the network after folding what a pass shows to be foldable, if its output stays the same."""
    call = _example(network, example_inputs)
    try:
        with torch.no_grad():
            expected = network(*map_tensors(torch.clone, call))  # a network may change its arguments
        pairs = pairs_of(network, map_tensors(torch.clone, call), Plain(network))
    except Exception as error:  # whatever a network raises that takes other inputs
        if example_inputs is not None:
            problem = f"cannot be run by the network ({error})"
            raise ArgumentError("example_inputs", example_inputs, problem=problem) from error
        notes.append(f"the network does not run on an image of {_SIDE}x{_SIDE}: pass example_inputs, to fold more")
        return network
    if not all(bool(output.isfinite().all()) for output in tensors_in(expected)):
        notes.append("the network's output is not finite, so that nothing outside of this package's blocks was folded")
        return network
    before = copy.deepcopy(network)
    known = len(folded.norms), len(folded.factors)
    for layer, scale, norm in pairs:
        fold_into(network, layer, scale, norm, folded)
    with torch.no_grad():
        found = network(*map_tensors(torch.clone, call))
    if _are_close(found, expected):
        return network
    del folded.norms[known[0] :], folded.factors[known[1] :]
    notes.append("folding outside of this package's blocks changed the output, and was undone")
    return before


def _example(network: nn.Module, given: Tensor | tuple[Any, ...] | None) -> tuple[Any, ...]:
    if given is not None:
        return given if isinstance(given, tuple) else (given,)
    channels = _channels_of(network)
    like = next(tensor for tensor in (*network.parameters(), *network.buffers()) if tensor.is_floating_point())
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(1, channels, _SIDE, _SIDE, generator=generator).to(like.device, like.dtype),)


def _are_close(found: Any, expected: Any) -> bool:
    pairs = zip(tensors_in(found), tensors_in(expected), strict=True)
    return all(bool((a - b).abs().max() <= _TOLERANCE.get(b.dtype, 0) * b.abs().max()) for a, b in pairs if b.numel())


def _left(network: nn.Module) -> list[str]:
    """Return notes on the normalisation layers that are left, and why."""
    reasons: dict[Any, str] = {
        BatchNorm: "BatchNorm layers are not alone behind a convolution, or are used twice",
        nn.GroupNorm | nn.LayerNorm: "layers normalise by what is in the image",
    }
    left = {
        reason: [name for name, module in network.named_modules() if isinstance(module, kinds)]
        for kinds, reason in reasons.items()
    }
    return [f"{len(names)} {reason}, such as {names[0]}" for reason, names in left.items() if names]
