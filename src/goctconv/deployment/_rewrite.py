"""Blocks and layers that use kernels on a processor, and PyTorch's own operations elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from .._features import Features
from .._torch import ObservedModule
from ..layers import (
    PLAIN,
    Block,
    CrossStageGOctConv,
    FusionHead,
    GOctConv,
    ILBlock,
    Kernels,
    OctConv,
    ParallelDilatedConv,
    PerScale,
    ScaleLayer,
    SimplifiedGOctConv,
)
from ._kernels import LAST, Kernel, ProcessorKernels, activation, convolution, is_prediction, suits
from ._machine import freed_memory, keep_freed_memory
from ._parts import Plain, is_producer

Ends: TypeAlias = Sequence[Kernel | None]


_LARGE = 2**24  # bytes of an input, from which on blocks of 32 MiB follow


class _WithKernels(ObservedModule):
    """A module that holds kernels: made at the first call, and again after weights are loaded or moved."""

    _made: Any = None
    _dtype: torch.dtype | None = None  # of all weights; None where they differ

    def _make(self) -> Any:
        raise NotImplementedError

    def _fits(self, given: Sequence[Tensor]) -> bool:
        """Whether the kernels are for these tensors; they are made here if there are none."""
        if not given or not all(map(suits, given)):
            return False
        x = given[0]
        if self._made is None:
            kinds = {(weight.dtype, weight.device.type) for weight in self.parameters()}
            self._dtype = next(iter(kinds))[0] if len(kinds) == 1 else None
            if kinds != {(x.dtype, "cpu")}:
                return False
            keep_freed_memory()
            self._made = self._make()
        if x.nbytes >= _LARGE:
            freed_memory.keep()
        return self._dtype == x.dtype

    def tensors_changed(self) -> None:
        """Forget the kernels, which hold weights in another order."""
        self._made = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": None}


class _LayerWithKernels(_WithKernels, ScaleLayer):
    """A layer of this package that uses kernels where they suit its input."""

    def compute(self, features: list[Tensor], kernels: Kernels = PLAIN, ends: Ends | None = None) -> list[Tensor]:
        """Return the output scales."""
        if kernels is PLAIN and self._fits([x for x in features if x.numel()]):
            features[:] = [x.contiguous(memory_format=LAST) for x in features]
            kernels = self._made
        return super().compute(features, kernels, ends)

    def _make(self) -> ProcessorKernels:
        return ProcessorKernels()


class _BlockWithKernels(_WithKernels, Block):
    """A block of this package whose layers run one after the other, without calls of modules, where kernels suit."""

    def forward(self, features: Tensor | Features) -> Tensor | Features:
        """Return the output scales."""
        first, last = getattr(self, self.layer_names[0]), getattr(self, self.layer_names[-1])
        given = first.check_inputs(features)
        if not self._fits([x for x in given if x.numel()]):
            return super().forward(features)
        kernels, chain = self._made
        outputs = [x.contiguous(memory_format=LAST) for x in given]
        del given
        for layer, ends in chain:
            outputs = layer.compute(outputs, kernels, ends)
        return outputs[0] if last.gives_tensor else tuple(outputs)

    def _make(self) -> tuple[ProcessorKernels, list[tuple[ScaleLayer, Ends]]]:
        return ProcessorKernels(), [(layer, _ends(norm, act)) for layer, norm, act in self.steps()]


class PredictionWithKernels(_WithKernels, nn.Conv2d):
    """A 1x1 convolution to one channel, which is a product with a vector."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name that torch.nn.Conv2d gives it
        """Return the prediction."""
        fits = self._fits([input]) and input.shape[1] == self.in_channels
        return cast("Kernel", self._made)(input) if fits else super().forward(input)

    def _make(self) -> Kernel:
        return convolution(self)


class ILBlockWithKernels(_BlockWithKernels, ILBlock):
    """An `ILBlock` with kernels."""


class FusionHeadWithKernels(_BlockWithKernels, FusionHead):
    """A `FusionHead` with kernels."""


class GOctConvWithKernels(_LayerWithKernels, GOctConv):
    """A `GOctConv`, `CrossStageGOctConv` or `OctConv` with kernels."""


class SimplifiedGOctConvWithKernels(_LayerWithKernels, SimplifiedGOctConv):
    """A `SimplifiedGOctConv` with kernels."""


class ParallelDilatedConvWithKernels(_LayerWithKernels, ParallelDilatedConv):
    """A `ParallelDilatedConv` with kernels."""


_KINDS: dict[type[nn.Module], type[_WithKernels]] = {
    nn.Conv2d: PredictionWithKernels,
    ILBlock: ILBlockWithKernels,
    FusionHead: FusionHeadWithKernels,
    GOctConv: GOctConvWithKernels,
    CrossStageGOctConv: GOctConvWithKernels,
    OctConv: GOctConvWithKernels,
    SimplifiedGOctConv: SimplifiedGOctConvWithKernels,
    ParallelDilatedConv: ParallelDilatedConvWithKernels,
}


def _ends(norm: PerScale, act: PerScale) -> Ends:
    """Return for every scale what follows the convolutions."""
    norms, acts = dict(norm.named_children()), dict(act.named_children())
    return [_end(norms.get(str(scale)), acts.get(str(scale))) for scale in range(len(act.in_widths))]


def _end(norm: nn.Module | None, act: nn.Module | None) -> Kernel | None:
    activate = None if act is None else activation(act)
    if norm is None or type(norm) is nn.Identity:
        return activate
    if activate is None:
        return norm
    return lambda x: activate(norm(x))


def rewrite(network: nn.Module) -> tuple[nn.Module, list[str]]:
    """Give kernels to every block and layer of this package; returns the network and their names."""
    plain, done = Plain(network), list[str]()
    for name, module in list(network.named_modules()):
        kind = _kind_of(module)
        if kind is None or not plain(module) or any(name.startswith(f"{block}.") for block in done):
            continue
        new = kind.__new__(kind)
        new.__dict__.update(module.__dict__)
        if not name:
            return new, [type(module).__name__]
        network.set_submodule(name, new)
        done.append(name)
    return network, done


def _kind_of(module: nn.Module) -> Any:
    if type(module) not in _KINDS:
        return None
    if isinstance(module, Block):
        parts = module.steps()
        is_known = all(is_producer(layer) and type(norm) is type(act) is PerScale for layer, norm, act in parts)
    else:
        is_known = is_producer(module) and (type(module) is not nn.Conv2d or is_prediction(module))
    return _KINDS[type(module)] if is_known else None
