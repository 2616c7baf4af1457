from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from .._features import Channels, Features, ScaleError, as_features, as_given, parse_channels

_WITHOUT_CHANNELS = ("torch.nn.modules.activation", "torch.nn.modules.dropout")


class PerScale(nn.Module):
    """Apply a module of its own to every scale: normalisation, activation, dropout.

    The modules are children named "0", "1", ... after their scale; an absent scale has none and passes through.

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
        TypeError: ``make`` is a module, an activation that takes no channels, or returns no module; at the call, a
            tensor where a tuple is expected or the reverse.

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
        self.widths = parse_channels(channels, "channels")
        self.channels = as_given(channels, self.widths)
        _check_factory(make)
        for scale, width in enumerate(self.widths):
            if width:
                module = make(width)
                if not isinstance(module, nn.Module):
                    raise TypeError(
                        f"make({width}) returned {module!r}, expected a torch.nn.Module: pass a class such as "
                        "torch.nn.BatchNorm2d, or a function of the number of channels"
                    )
                self.add_module(str(scale), module)

    def resize_channels(self, in_widths: Sequence[int]) -> None:
        """Take other widths over, after channels have been cut out of the modules; those of empty scales go."""
        self.widths = tuple(in_widths)
        self.channels = as_given(self.channels, self.widths)
        for scale, width in enumerate(self.widths):
            if not width and str(scale) in self._modules:
                del self._modules[str(scale)]

    def forward(self, features: Tensor | Features) -> Tensor | Features:
        """Return every scale as its module gives it; a tensor or a tuple, as ``channels`` was given."""
        inputs = as_features(features, self.widths, plain=isinstance(self.channels, int))
        outputs = tuple(getattr(self, str(scale))(x) if self.widths[scale] else x for scale, x in enumerate(inputs))
        return outputs[0] if isinstance(self.channels, int) else outputs


def _check_factory(make: Callable[[int], nn.Module]) -> None:
    if isinstance(make, nn.Module) or not callable(make):
        raise TypeError(
            f"make={make!r} must be a function of the number of channels, or a class such as torch.nn.BatchNorm2d, "
            "for every scale needs a module of its own"
        )
    kind = getattr(make, "__module__", "")
    if isinstance(make, type) and not issubclass(make, nn.PReLU) and kind in _WITHOUT_CHANNELS:
        raise TypeError(
            f"{make.__name__} takes no number of channels: it would become another of its arguments; "
            f"pass lambda channels: torch.nn.{make.__name__}()"
        )


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
        if not isinstance(index, int) or isinstance(index, bool):
            raise TypeError(f"index={index!r} must be an integer, the scale to choose")
        self.index = index

    def forward(self, features: Features) -> Tensor:
        """Return the chosen scale."""
        if not isinstance(features, (tuple, list)):
            raise TypeError(
                f"expected a tuple of tensors, one per scale, got a {type(features).__name__}: "
                "a plain tensor needs no SelectScale"
            )
        if not -len(features) <= self.index < len(features):
            raise ScaleError(
                f"index={self.index} chooses a scale that is not there: the input has {len(features)} scales"
            )
        return features[self.index]

    def extra_repr(self) -> str:
        """Return the index."""
        return str(self.index)
