"""CSF's head by the published key names, in float64 and as loops over levels: slow, and free of this package's layers.

Every array is (batch, channels, height, width); features are lists of arrays, finest first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import octave

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Array = np.ndarray

DILATIONS = (1, 2, 4, 8, 16)
GROUPS = 32


def group_norm(x: Array, weight: Array, bias: Array, groups: int = GROUPS, eps: float = 1e-5) -> Array:
    """Every group of channels of an image brought to mean 0 and variance 1, then scaled and shifted by channel."""
    batch, channels, height, width = x.shape
    result = np.zeros_like(x)
    size = channels // groups
    for image in range(batch):
        for group in range(groups):
            rows = slice(group * size, (group + 1) * size)
            values = x[image, rows]
            result[image, rows] = (values - values.mean()) / np.sqrt(values.var() + eps)
    assert result.shape == (batch, channels, height, width)
    return result * weight[:, None, None] + bias[:, None, None]


def norm_act(x: Array, state: Mapping[str, Array], norm: str, prelu: str) -> Array:
    """GroupNorm and PReLU of the given keys."""
    return octave.prelu(group_norm(x, state[f"{norm}.weight"], state[f"{norm}.bias"]), state[f"{prelu}.weight"])


def conv1x1(x: Array, weight: Array) -> Array:
    """A 1x1 convolution as a matrix product at every pixel."""
    return np.einsum("oc,bchw->bohw", weight[:, :, 0, 0], x)


def conv3x3(x: Array, weight: Array, dilation: int) -> Array:
    """A 3x3 convolution of a dilation, padded with zeros to keep the size, as the sum of nine shifted products."""
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (dilation, dilation), (dilation, dilation)))
    result = np.zeros((len(x), len(weight), height, width))
    for row in range(3):
        for column in range(3):
            top, left = row * dilation, column * dilation
            shifted = padded[:, :, top : top + height, left : left + width]
            result += np.einsum("oc,bchw->bohw", weight[:, :, row, column], shifted)
    return result


def cross_stage(features: Sequence[Array], weight: Array, out_channels: Sequence[int]) -> list[Array]:
    """The 1x1 exchange between levels: down, resized and then convolved; up, convolved and then resized."""
    rows = np.cumsum([0, *out_channels])
    columns = np.cumsum([0, *(x.shape[1] for x in features)])
    outputs = []
    for target in range(len(out_channels)):
        height, width = features[target].shape[2:]
        total = np.zeros((len(features[0]), out_channels[target], height, width))
        for source, x in enumerate(features):
            block = weight[rows[target] : rows[target + 1], columns[source] : columns[source + 1]]
            if source < target:
                total += conv1x1(octave.resize_bilinear(x, (height, width)), block)
            elif source > target:
                total += octave.resize_bilinear(conv1x1(x, block), (height, width))
            else:
                total += conv1x1(x, block)
        outputs.append(total)
    return outputs


def logits(features: Sequence[Array], state: Mapping[str, Array], size: tuple[int, int] | None = None) -> Array:
    """Logits from the features and the tensors of the authors' names, brought to ``size`` if one is given."""
    levels = range(len(features))
    widths = [len(state[f"fuse.bns.{level}.weight"]) for level in levels]
    fused = cross_stage(features, state["fuse.conv.weights"], widths)
    fused = [norm_act(x, state, f"fuse.bns.{level}", f"fuse.prelus.{level}") for level, x in enumerate(fused)]
    dilated = []
    for level, x in enumerate(fused):
        branches = [
            conv3x3(x, state[f"ms.convs.{level}.msconv.{index}.weight"], dilation)
            for index, dilation in enumerate(DILATIONS)
        ]
        joined = np.concatenate(branches, axis=1)
        dilated.append(norm_act(joined, state, f"ms.convs.{level}.bn", f"ms.convs.{level}.prelu"))
    (merged,) = cross_stage(dilated, state["fuse1x1.conv.weights"], [len(state["fuse1x1.bns.0.weight"])])
    merged = norm_act(merged, state, "fuse1x1.bns.0", "fuse1x1.prelus.0")
    predicted = conv1x1(merged, state["cls_layer.weight"]) + state["cls_layer.bias"][:, None, None]
    return predicted if size is None else octave.resize_bilinear(predicted, size)
