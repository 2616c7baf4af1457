"""Folding of BatchNorm and constant factors into convolutions, in blocks and as a recorded forward pass allows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .._torch import BatchNorm, called_plainly, tensors_in
from ..graph import Observer, Operation, recording
from ..layers import Block, FusionHead, GOctConv, ILBlock, PerScale, ScaledConv2d
from ._parts import PLAIN, Foldable, Plain, is_producer, parts_of


@dataclass
class Folded:
    """The names of the folded normalisation layers, and of the convolutions whose constant factor was folded."""

    norms: list[str] = field(default_factory=list)
    factors: list[str] = field(default_factory=list)


def fold_blocks(network: nn.Module, plain: Plain, folded: Folded) -> None:
    """Fold what stands in the blocks of this package, whose order is known."""
    for name, block in network.named_modules():
        if type(block) in {ILBlock, FusionHead} and plain(block):
            for number, layer in enumerate(cast("Block", block).layer_names, 1):
                _fold_norm(network, name, layer, f"norm{number}", folded)


def _fold_norm(network: nn.Module, block: str, layer: str, norm: str, folded: Folded) -> None:
    layer, norm = (f"{block}.{name}" if block else name for name in (layer, norm))
    producer, norms = network.get_submodule(layer), network.get_submodule(norm)
    if not (is_producer(producer) and type(norms) is PerScale):
        return
    for scale, child in list(norms.named_children()):
        if is_fixed(child):
            fold_into(network, layer, int(scale), f"{norm}.{scale}", folded)


def fold_into(network: nn.Module, layer: str, scale: int, norm: str, folded: Folded) -> None:
    """Fold a BatchNorm into the layer whose scale it normalises, and leave the rest of it in its place."""
    module = network.get_submodule(norm)
    affine = affine_of(cast("BatchNorm", module))
    for conv, channels, adds_shift in parts_of(network.get_submodule(layer), scale):
        _note_factor(network, conv, folded)
        fold(conv, Affine(affine.scale[channels], affine.shift[channels]), adds_shift=adds_shift)
    network.set_submodule(norm, rest_of(module))
    folded.norms.append(norm)


def fold_factors(network: nn.Module, folded: Folded) -> None:
    """Multiply the constant factors of the convolutions that are left into their weights."""
    for conv in list(network.modules()):
        if type(conv) is ScaledConv2d and conv.weight_scale != 1 and called_plainly(conv):
            _note_factor(network, conv, folded)
            fold(conv, None)


def _note_factor(network: nn.Module, conv: nn.Module, folded: Folded) -> None:
    if getattr(conv, "weight_scale", 1.0) != 1:
        folded.factors.append(next(name for name, module in network.named_modules() if module is conv))


class _Uses(Observer):
    """Records which layer makes every tensor, and which modules take it."""

    def __init__(self, norms: set[str]) -> None:
        self.users: dict[int, set[str]] = {}  # by the identity of a tensor, the modules whose operations take it
        self.made: dict[int, tuple[str, int, Tensor]] = {}  # by its identity, layer and scale that returned it
        self.taken: dict[str, Tensor] = {}  # inputs of the BatchNorm layers
        self.calls: Counter[str] = Counter()
        self._norms = norms
        self._alive: list[Operation] = []  # so that no identity is given away twice

    def enter(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:  # noqa: ARG002
        """Note the input of a BatchNorm."""
        self.calls[path] += 1
        if path in self._norms and args and isinstance(args[0], Tensor):
            self.taken[path] = args[0]

    def before(self, operation: Operation) -> None:
        """Note what an operation takes; ``new_empty`` takes only the type of a tensor."""
        self._alive.append(operation)
        if operation.name != "new_empty":
            for tensor in operation.tensors:
                self.users.setdefault(id(tensor), set()).add(operation.path)

    def leave(self, path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:  # noqa: ARG002
        """Note the output of a layer with convolutions."""
        if output is not None and is_producer(module):
            for scale, tensor in enumerate((output,) if isinstance(output, Tensor) else output):
                self.made[id(tensor)] = path, scale, tensor


def pairs_of(network: nn.Module, call: tuple[Any, ...], plain: Plain) -> list[tuple[str, int, str]]:
    """Return layer, scale and BatchNorm wherever a pass shows that the BatchNorm alone takes what the layer gives."""
    uses = _Uses({path for path, module in network.named_modules() if is_fixed(module) and plain(module)})
    with torch.no_grad(), recording(network, uses):
        output = network(*call)
    returned = {id(tensor) for tensor in tensors_in(output)}
    pairs = []
    for norm, taken in uses.taken.items():
        is_alone = uses.users.get(id(taken), {""}) <= {norm} and id(taken) not in returned
        if id(taken) not in uses.made or not is_alone:
            continue
        name, scale, tensor = uses.made[id(taken)]
        layer, once = network.get_submodule(name), uses.calls[norm] == uses.calls[name] == 1
        if once and plain(layer) and _fits(layer, network.get_submodule(norm), tensor):
            pairs.append((name, scale, norm))
    return pairs


def _fits(layer: nn.Module, norm: nn.Module, tensor: Tensor) -> bool:
    """Whether the channels that a BatchNorm normalises are those that the layer makes."""
    same = tensor.dim() > 1 and tensor.shape[1] == norm.num_features
    return same and (tensor.dim() == 2 or not isinstance(layer, nn.Linear))


@torch.no_grad()
def drop_zero_paths(network: nn.Module) -> list[str]:
    """Remove the paths between scales that add nothing but zero to others; returns their names."""
    plain, dropped = Plain(network), list[str]()
    for name, layer in network.named_modules():
        if isinstance(layer, GOctConv):
            for path, module in list(layer.paths.items()):
                conv, target = cast("nn.Conv2d", module), path.rpartition("_")[2]
                others = [other for other in layer.paths if other != path and other.endswith(f"_{target}")]
                if others and type(conv) in PLAIN and plain(conv) and conv.bias is None and not conv.weight.any():
                    del layer.paths[path]
                    dropped.append(f"{name}.paths.{path}" if name else f"paths.{path}")
    return dropped


class Affine(NamedTuple):
    """A scale and a shift of every channel, in float64."""

    scale: Tensor
    shift: Tensor


def affine_of(norm: BatchNorm) -> Affine:
    """Return what a BatchNorm does in eval mode."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("this BatchNorm has no running statistics, so that it is no fixed scale and shift")
    mean, variance = norm.running_mean.detach().cpu().double(), norm.running_var.detach().cpu().double()
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().cpu().double()
    shift = -mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().cpu().double()
    return Affine(scale, shift)


