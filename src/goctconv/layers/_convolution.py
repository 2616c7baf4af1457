"""Single convolutions: their arguments, padding, scaled variant, and the kernels that compute them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn

from .._checks import ArgumentError, ArgumentTypeError
from .._features import ScaleError, absent, checks_enabled, spatial_size
from .._torch import convolve_with, is_eager_cpu
from ._resample import avg_pool

PaddingMode: TypeAlias = Literal["zeros", "reflect", "replicate", "circular"]
IntPair: TypeAlias = int | tuple[int, int]
Padding: TypeAlias = IntPair | Literal["same", "valid"]
F = TypeVar("F", bound=Callable[..., None])


class ScaledConv2d(nn.Conv2d):
    """A convolution that multiplies its weight by a constant in the forward pass.

    The published CSNet trains its depthwise and dilated convolutions this way, with a factor of 100 ("faster
    convergence" under Adam with weight decay). The raw weight is initialised as that of `torch.nn.Conv2d`, so it acts
    ``weight_scale`` times larger; the bias is not scaled.

    Shapes: as `torch.nn.Conv2d`.

    Args:
        *args: As `torch.nn.Conv2d`.
        weight_scale: The factor.
        **kwargs: As `torch.nn.Conv2d`.

    Example:
        >>> import torch
        >>> from goctconv.layers import ScaledConv2d
        >>> conv = ScaledConv2d(4, 4, 3, padding=1, groups=4, bias=False, weight_scale=100.0)
        >>> conv(torch.ones(1, 4, 8, 8)).shape
        torch.Size([1, 4, 8, 8])

    Source: the released models of Cheng et al., "A Highly Efficient Model to Study the Semantics of Salient Object
    Detection", TPAMI 2021.
    """

    def __init__(self, *args: Any, weight_scale: float = 100.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.weight_scale = float(weight_scale)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name that torch.nn.Conv2d gives it
        """Convolve with the scaled weight."""
        return convolve_with(self, input, self.weight * self.weight_scale)

    def extra_repr(self) -> str:
        """Add the factor to what `torch.nn.Conv2d` prints."""
        return f"{cast('Any', super()).extra_repr()}, weight_scale={self.weight_scale:g}"


def scaled_conv2d(*args: Any, weight_scale: float, **kwargs: Any) -> nn.Conv2d:
    """Return a plain convolution where the factor is 1, else a `ScaledConv2d`."""
    if weight_scale == 1:
        return nn.Conv2d(*args, **kwargs)
    return ScaledConv2d(*args, weight_scale=weight_scale, **kwargs)


def undrawn_conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: tuple[int, int],
    *,
    device: torch.device | str | int | None,
    **kwargs: Any,
) -> nn.Conv2d:
    """Return a convolution whose parameters are allocated but not drawn, so that no random number is spent on it."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, device="meta", **kwargs)
    return conv.to_empty(device=torch.get_default_device() if device is None else device)


def with_parameters_of(base: Callable[..., None], without: Sequence[str] = ()) -> Callable[[F], F]:
    """Add the parameters that a method passes on by ``*args`` and ``**options`` to its `inspect.signature`."""

    def decorate(method: F) -> F:
        own = inspect.signature(method).parameters
        passed = [p for name, p in inspect.signature(base).parameters.items() if name not in {*own, *without}]
        known = [p for p in own.values() if p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]
        vars(method)["__signature__"] = inspect.Signature(sorted([*known, *passed], key=lambda p: p.kind))
        return method

    return decorate


def as_pair(value: IntPair, name: str) -> tuple[int, int]:
    """Return height and width of an argument that may be one integer for both."""
    return _pair(value, name, 1, "a positive integer, or a pair of them (height, width)")


def _pair(value: object, name: str, least: int, expected: str) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, Sequence) else ()
    if len(pair) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) for side in pair):
        raise ArgumentTypeError(name, value, expected)
    if min(pair) < least:
        raise ArgumentError(name, value, expected)
    return pair[0], pair[1]


def check_stride(stride: IntPair) -> int:
    """Return the stride as 1 or 2."""
    pair = as_pair(stride, "stride")
    if pair not in {(1, 1), (2, 2)}:
        cure = "a stride of 2 average-pools every input 2x2 before the convolutions; for more, stack layers"
        raise ArgumentError("stride", stride, "1 or 2", cure)
    return pair[0]


def resolve_padding(
    padding: Padding, kernel_size: tuple[int, int], dilation: tuple[int, int], *, single_scale: bool
) -> tuple[int, int] | Literal["same"]:
    """Return the padding for `torch.nn.Conv2d`: integers wherever it is symmetric, "same" for even kernels."""
    needed = tuple(d * (k - 1) for k, d in zip(kernel_size, dilation, strict=True))
    if padding == "same":
        return "same" if any(n % 2 for n in needed) else (needed[0] // 2, needed[1] // 2)
    expected = "'same', 'valid', an integer of at least 0, or a pair of them"
    pair = _pair(0 if padding == "valid" else padding, "padding", 0, expected)
    if not single_scale and any(2 * p != n for p, n in zip(pair, needed, strict=True)):
        problem = f"with {{kernel_size={kernel_size}}} and {{dilation={dilation}}} changes the spatial size"
        problem += ", which breaks the size relation between scales"
        raise ScaleError("padding", padding, problem=problem, cure="use {padding='same'}")
    return pair


def convolve(conv: nn.Module, x: Tensor) -> Tensor:
    """Convolve, having checked that a padding made of the image itself finds enough of it."""
    layer = cast("nn.Conv2d", conv)
    if layer.padding_mode in {"reflect", "circular"} and checks_enabled(x):
        needed = tuple(d * (k - 1) - d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
        least = tuple(n + (layer.padding_mode == "reflect") for n in needed)
        if any(side < n for side, n in zip(spatial_size(x), least, strict=True)):
            problem = (
                f"with {{kernel_size={layer.kernel_size}}} and {{dilation={layer.dilation}}} needs at least {least}"
            )
            problem += f" pixels, got {spatial_size(x)}"
            cure = "pass a larger image, or pad with 'replicate'"
            raise ScaleError("padding_mode", layer.padding_mode, problem=problem, cure=cure)
    output: Tensor = conv(x)
    return output


def halve(x: Tensor, width: int) -> Tensor:
    """Average-pool 2x2 with stride 2, the stride of all layers here; a scale without channels only shrinks."""
    height, length = spatial_size(x)
    if checks_enabled(x) and min(height, length) < 2:
        raise ScaleError("stride", 2, problem=f"needs every scale to have at least 2x2 pixels, got {(height, length)}")
    return avg_pool(x, 2) if width else absent(x, (height // 2, length // 2))


class Kernels:
    """The convolutions of a layer's forward pass, as PyTorch computes them; `goctconv.deploy` has faster ones."""

    def convolve(self, conv: nn.Module, x: Tensor) -> Tensor:
        """Return a convolution."""
        return convolve(conv, x)

    def add(self, total: Tensor, term: Tensor) -> Tensor:
        """Return a sum, which may be the changed ``total``."""
        return total.add_(term) if is_eager_cpu(total) else total + term

    def add_convolved(self, total: Tensor, conv: nn.Module, x: Tensor) -> Tensor:
        """Return the sum of a tensor and a convolution of another one."""
        return self.add(total, self.convolve(conv, x))

    def concatenate(self, convs: nn.ModuleDict, x: Tensor) -> Tensor:
        """Return several convolutions of one tensor, side by side."""
        return torch.cat([self.convolve(conv, x) for conv in convs.values()], dim=1)


PLAIN = Kernels()
