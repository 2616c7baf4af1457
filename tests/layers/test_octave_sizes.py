"""Sizes of scales that are rounded up, and of what convolutions and pooling make of them, compared with PyTorch's."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from goctconv.layers.conversion._geometry import Geometry, ladder

LAYERS = {
    "same": nn.Conv2d(1, 1, 3, padding=1),
    "strided": nn.Conv2d(1, 1, 7, 2, 3),
    "valid": nn.Conv2d(1, 1, 3),
    "patches": nn.Conv2d(1, 1, 4, 4),
    "dilated": nn.Conv2d(1, 1, (3, 5), 2, (1, 2), dilation=(2, 1)),
    "by name": nn.Conv2d(1, 1, 5, padding="same"),
    "transposed": nn.ConvTranspose2d(1, 1, 3, 2, 1, 1),
    "max": nn.MaxPool2d(2),
    "max overlapping": nn.MaxPool2d(3, 2, 1),
    "max rounded up": nn.MaxPool2d(3, 2, ceil_mode=True),
    "average rounded up": nn.AvgPool2d(2, 2, 1, ceil_mode=True),
}
every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)


@every_layer
@torch.no_grad()
def test_sizes_of_outputs(layer):
    for height, width in itertools.product(range(8, 14), range(9, 13)):
        assert Geometry(layer).output((height, width)) == tuple(layer(torch.zeros(1, 1, height, width)).shape[2:])


@every_layer
@torch.no_grad()
def test_coarse_scales_fit_the_finest(layer):
    """From 3 pixels on, and never resized where strides and padding agree anyway."""
    geometry = Geometry(layer)
    for height in range(3, 40):
        if geometry.output((height, 16))[0] < 1:
            continue
        x = torch.zeros(1, 1, *ladder((height, 16), 2)[1])
        wanted = ladder(geometry.output((height, 16)), 2)[1]
        fitted = geometry.fitted(x, wanted)
        assert tuple(geometry.exact(layer(fitted), wanted).shape[2:]) == wanted
        assert fitted is x or not geometry.halves_evenly
        assert (fitted is x) == (fitted.shape == x.shape)


def test_scales_round_up():
    assert ladder((13, 8), 4) == [(13, 8), (7, 4), (4, 2), (2, 1)]
    assert ladder((1, 1), 3) == [(1, 1)] * 3