def is_fixed(norm: nn.Module) -> bool:
    """Whether a module is a BatchNorm that is a fixed scale and shift in eval mode."""
    known = type(norm) in {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm} or _activates(norm)
    return known and isinstance(norm, BatchNorm) and norm.running_mean is not None and norm.running_var is not None


def rest_of(norm: nn.Module) -> nn.Module:
    """Return what a normalisation does beside scaling and shifting: timm's activate, and drop."""
    return nn.Sequential(*norm.children()) if _activates(norm) else nn.Identity()


def _activates(norm: nn.Module) -> bool:
    kind = type(norm)
    is_timm = kind.__name__ == "BatchNormAct2d" and kind.__module__.startswith("timm.layers.")
    return is_timm and [name for name, _ in norm.named_children()] == ["drop", "act"]


@torch.no_grad()
def fold(conv: Foldable, affine: Affine | None, *, adds_shift: bool = True) -> None:
    """Multiply a following scale and shift, and a constant factor, into a convolution; afterwards it is a plain one."""
    weight = conv.weight.detach()
    dtype, device, layout = weight.dtype, weight.device, memory_format(weight)
    weight = weight.cpu().double() * getattr(conv, "weight_scale", 1.0)
    bias = None if conv.bias is None else conv.bias.detach().cpu().double()
    if affine is not None:
        weight = weight * affine.scale.view(-1, *[1] * (weight.dim() - 1))
        bias = None if bias is None else bias * affine.scale
        if adds_shift:
            bias = affine.shift if bias is None else bias + affine.shift
    conv.weight = nn.Parameter(weight.to(device, dtype, memory_format=layout), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias.to(device, dtype), requires_grad=False)
    if isinstance(conv, ScaledConv2d):
        conv.weight_scale = 1.0


def memory_format(weight: Tensor) -> torch.memory_format:
    """Return the layout of a weight."""
    is_last = weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last and not weight.is_contiguous() else torch.contiguous_format


@torch.no_grad()
def flush(network: nn.Module) -> int:
    """Set what is too small for a normal number to zero, for processors are slow with it; returns how many.

    Of float16 only what is too small for float32: its own small numbers are as fast as others, and of use.
    """
    count = 0
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point() and not tensor.is_meta:
            tiny = (tensor != 0) & (tensor.abs() < min(torch.finfo(tensor.dtype).tiny, torch.finfo(torch.float32).tiny))
            found = int(tiny.sum())
            if found:
                tensor[tiny] = 0
            count += found
    return count
