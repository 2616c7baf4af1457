"""Which BatchNorm sees nothing but a convolution's output, as one pass through the network proves."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

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


class _Uses(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own is not typed
    """Notes for every tensor which modules' operations take it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own is not typed
        self.path: list[str] = []
        self.users: dict[int, set[str]] = {}
        self.alive: list[Any] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, and note what it takes."""
        for one in pytree.tree_leaves((args, kwargs)):
            if isinstance(one, Tensor) and func is not torch.ops.aten.new_empty.default:  # which takes only its type
                self.users.setdefault(id(one), set()).add(self.path[-1] if self.path else "")
        result = func(*args, **(kwargs or {}))
        self.alive.append((args, kwargs, result))  # so that no identity is given away twice
        return result


def pairs_of(network: nn.Module, call: tuple[Any, ...], plain: Plain) -> list[Pair]:
    """Return every BatchNorm that is all that happens to the output of a convolution, in a pass through the network."""
    uses = _Uses()
    made: dict[int, _Made] = {}
    calls: dict[str, int] = {}
    seen: dict[str, Tensor] = {}

    def enter(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        uses.path.append(name)
        calls[name] = calls.get(name, 0) + 1
        if is_fixed(module) and args and isinstance(args[0], Tensor):
            seen[name] = args[0]

    def leave(name: str, module: nn.Module, output: Any) -> None:
        uses.path.pop()
        if is_producer(module):
            for scale, tensor in enumerate((output,) if isinstance(output, Tensor) else output):
                made[id(tensor)] = _Made(name, scale, tensor)

    handles = [
        handle
        for name, module in network.named_modules()
        if plain(module) or any(True for _ in module.children())
        for handle in (
            module.register_forward_pre_hook(lambda m, args, name=name: enter(name, m, args)),
            module.register_forward_hook(lambda m, _, output, name=name: leave(name, m, output)),
        )
    ]
    try:
        with torch.no_grad(), uses:
            output = network(*call)
    finally:
        for handle in handles:
            handle.remove()
    given = {id(leaf) for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)}
    found = []
    for norm, tensor in seen.items():
        one = made.get(id(tensor))
        if (
            one is None
            or id(tensor) in given
            or not _fits(network, norm, one)
            or not uses.users.get(id(tensor), {""}) <= {norm}
        ):
            continue
        if calls[norm] == calls[one.layer] == 1 and plain(network.get_submodule(one.layer)):
            found.append(Pair(one.layer, one.scale, norm))
    return found


def _fits(network: nn.Module, norm: str, made: _Made) -> bool:
    """Whether the channels that a BatchNorm normalises are those that the layer makes."""
    is_linear = isinstance(network.get_submodule(made.layer), nn.Linear)
    same = made.tensor.dim() > 1 and made.tensor.shape[1] == network.get_submodule(norm).num_features
    return same and (made.tensor.dim() == 2 or not is_linear)
