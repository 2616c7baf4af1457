"""What every layer here shares about a single convolution: its arguments, its padding, its scaled variant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn

from .._features import ScaleError, Size, absent, checks_enabled, spatial_size
from ._resample import avg_pool

PaddingMode: TypeAlias = Literal["zeros", "reflect", "replicate", "circular"]
IntPair: TypeAlias = int | tuple[int, int]
Padding: TypeAlias = IntPair | Literal["same", "valid"]


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
        >>> from goctconv import ScaledConv2d
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
        output: Tensor = self._conv_forward(input, self.weight * self.weight_scale, self.bias)
        return output

    def extra_repr(self) -> str:
        """Add the factor to what `torch.nn.Conv2d` prints."""
        return f"{super().extra_repr()}, weight_scale={self.weight_scale:g}"  # type: ignore[no-untyped-call]  # torch


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


def as_pair(value: IntPair, name: str) -> tuple[int, int]:
    """Return height and width of an argument that may be one integer for both.

    Raises:
        ValueError: It is neither an integer nor two, or one is below 1.
    """
    pair = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, Sequence) else ()
    if len(pair) != 2 or not all(isinstance(v, int) and not isinstance(v, bool) and v >= 1 for v in pair):
        raise ValueError(f"{name}={value!r} must be a positive integer, or a pair of them (height, width)")
    return pair[0], pair[1]


def check_stride(stride: IntPair) -> int:
    """Return the stride as 1 or 2.

    Raises:
        ValueError: It is anything else.
    """
    pair = as_pair(stride, "stride")
    if pair not in {(1, 1), (2, 2)}:
        raise ValueError(
            f"stride={stride!r} must be 1 or 2: a stride of 2 average-pools every input 2x2 before the convolutions; "
            "for more, stack layers"
        )
    return pair[0]


def resolve_padding(
    padding: Padding, kernel_size: tuple[int, int], dilation: tuple[int, int], *, single_scale: bool
) -> tuple[int, int] | Literal["same"]:
    """Return the padding for `torch.nn.Conv2d`: integers wherever it is symmetric, "same" for even kernels.

    Raises:
        ValueError: The padding is neither "same", "valid", an integer >= 0 nor a pair of them.
        ScaleError: It changes the size while there are several scales, whose sizes then no longer fit together.
    """
    needed = tuple(d * (k - 1) for k, d in zip(kernel_size, dilation, strict=True))
    if padding == "same":
        return "same" if any(n % 2 for n in needed) else (needed[0] // 2, needed[1] // 2)
    plain = 0 if padding == "valid" else padding
    pair = (plain, plain) if isinstance(plain, int) else tuple(plain) if isinstance(plain, Sequence) else ()
    if len(pair) != 2 or not all(isinstance(p, int) and not isinstance(p, bool) and p >= 0 for p in pair):
        raise ValueError(f"padding={padding!r} must be 'same', 'valid', an integer >= 0 or a pair of them")
    if not single_scale and any(2 * p != n for p, n in zip(pair, needed, strict=True)):
        raise ScaleError(
            f"padding={padding!r} with kernel_size={kernel_size} and dilation={dilation} changes the spatial size, "
            "which breaks the size relation between scales: use padding='same'"
        )
    return pair[0], pair[1]


def check_padding_mode(padding_mode: str) -> None:
    """Check the name of a padding mode.

    Raises:
        ValueError: It is not one of PyTorch's.
    """
    if padding_mode not in get_args(PaddingMode):
        raise ValueError(f"padding_mode={padding_mode!r} must be one of {get_args(PaddingMode)}")


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve, having checked that a padding made of the image itself finds enough of it.

    Raises:
        ScaleError: Reflection needs more pixels than its width, circular padding as many; there are fewer.
    """
    if conv.padding_mode in {"reflect", "circular"} and checks_enabled():
        needed = tuple(d * (k - 1) - d * (k - 1) // 2 for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
        least = tuple(n + (conv.padding_mode == "reflect") for n in needed)
        if any(side < n for side, n in zip(spatial_size(x), least, strict=True)):
            raise ScaleError(
                f"padding_mode={conv.padding_mode!r} with kernel_size={conv.kernel_size} and dilation={conv.dilation} "
                f"needs at least {least} pixels, got {spatial_size(x)}: pass a larger image, or pad with 'replicate'"
            )
    return cast("Tensor", conv(x))


def halve(x: Tensor, width: int) -> Tensor:
    """Average-pool 2x2 with stride 2, the stride of all layers here; a scale without channels only shrinks.

    Raises:
        ScaleError: Height or width is below 2.
    """
    size: Size = (spatial_size(x)[0] // 2, spatial_size(x)[1] // 2)
    if checks_enabled() and (size[0] < 1 or size[1] < 1):
        raise ScaleError(f"stride=2 needs every scale to have at least 2x2 pixels, got {spatial_size(x)}")
    return avg_pool(x, 2) if width else absent(x, size)
