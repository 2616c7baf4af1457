from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import wrap_torch_function

from .._checks import ArgumentTypeError, check_integer
from .._features import Channels, Features, ScaleError, as_features, checks_enabled
from .._torch import is_placeholder, is_plain_cpu
from ._convolution import Kernels
from ._layer import ScaleLayer

_WITHOUT_CHANNELS = ("torch.nn.modules.activation", "torch.nn.modules.dropout")


class PerScale(ScaleLayer):
    """Apply a module of its own to every scale: normalisation, activation, dropout.

    The modules are children named "0", "1", ... after their scale; an absent scale has none and passes through.

    Modules without parameters or buffers that depend on the width, such as `torch.nn.ReLU`, `torch.nn.Dropout` and
    `torch.nn.PReLU` with one slope, take any widths: one instance can be used at several places of a network.

    Shapes:
        - Input: one (B, C_i, H_i, W_i) tensor per scale in a tuple; a plain tensor where ``channels`` is an integer.
        - Output: what the modules return, in the same arrangement.

    Args:
        make: Called with the channels of each non-empty scale, returns its module; only the modules are kept. A class
            will do if channels are its first argument, as in `torch.nn.BatchNorm2d` and `torch.nn.PReLU`; for others
            write ``lambda channels: torch.nn.ReLU()``.
        channels: Channels of every scale (zero: absent), or an integer for a plain tensor.

    Raises:
        ChannelError: A negative width or no channels at all; at the call, the wrong number of channels at a scale.
        ScaleError: At the call, the wrong number of scales.
        ArgumentTypeError: ``make`` is a module, an activation that takes no channels, or returns no module; at the
            call, a tensor where a tuple is expected or the reverse.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from goctconv import GOctConv, PerScale
        >>> block = nn.Sequential(
        ...     GOctConv(3, (8, 4), 3),
        ...     PerScale(nn.BatchNorm2d, (8, 4)),
        ...     PerScale(lambda channels: nn.ReLU(), (8, 4)),
        ... )
        >>> [tuple(y.shape) for y in block(torch.rand(2, 3, 16, 16))]
        [(2, 8, 16, 16), (2, 4, 8, 8)]
    """

    def __init__(self, make: Callable[[int], nn.Module], channels: Channels) -> None:
        super().__init__()
        self._set_channels(channels, channels, ["channels"])
        _check_factory(make)
        for scale, width in enumerate(self.in_widths):
            if width:
                module = make(width)
                if not isinstance(module, nn.Module):
                    raise ArgumentTypeError(
                        "make",
                        make,
                        "a torch.nn.Module",
                        "pass a class such as torch.nn.BatchNorm2d, or a function of the number of channels",
                        problem=f"returned {module!r} for {width} channels",
                    )
                self.add_module(str(scale), module)
        self.takes_any_width = self._are_free_of_width()

    def _are_free_of_width(self) -> bool:
        """Whether no parameter or buffer depends on the width: those of different widths, if any, are alike."""
        if any(map(is_lazy, (*self.parameters(), *self.buffers()))):
            return False
        shapes: dict[int, list[torch.Size]] = {}
        for scale, module in self.named_children():
            found = [tensor.shape for tensor in (*module.parameters(), *module.buffers())]
            shapes[self.in_widths[int(scale)]] = found
        first, *others = shapes.values()
        if others or not first:
            return all(other == first for other in others)
        return 1 not in shapes and all(shape.numel() == 1 for shape in first)

    def resize_channels(self, in_widths: Sequence[int]) -> None:
        """Take other widths over, after channels have been cut out of the modules; those of empty scales go."""
        self.in_widths = self.out_widths = tuple(in_widths)
        for scale, width in enumerate(self.in_widths):
            if not width and str(scale) in self._modules:
                del self._modules[str(scale)]

    def check_inputs(self, features: Tensor | Features) -> Features:
        """Return the input scales, having checked them."""
        if not self.takes_any_width:
            return super().check_inputs(features)
        widths = [None if str(scale) in self._modules else 0 for scale in range(len(self.in_widths))]
        return as_features(features, widths, plain=self.takes_tensor)

    def compute_scale(self, scale: int, x: Tensor, kernels: Kernels) -> Tensor:  # noqa: ARG002
        """Return what the module of a scale makes of it."""
        module = self._modules.get(str(scale))
        if module is None or (checks_enabled(x) and not x.shape[1]):
            return x
        output: Tensor = module(x)
        return output


def activated(norm: PerScale, activation: PerScale, features: Tensor | Features) -> Tensor | Features:
    """Return the activation of normalised features; `native_kernels` computes both in one."""
    first = features[0] if isinstance(features, (tuple, list)) and features else features
    if norm.training and is_plain_cpu(cast("Tensor", first)):
        return activated_scales(norm, activation, features)
    return cast("Tensor | Features", activation(norm(features)))


def _tensors_of(norm: PerScale, activation: PerScale, features: Tensor | Features) -> Features:  # noqa: ARG001
    return features if isinstance(features, tuple) else (features,)


@wrap_torch_function(_tensors_of)
def activated_scales(norm: PerScale, activation: PerScale, features: Tensor | Features) -> Tensor | Features:
    """Return the activation of normalised features, what a `torch.overrides.TorchFunctionMode` may compute itself."""
    return cast("Tensor | Features", activation(norm(features)))


def _check_factory(make: Callable[[int], nn.Module]) -> None:
    if isinstance(make, nn.Module) or not callable(make):
        expected = "a function of the number of channels, or a class such as torch.nn.BatchNorm2d"
        raise ArgumentTypeError("make", make, expected, "every scale needs a module of its own")
    kind = getattr(make, "__module__", "")
    if isinstance(make, type) and not issubclass(make, nn.PReLU) and kind in _WITHOUT_CHANNELS:
        problem = "takes no number of channels: it would become another of its arguments"
        raise ArgumentTypeError("make", make, cure=f"pass lambda channels: torch.nn.{make.__name__}()", problem=problem)


class SelectScale(nn.Module):
    """Choose one scale of a tuple: the way back from multi-scale features to a plain tensor.

    Shapes:
        - Input: a tuple of (B, C_i, H_i, W_i) tensors.
        - Output: the tensor at ``index``.

    Args:
        index: The scale, 0 the finest; negative ones count from the coarsest.

    Raises:
        ScaleError: The input has no such scale.
        TypeError: The input is not a tuple of tensors.

    Example:
        >>> import torch
        >>> from goctconv import SelectScale
        >>> SelectScale(-1)((torch.rand(1, 8, 32, 32), torch.rand(1, 4, 16, 16))).shape
        torch.Size([1, 4, 16, 16])
    """

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = check_integer("index", index)

    def forward(self, features: Features) -> Tensor:
        """Return the chosen scale."""
        if is_placeholder(features):
            return features[self.index]
        if not isinstance(features, (tuple, list)):
            raise ArgumentTypeError(
                "features", features, "a tuple of tensors, one per scale", "a plain tensor needs no SelectScale"
            )
        if not -len(features) <= self.index < len(features):
            raise ScaleError("index", self.index, f"that of one of the {len(features)} scales of the input")
        return features[self.index]

    def extra_repr(self) -> str:
        """Return the index."""
        return str(self.index)
