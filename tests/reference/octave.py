"""The layers as NumPy loops over output pixels in float64: slow, obvious, and free of torch.

Every array is (batch, channels, height, width); features are lists of arrays, finest scale first, and an
empty scale is an array of zero channels. A pair is (vertical, horizontal).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Pair = tuple[int, int]
    Array = np.ndarray

NUMPY_PADDING = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class Norm(NamedTuple):
    """What BatchNorm uses in eval mode, one number per channel."""

    mean: Array
    var: Array
    weight: Array
    bias: Array


def pair(value: int | Pair) -> Pair:
    """A number as the same number twice."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    padding: int | Pair | str = "same",
    dilation: int | Pair = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Array:
    """Cross-correlation of stride 1; "same" pads an even kernel by one more right and below."""
    kernel, dilation = weight.shape[2:], pair(dilation)
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if padding == "same":
        margins = [(r // 2, r - r // 2) for r in reach]
    else:
        margins = [(p, p) for p in pair(0 if padding == "valid" else padding)]
    padded = np.pad(x, [(0, 0), (0, 0), *margins], mode=NUMPY_PADDING[padding_mode])
    height, width = padded.shape[2] - reach[0], padded.shape[3] - reach[1]
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    result = np.zeros((len(x), weight.shape[0], height, width))
    for row in range(height):
        for column in range(width):
            window = padded[:, :, row : row + reach[0] + 1 : dilation[0], column : column + reach[1] + 1 : dilation[1]]
            for group in range(groups):
                of_group = slice(group * outputs, (group + 1) * outputs)
                values = window[:, group * inputs : (group + 1) * inputs]
                result[:, of_group, row, column] = np.einsum("bcij,ocij->bo", values, weight[of_group])
    if bias is not None:
        result += bias[:, None, None]
    return result


def pool(x: Array, size: int, kind: str) -> Array:
    """Maximum or mean of each size x size block; what does not fill a block at the far edges is dropped."""
    reduce = {"max": np.max, "avg": np.mean}[kind]
    height, width = x.shape[2] // size, x.shape[3] // size
    result = np.zeros((*x.shape[:2], height, width))
    for row in range(height):
        for column in range(width):
            block = x[:, :, row * size : (row + 1) * size, column * size : (column + 1) * size]
            result[:, :, row, column] = reduce(block, axis=(2, 3))
    return result


def resize_bilinear(x: Array, size: Pair) -> Array:
    """Bilinear interpolation with half-pixel centres; beyond the outer centres, the edge's value."""

    def neighbours(position: int, old: int, new: int) -> tuple[int, int, float]:
        source = min(max((position + 0.5) * old / new - 0.5, 0.0), old - 1.0)
        first = math.floor(source)
        return first, min(first + 1, old - 1), source - first

    result = np.zeros((*x.shape[:2], *size))
    for row in range(size[0]):
        top, bottom, down = neighbours(row, x.shape[2], size[0])
        for column in range(size[1]):
            left, right, across = neighbours(column, x.shape[3], size[1])
            above = (1 - across) * x[:, :, top, left] + across * x[:, :, top, right]
            below = (1 - across) * x[:, :, bottom, left] + across * x[:, :, bottom, right]
            result[:, :, row, column] = (1 - down) * above + down * below
    return result


def resize_nearest(x: Array, size: Pair) -> Array:
    """Nearest neighbour as torch's mode "nearest": the source is floor(position * old / new)."""
    result = np.zeros((*x.shape[:2], *size))
    for row in range(size[0]):
        for column in range(size[1]):
            result[:, :, row, column] = x[:, :, row * x.shape[2] // size[0], column * x.shape[3] // size[1]]
    return result


RESIZE = {"bilinear": resize_bilinear, "nearest": resize_nearest}


def target_size(features: Sequence[Array], in_reductions: Sequence[int], reduction: int, downsample: str) -> Pair:
    """An output's size: with bilinear that of the input there, as given; else floor of the finest's."""
    if downsample == "bilinear" and reduction in in_reductions:
        height, width = features[list(in_reductions).index(reduction)].shape[2:]
        return height, width
    finest = features[0].shape[2:]
    return finest[0] * in_reductions[0] // reduction, finest[1] * in_reductions[0] // reduction


def goctconv(
    features: Sequence[Array],
    weights: Mapping[tuple[int, int], Array],
    biases: Mapping[int, Array],
    out_channels: Sequence[int],
    *,
    in_reductions: Sequence[int] | None = None,
    out_reductions: Sequence[int] | None = None,
    stride: int = 1,
    padding: int | Pair | str = "same",
    dilation: int | Pair = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    downsample: str = "max",
    upsample: str = "bilinear",
) -> list[Array]:
    """Generalised octave convolution: each output scale sums one convolution per non-empty input scale.

    ``weights[i, j]`` is the kernel from input scale i to output scale j, ``biases[j]`` output scale j's bias.
    """
    in_reductions = in_reductions or [2**i for i in range(len(features))]
    out_reductions = out_reductions or [2**j for j in range(len(out_channels))]
    if stride == 2:
        features = [pool(x, 2, "avg") for x in features]
    options = {"padding": padding, "dilation": dilation, "groups": groups, "padding_mode": padding_mode}
    outputs = []
    for j, (width, target) in enumerate(zip(out_channels, out_reductions, strict=True)):
        size = target_size(features, in_reductions, target, downsample)
        total = np.zeros((len(features[0]), width, *size))
        for i, (x, source) in enumerate(zip(features, in_reductions, strict=True)):
            if x.shape[1] == 0 or width == 0:
                continue
            if source < target:
                resampled = (
                    resize_bilinear(x, size) if downsample == "bilinear" else pool(x, target // source, downsample)
                )
                total += conv2d(resampled, weights[i, j], **options)
            elif source > target:
                total += RESIZE[upsample](conv2d(x, weights[i, j], **options), size)
            else:
                total += conv2d(x, weights[i, j], **options)
        if j in biases:
            total += biases[j][:, None, None]
        outputs.append(total)
    return outputs


def simplified(
    features: Sequence[Array],
    weights: Mapping[int, Array],
    biases: Mapping[int, Array] | None = None,
    *,
    weight_scale: float = 1.0,
    stride: int = 1,
    padding: int | Pair | str = "same",
    dilation: int | Pair = 1,
    padding_mode: str = "zeros",
) -> list[Array]:
    """A depthwise convolution per scale with ``weight_scale`` times the given weights; scales do not meet."""
    if stride == 2:
        features = [pool(x, 2, "avg") for x in features]
    return [
        conv2d(
            x,
            weight_scale * weights[scale],
            (biases or {}).get(scale),
            groups=x.shape[1],
            padding=padding,
            dilation=dilation,
            padding_mode=padding_mode,
        )
        if x.shape[1]
        else x
        for scale, x in enumerate(features)
    ]


def parallel_dilated(
    features: Sequence[Array],
    weights: Mapping[tuple[int, int], Array],
    biases: Mapping[tuple[int, int], Array] | None = None,
    *,
    dilations: Sequence[int] = (1, 2, 4, 8, 16),
    weight_scale: float = 100.0,
    padding_mode: str = "zeros",
) -> list[Array]:
    """Per scale, the outputs of one convolution per dilation, concatenated; an absent branch adds none.

    ``weights[scale, branch]`` is the kernel of that scale's branch.
    """
    outputs = []
    for scale, x in enumerate(features):
        branches = [
            conv2d(
                x,
                weight_scale * weights[scale, branch],
                (biases or {}).get((scale, branch)),
                dilation=dilation,
                padding_mode=padding_mode,
            )
            for branch, dilation in enumerate(dilations)
            if (scale, branch) in weights
        ]
        outputs.append(np.concatenate([x[:, :0], *branches], axis=1))
    return outputs


def batch_norm(x: Array, norm: Norm, eps: float = 1e-5) -> Array:
    """Batch normalisation with given statistics."""
    mean, var, weight, bias = (values[:, None, None] for values in norm)
    return (x - mean) / np.sqrt(var + eps) * weight + bias


def prelu(x: Array, slope: Array) -> Array:
    """The identity above 0, ``slope`` of the channel times x below."""
    return np.where(x > 0, x, slope[:, None, None] * x)


def norm_act(features: Sequence[Array], norms: Mapping[int, Norm], slopes: Mapping[int, Array]) -> list[Array]:
    """Batch normalisation and PReLU at every non-empty scale."""
    return [prelu(batch_norm(x, norms[scale]), slopes[scale]) if x.shape[1] else x for scale, x in enumerate(features)]


def il_block(
    features: Sequence[Array],
    *,
    exchange: Mapping[tuple[int, int], Array],
    depthwise: Sequence[Mapping[int, Array]],
    norms: Sequence[Mapping[int, Norm]],
    slopes: Sequence[Mapping[int, Array]],
    out_channels: Sequence[int],
    stride: int = 1,
    weight_scale: float = 100.0,
    downsample: str = "max",
    upsample: str = "bilinear",
) -> list[Array]:
    """GOctConv and two simplified ones, each followed by batch normalisation and PReLU."""
    x = goctconv(features, exchange, {}, out_channels, stride=stride, downsample=downsample, upsample=upsample)
    x = norm_act(x, norms[0], slopes[0])
    for layer in (0, 1):
        x = simplified(x, depthwise[layer], weight_scale=weight_scale)
        x = norm_act(x, norms[layer + 1], slopes[layer + 1])
    return x


def fusion_head(
    features: Sequence[Array],
    *,
    fuse: Mapping[tuple[int, int], Array],
    dilated: Mapping[tuple[int, int], Array],
    merge: Mapping[tuple[int, int], Array],
    norms: Sequence[Mapping[int, Norm]],
    slopes: Sequence[Mapping[int, Array]],
    fuse_channels: Sequence[int],
    out_channels: int,
    in_reductions: Sequence[int],
    out_reduction: int,
    dilations: Sequence[int] = (1, 2, 4, 8, 16),
    weight_scale: float = 100.0,
    downsample: str = "max",
    upsample: str = "bilinear",
) -> Array:
    """Cross-stage 1x1, parallel dilated 3x3, cross-stage 1x1 to one scale, each with norm and PReLU."""
    resampling = {"in_reductions": in_reductions, "downsample": downsample, "upsample": upsample}
    x = goctconv(features, fuse, {}, fuse_channels, out_reductions=in_reductions, **resampling)
    x = norm_act(x, norms[0], slopes[0])
    x = parallel_dilated(x, dilated, dilations=dilations, weight_scale=weight_scale)
    x = norm_act(x, norms[1], slopes[1])
    x = goctconv(x, merge, {}, [out_channels], out_reductions=[out_reduction], **resampling)
    return norm_act(x, norms[2], slopes[2])[0]
