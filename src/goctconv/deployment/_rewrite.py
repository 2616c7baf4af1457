"""Blocks and layers that run as programs where one suits, and as they are everywhere else."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from .._features import Features, as_features
from ..layers import FusionHead, ILBlock, ParallelDilatedConv, PerScale, SimplifiedGOctConv
from ..layers import GOctConv
from ._cpu import LAST, Step, convolution, is_prediction, keep_freed_memory, suits
from ._fold import steps_of
from ._kernels import Program, channels_in, channels_out, first_layer, last_layer, program_of, widths_in
from ._parts import Plain, is_producer


class _Remade(nn.Module):
    """What holds a program: made at the first call, and again after weights are loaded or moved.

    A program holds weights in another order.
    """

    _program: Any = None
    _dtype: torch.dtype | None = None  # of all weights; None where they differ

    def _made_program(self) -> Any:
        raise NotImplementedError

    def _takes(self, given: list[Tensor]) -> bool:
        """Whether the program is for these tensors; it is made here if there is none."""
        if not given or not all(map(suits, given)):
            return False
        x = given[0]
        if self._program is None:
            kinds = {(one.dtype, one.device.type) for one in self.parameters()}
            self._dtype = next(iter(kinds))[0] if len(kinds) == 1 else None
            if kinds != {(x.dtype, "cpu")}:
                return False
            keep_freed_memory()
            self._program = self._made_program()
        return self._dtype == x.dtype

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._program = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._program = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_program": None}


class _Rewritten(_Remade):
    """A block or a layer of this package that runs its program where that suits its input."""

    def forward(self, features: Tensor | Features) -> Tensor | Features:
        """Return the output scales."""
        if not self._takes(_tensors_with_channels(features)):
            return cast("Tensor | Features", super().forward(features))
        layer = first_layer(self)
        given = as_features(features, widths_in(layer), plain=isinstance(channels_in(layer), int))
        outputs = cast("Program", self._program)([x.contiguous(memory_format=LAST) for x in given])
        return outputs[0] if isinstance(channels_out(last_layer(self)), int) else tuple(outputs)

    def _made_program(self) -> Program:
        return program_of(self)


class RewrittenPrediction(_Remade, nn.Conv2d):
    """A 1x1 convolution to one channel, which is a product with a vector."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name that torch.nn.Conv2d gives it
        """Return the prediction."""
        fits = self._takes([input]) and input.shape[1] == self.in_channels
        return cast("Step", self._program)(input) if fits else super().forward(input)

    def _made_program(self) -> Step:
        return convolution(self)


class RewrittenILBlock(_Rewritten, ILBlock):
    """An `ILBlock` with a program."""


class RewrittenFusionHead(_Rewritten, FusionHead):  # type: ignore[misc]  # it takes what the head takes
    """A `FusionHead` with a program."""


class RewrittenExchange(_Rewritten, GOctConv):
    """A `GOctConv`, `CrossStageGOctConv` or `OctConv` with a program."""


class RewrittenDepthwise(_Rewritten, SimplifiedGOctConv):
    """A `SimplifiedGOctConv` with a program."""


class RewrittenDilated(_Rewritten, ParallelDilatedConv):
    """A `ParallelDilatedConv` with a program."""


def _tensors_with_channels(features: Any) -> list[Tensor]:
    """Return the scales that have channels."""
    given = features if isinstance(features, tuple | list) else (features,)
    return [x for x in given if isinstance(x, Tensor) and x.numel()]


def rewrite(network: nn.Module) -> tuple[nn.Module, list[str]]:
    """Give every block and layer of this package its program; returns the network and their names."""
    plain, done = Plain(network), list[str]()
    for name, module in list(network.named_modules()):
        kind = _kind_of(module)
        if kind is None or not plain(module) or any(name.startswith(f"{one}.") for one in done):
            continue
        new = kind.__new__(kind)
        new.__dict__.update(module.__dict__)
        if not name:
            return new, [type(module).__name__]
        network.set_submodule(name, new)
        done.append(name)
    return network, done


def _kind_of(module: nn.Module) -> Any:
    if type(module) in {ILBlock, FusionHead}:
        is_known = all(
            is_producer(getattr(module, layer))
            and type(getattr(module, norm)) is PerScale
            and type(getattr(module, norm.replace("norm", "act"))) is PerScale
            for layer, norm in steps_of(cast("ILBlock | FusionHead", module))
        )
        return (RewrittenILBlock if type(module) is ILBlock else RewrittenFusionHead) if is_known else None
    if not is_producer(module):
        return None
    if type(module) is nn.Conv2d and is_prediction(module):
        return RewrittenPrediction
    if isinstance(module, GOctConv):
        return RewrittenExchange
    return {SimplifiedGOctConv: RewrittenDepthwise, ParallelDilatedConv: RewrittenDilated}.get(type(module))
