"""OctConv is the vanilla layer of Chen et al.: two scales, average-pool down, nearest up."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from goctconv import OctConv
from reference import octave
from reference.compare import as_arrays, assert_equal, assert_features_equal, random_features, sizes_of
from reference.parameters import path_biases, path_weights


def split(total: int, alpha: float) -> int | tuple[int, int]:
    low = int(alpha * total)
    return (total - low, low) if alpha else total


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize(
    "options", [{}, {"stride": 2}, {"dilation": 2, "padding_mode": "reflect"}, {"bias": False}], ids=str
)
@pytest.mark.parametrize("alpha_out", [0, 0.25, 0.5, 1])
@pytest.mark.parametrize("alpha_in", [0, 0.25, 0.5, 1])
def test_equals_oracle(alpha_in, alpha_out, options, dtype):
    layer = OctConv(7, 11, 3, alpha_in=alpha_in, alpha_out=alpha_out, dtype=dtype, **options)
    inputs, outputs = split(7, alpha_in), split(11, alpha_out)
    features = (
        random_features(inputs, sizes_of((17, 23), (1, 2)), dtype=dtype)
        if alpha_in
        else random_features(inputs, [(17, 23)], dtype=dtype)
    )
    widths = outputs if isinstance(outputs, tuple) else (outputs,)
    options = {name: value for name, value in options.items() if name != "bias"}
    expected = octave.goctconv(
        as_arrays(features),
        path_weights(layer),
        path_biases(layer),
        widths,
        downsample="avg",
        upsample="nearest",
        **options,
    )
    if isinstance(outputs, tuple):
        assert_features_equal(layer(features), expected)
    else:
        assert_equal(layer(features), expected[0])


def test_default_is_half():
    layer = OctConv(7, 11, 3)
    assert {name: tuple(path.weight.shape[:2]) for name, path in layer.paths.items()} == {
        "0_to_0": (6, 4),
        "0_to_1": (5, 4),
        "1_to_0": (6, 3),
        "1_to_1": (5, 3),
    }
    assert {type(path) for path in layer.paths.values()} == {nn.Conv2d}


def test_low_share_is_rounded_down():
    assert OctConv(3, 5, 1, alpha_in=0.9, alpha_out=0.7).paths["1_to_1"].weight.shape[:2] == (3, 2)


def test_alpha_zero_on_both_sides_is_conv2d():
    layer, reference = OctConv(4, 6, 3, groups=2, alpha_in=0, alpha_out=0), nn.Conv2d(4, 6, 3, padding=1, groups=2)
    (path,) = layer.paths.values()
    reference.load_state_dict(path.state_dict())
    x = torch.randn(2, 4, 7, 11)
    torch.testing.assert_close(layer(x), reference(x), rtol=0, atol=0)


def test_alpha_too_small_for_a_channel_still_takes_a_tuple():
    layer = OctConv(3, 5, 1, alpha_in=0.1, alpha_out=0.1)
    outputs = layer((torch.zeros(1, 3, 8, 10), torch.zeros(1, 0, 4, 5)))
    assert [tuple(x.shape) for x in outputs] == [(1, 5, 8, 10), (1, 0, 4, 5)]


def test_network_from_image_to_tensor():
    net = nn.Sequential(OctConv(3, 8, 3, alpha_in=0), OctConv(8, 12, 3, 2), OctConv(12, 5, 1, alpha_out=0))
    assert net(torch.randn(2, 3, 19, 23)).shape == (2, 5, 9, 11)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"alpha_in": -0.1}, ValueError, r"alpha_in.*-0\.1"),
        ({"alpha_out": 1.5}, ValueError, r"alpha_out.*1\.5"),
        ({"alpha_in": float("nan")}, ValueError, "nan"),
        ({"alpha_in": "half"}, TypeError, "half"),
        ({"in_channels": 0}, ValueError, "0"),
        ({"out_channels": -4}, ValueError, "-4"),
        ({"in_channels": (4, 4)}, TypeError, r"\(4, 4\)"),
        ({"in_channels": 4.0}, TypeError, r"4\.0"),
        ({"in_channels": True}, TypeError, "True"),
        ({"alpha": 0.5}, TypeError, r"argument='alpha' is none of OctConv\(\).*alpha_in and alpha_out are the shares"),
        ({"upsample": "nearest"}, TypeError, r"argument='upsample' is none of OctConv\(\)"),
        ({"groups": 4}, ValueError, "4"),
        ({"padding": 0}, ValueError, "0"),
    ],
    ids=str,
)
def test_refuses_arguments(changes, error, message):
    with pytest.raises(error, match=message):
        OctConv(**({"in_channels": 6, "out_channels": 8, "kernel_size": 3} | changes))


def test_refuses_wrong_kind():
    with pytest.raises(TypeError, match="tuple"):
        OctConv(6, 8, 3)(torch.zeros(1, 6, 8, 8))
    with pytest.raises(TypeError, match="tuple"):
        OctConv(6, 8, 3, alpha_in=0)((torch.zeros(1, 6, 8, 8),))


def test_extra_repr_shows_no_resampling_that_cannot_be_chosen():
    assert OctConv(6, 8, 3).extra_repr() == "(3, 3), (4, 4), kernel_size=(3, 3)"
