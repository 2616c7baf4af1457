"""Blocks and layers that run as programs where one suits, and as they are everywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .._features import Features, as_features
from ..layers import FusionHead, ILBlock, ParallelDilatedConv, PerScale, SimplifiedGOctConv
from ..layers._multi_scale_conv import MultiScaleConv2d
from ._cpu import LAST, suits
from ._fold import steps_of
from ._parts import Plain
from ._programs import Program, program_of

_Base = nn.Module if TYPE_CHECKING else object


class _Rewritten(_Base):
    """What runs a program where that suits its input.

    A program holds weights in another order. It is made at the first call, and again after weights are loaded or moved.
    """

    _program: Program | None = None

    def forward(self, features: Tensor | Features) -> Tensor | Features:
        """Return the output scales."""
        first = features if isinstance(features, Tensor) else next((x for x in features if x.numel()), None)
        if not (isinstance(first, Tensor) and suits(first) and self._is_of_type(first)):
            return super().forward(features)
        layer = _first(self)
        widths = layer.widths if isinstance(layer, SimplifiedGOctConv) else layer.in_widths
        given = as_features(features, widths, plain=isinstance(_channels(layer), int))
        if self._program is None:
            self._program = program_of(self)
        outputs = self._program(tuple(x.contiguous(memory_format=LAST) for x in given))
        return outputs[0] if isinstance(_channels(_last(self), out=True), int) else outputs

    def _is_of_type(self, x: Tensor) -> bool:
        return all(one.dtype == x.dtype and one.device == x.device for one in self.parameters())

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        self._program = None
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._program = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_program": None}


class RewrittenILBlock(_Rewritten, ILBlock):
    """An `ILBlock` with a program."""


class RewrittenFusionHead(_Rewritten, FusionHead):
    """A `FusionHead` with a program."""


class RewrittenExchange(_Rewritten, MultiScaleConv2d):
    """A `GOctConv`, `CrossStageGOctConv` or `OctConv` with a program."""


class RewrittenDepthwise(_Rewritten, SimplifiedGOctConv):
    """A `SimplifiedGOctConv` with a program."""


class RewrittenDilated(_Rewritten, ParallelDilatedConv):
    """A `ParallelDilatedConv` with a program."""


def _first(module: nn.Module) -> Any:
    return getattr(module, "conv1", None) or getattr(module, "fuse", None) or module


def _last(module: nn.Module) -> Any:
    return getattr(module, "conv3", None) or getattr(module, "merge", None) or module


def _channels(layer: Any, *, out: bool = False) -> Any:
    return layer.channels if isinstance(layer, SimplifiedGOctConv) else layer.out_channels if out else layer.in_channels


def rewrite(network: nn.Module) -> list[str]:
    """Give every block and layer of this package its program; returns their names."""
    plain, done = Plain(network), []
    for name, module in list(network.named_modules()):
        kind = _kind_of(module)
        if name and kind is not None and plain(module) and not any(name.startswith(f"{one}.") for one in done):
            new = kind.__new__(kind)
            new.__dict__.update(module.__dict__)
            network.set_submodule(name, new)
            done.append(name)
    return done


def _kind_of(module: nn.Module) -> Any:
    if type(module) in {ILBlock, FusionHead}:
        is_known = all(
            isinstance(getattr(module, layer), MultiScaleConv2d | SimplifiedGOctConv | ParallelDilatedConv)
            and type(getattr(module, norm)) is PerScale
            and type(getattr(module, norm.replace("norm", "act"))) is PerScale
            for layer, norm in steps_of(module)
        )
        return (RewrittenILBlock if type(module) is ILBlock else RewrittenFusionHead) if is_known else None
    if isinstance(module, MultiScaleConv2d):
        return RewrittenExchange
    return {SimplifiedGOctConv: RewrittenDepthwise, ParallelDilatedConv: RewrittenDilated}.get(type(module))
