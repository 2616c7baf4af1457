"""Layers of converted networks: convolutions with strides of their own, pooling, and ways to and from plain tensors.

Unlike those of `GOctConv`, scale ``i`` has 1 / 2**i of the finest resolution, rounded *up*, as the strided convolutions
of most networks round. So a scale never vanishes, and features of one finest size match at all scales.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._features import Channels, Features, Size, absent, spatial_size
from ..._torch import children_of, split
from .._convolution import PLAIN, Kernels
from .._layer import Ends, ScaleLayer, finished
from ._geometry import Geometry, halve, ladder, pair, resize
from ._parts import Conv, Indices


class ScaleModule(ScaleLayer):
    """A layer between scales that are rounded up."""

    def __init__(self, in_channels: Channels, out_channels: Channels) -> None:
        super().__init__()
        self._set_channels(in_channels, out_channels, ("in_channels", "out_channels"))

    def resize_channels(self, in_widths: Sequence[int]) -> None:
        """Take other widths over, after channels have been cut out."""
        is_joint = len(self.out_widths) < len(self.in_widths)
        self.in_widths = tuple(in_widths)
        self.out_widths = (sum(in_widths),) if is_joint else self.in_widths

    def extra_repr(self) -> str:
        """Return the channels."""
        if self.in_channels == self.out_channels:
            return str(self.in_channels)
        return f"{self.in_channels}, {self.out_channels}"


class StridedGOctConv(ScaleModule):
    """Generalised octave convolution whose paths are convolutions of any stride, padding and kind.

    The path i→j computes at the coarser of both scales: a finer input is pooled first, a coarser one is enlarged after
    the convolution. Without channels at coarse scales it is the original convolution.

    Args:
        paths: The convolutions, by ``"i_to_j"``.
        in_channels: Channels of every input scale, or an integer for a plain tensor.
        out_channels: Channels of every output scale, or an integer for a plain tensor.
        downsample: "avg" or "max".
        upsample: "nearest" or "bilinear".
    """

    def __init__(
        self, paths: dict[str, Conv], in_channels: Channels, out_channels: Channels, downsample: str, upsample: str
    ) -> None:
        super().__init__(in_channels, out_channels)
        self.paths = nn.ModuleDict(paths)
        self.downsample = downsample
        self.upsample = upsample
        self._geometry = Geometry(next(iter(paths.values())))

    def resize_channels(self, in_widths: Sequence[int]) -> None:
        """Take other widths over, after channels have been cut out of the paths; paths without channels go."""
        self.in_widths = tuple(in_widths)
        outputs = {int(name.rpartition("_")[2]): cast("Conv", conv).out_channels for name, conv in self.paths.items()}
        self.out_widths = tuple(outputs.get(scale, 0) for scale in range(len(self.out_widths)))
        for name, conv in list(self.paths.items()):
            if not cast("Tensor", conv.weight).numel():
                del self.paths[name]

    def compute(self, features: list[Tensor], kernels: Kernels = PLAIN, ends: Ends | None = None) -> list[Tensor]:
        """Return the output scales; see `ScaleLayer.compute`."""
        paths = {tuple(map(int, name.split("_to_"))): conv for name, conv in children_of(self.paths).items()}
        scales = max(len(self.in_widths), len(self.out_widths))
        sizes = ladder(self._geometry.output(spatial_size(features[0])), scales)
        shrunk: dict[tuple[int, int], Tensor] = {}
        found: dict[int, Tensor] = {}
        for (source, target), conv in sorted(paths.items(), key=lambda path: path[0][::-1]):
            level = max(source, target)
            x = self._geometry.fitted(self._shrunk(features, source, level, shrunk), sizes[level])
            x = self._geometry.exact(kernels.convolve(cast("nn.Module", conv), x), sizes[level])
            x = x if level == target else resize(x, sizes[target], self.upsample)
            found[target] = kernels.add(found[target], x) if target in found else x
        features.clear()
        like = next(iter(found.values()))
        sizes = sizes[: len(self.out_widths)]
        return [finished(found[j], j, ends) if j in found else absent(like, size) for j, size in enumerate(sizes)]

    def _shrunk(self, features: list[Tensor], source: int, level: int, shrunk: dict[tuple[int, int], Tensor]) -> Tensor:
        """Return an input scale, pooled down to a level; what is pooled on the way is kept for others."""
        if source == level:
            return features[source]
        if (source, level) not in shrunk:
            shrunk[source, level] = halve(self._shrunk(features, source, level - 1, shrunk), self.downsample)
        return shrunk[source, level]

    def extra_repr(self) -> str:
        """Return the channels and resampling."""
        return f"{super().extra_repr()}, downsample={self.downsample!r}, upsample={self.upsample!r}"


class PooledScales(ScaleModule):
    """Max- or average-pooling of every scale.

    Args:
        pool: Of the finest scale; the others get the same, of inputs whose size makes the outputs fit.
        channels: Channels of every scale.
    """

    def __init__(self, pool: nn.Module, channels: Channels) -> None:
        super().__init__(channels, channels)
        self.pool = pool
        self._geometry = Geometry(pool)

    def compute(self, features: list[Tensor], kernels: Kernels = PLAIN, ends: Ends | None = None) -> list[Tensor]:
        """Return the output scales; see `ScaleLayer.compute`."""
        del kernels
        x, *others = features
        finest = self.pool(x) if self.in_widths[0] else absent(x, self._geometry.output(spatial_size(x)))
        outputs, sizes = [finest], ladder(spatial_size(finest), len(features))
        for y, width, size in zip(others, self.in_widths[1:], sizes[1:], strict=True):
            outputs.append(self.pool(self._geometry.fitted(y, size)) if width else absent(y, size))
        return [finished(x, scale, ends) for scale, x in enumerate(outputs)]


class ResizedScales(ScaleModule):
    """Enlargement or reduction of every scale, as `torch.nn.functional.interpolate` does it.

    Args:
        channels: Channels of every scale.
        options: Keyword arguments of the function, but the size.
    """

    def __init__(self, channels: Channels, **options: Any) -> None:
        super().__init__(channels, channels)
        self.options = options

    def forward(self, features: Any, size: Any = None) -> Any:
        """Return the scales, where the finest has this size, or is resized by the scale factor."""
        x, *others = self.check_inputs(features)
        if self.in_widths[0]:
            x = F.interpolate(x, size, **self.options)
        else:
            factors = pair(self.options.get("scale_factor") or 1)
            given = pair(size) if size is not None else spatial_size(x)
            x = absent(x, (int(given[0] * factors[0]), int(given[1] * factors[1])))
        options = {**self.options, "scale_factor": None, "recompute_scale_factor": None}
        sizes = ladder(spatial_size(x), len(self.in_widths))
        pairs = zip(others, self.in_widths[1:], sizes[1:], strict=True)
        return (x, *(F.interpolate(y, s, **options) if width else absent(y, s) for y, width, s in pairs))


class JoinedScales(ScaleModule):
    """The way to a plain tensor: coarse scales are enlarged to the finest, all are put side by side.

    Args:
        channels: The original channels that every scale holds.
        mode: "nearest" or "bilinear".
        pool: Global pooling in place of enlargement.
    """

    def __init__(self, channels: Sequence[Indices], mode: str = "nearest", pool: nn.Module | None = None) -> None:
        super().__init__([len(part) for part in channels], sum(map(len, channels)))
        self.mode = mode
        self.pool = pool
        lengths, self.order = runs(list(itertools.chain(*channels)))
        self.runs = SplitChannels(lengths) if len(lengths) > 1 else None

    def compute(self, features: list[Tensor], kernels: Kernels = PLAIN, ends: Ends | None = None) -> list[Tensor]:
        """Return the plain tensor in a list."""
        del kernels, ends
        size = spatial_size(features[0])
        parts = [self._brought(x, scale, size) for scale, x in enumerate(features) if self.in_widths[scale]]
        joined = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        if self.runs is not None:
            pieces = self.runs(joined)
            joined = torch.cat([pieces[place] for place in self.order], 1)
        return [joined]

    def _brought(self, x: Tensor, scale: int, size: Size) -> Tensor:
        brought: Tensor = x if self.pool is None else self.pool(x)
        return resize(x, size, self.mode) if scale and self.pool is None else brought


class SplitChannels(nn.Module):
    """The way from a plain tensor: each scale gets its channels, pooled down to its size unless there is one pixel.

    Args:
        lengths: Channels of every scale.
        mode: "avg" or "max"; None leaves the size, as of factors of one pixel.
    """

    def __init__(self, lengths: Sequence[int], mode: str | None = None) -> None:
        super().__init__()
        self.lengths = list(lengths)
        self.mode = mode

    def forward(self, x: Tensor) -> Features:
        """Return the scales."""
        pieces = split(x, self.lengths, 1)
        parts = [pieces[scale] for scale in range(len(self.lengths))]
        for scale in range(1, len(parts)) if self.mode else ():
            for _ in range(scale):
                parts[scale] = halve(parts[scale], str(self.mode)) if self.lengths[scale] else _halved(parts[scale])
        return tuple(parts)

    def extra_repr(self) -> str:
        """Return the channels."""
        return str(tuple(self.lengths))


def _halved(x: Tensor) -> Tensor:
    return absent(x, ladder(spatial_size(x), 2)[1])


def runs(channels: list[int]) -> tuple[list[int], list[int]]:
    """Return the lengths of runs of consecutive numbers, and the runs in the order that sorts them."""
    starts = [0, *(i for i in range(1, len(channels)) if channels[i] != channels[i - 1] + 1)]
    lengths = [end - start for start, end in itertools.pairwise([*starts, len(channels)])]
    return lengths, sorted(range(len(starts)), key=lambda run: channels[starts[run]])
