"""BatchNorm layers that see nothing but a convolution's output, as a recorded forward pass proves."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._torch import tensors_in
from ..graph import Observer, Operation, recording
from ._fold import is_fixed
from ._parts import Plain, is_producer


class Pair(NamedTuple):
    """A BatchNorm, and the scale of the layer that it alone sees."""

    layer: str
    scale: int
    norm: str


class _Made(NamedTuple):
    layer: str
    scale: int
    tensor: Tensor


class _Uses(Observer):
    """Notes what makes and what takes every tensor.

    Attributes:
        users: For a tensor, by its identity, the modules whose operations take it.
        made: For a tensor, the layer that returned it.
        taken: For a BatchNorm among ``norms``, its input.
        calls: How often each module was called.
    """

    def __init__(self, norms: set[str]) -> None:
        self.users: dict[int, set[str]] = {}
        self.made: dict[int, _Made] = {}
        self.taken: dict[str, Tensor] = {}
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
                self.made[id(tensor)] = _Made(path, scale, tensor)


def pairs_of(network: nn.Module, call: tuple[Any, ...], plain: Plain) -> list[Pair]:
    """Return every BatchNorm that is all that happens to the output of a convolution, in a pass through the network."""
    uses = _Uses({path for path, module in network.named_modules() if is_fixed(module) and plain(module)})
    with torch.no_grad(), recording(network, uses):
        output = network(*call)
    returned = {id(tensor) for tensor in tensors_in(output)}
    pairs = []
    for norm, tensor in uses.taken.items():
        made = uses.made.get(id(tensor))
        is_alone = uses.users.get(id(tensor), {""}) <= {norm} and id(tensor) not in returned
        if made is None or not is_alone or not _fits(network, norm, made):
            continue
        if uses.calls[norm] == uses.calls[made.layer] == 1 and plain(network.get_submodule(made.layer)):
            pairs.append(Pair(made.layer, made.scale, norm))
    return pairs


def _fits(network: nn.Module, norm: str, made: _Made) -> bool:
    """Whether the channels that a BatchNorm normalises are those that the layer makes."""
    is_linear = isinstance(network.get_submodule(made.layer), nn.Linear)
    same = made.tensor.dim() > 1 and made.tensor.shape[1] == network.get_submodule(norm).num_features
    return same and (made.tensor.dim() == 2 or not is_linear)
