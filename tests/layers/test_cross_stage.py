"""CrossStageGOctConv equals its oracle at any reductions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from goctconv import ChannelError, CrossStageGOctConv, GOctConv, ScaleError
from reference import octave
from reference.compare import as_arrays, assert_equal, assert_features_equal, random_features, sizes_of
from reference.parameters import path_biases, path_weights

POOLED = [{}, {"downsample": "avg", "upsample": "nearest"}]
BILINEAR = {"downsample": "bilinear"}
CASES = {
    "backbone": ((3, 5, 2, 7), (4, 8, 16, 32), (2, 3, 1, 5), (4, 8, 16, 32)),
    "backbone_to_finest": ((3, 5, 2, 7), (4, 8, 16, 32), (11,), (4,)),
    "backbone_to_coarsest": ((3, 5, 2, 7), (4, 8, 16, 32), (11,), (32,)),
    "stages_2_to_4": ((3, 5, 7), (2, 4, 8), (11, 1), (4, 8)),
    "one_to_one": ((3,), (8,), (5,), (8,)),
    "gap_in_inputs": ((3, 5), (4, 16), (2, 7, 1), (4, 8, 16)),
    "gap_in_outputs": ((3, 5, 2), (2, 4, 8), (7, 1), (2, 8)),
    "beyond_inputs": ((3, 5), (2, 4), (7, 1), (8, 16)),
    "finer_than_inputs": ((3, 5), (4, 8), (2, 7, 1), (2, 4, 8)),
    "absent": ((3, 0, 5), (2, 4, 8), (7, 1, 0), (2, 4, 8)),
    "absent_finest": ((0, 3, 5), (2, 4, 8), (7, 1), (2, 8)),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("options", [*POOLED, BILINEAR, {"stride": 2}, BILINEAR | {"stride": 2}], ids=str)
@pytest.mark.parametrize(("inputs", "ins", "outputs", "outs"), CASES.values(), ids=CASES)
def test_equals_oracle(inputs, ins, outputs, outs, options, dtype):
    layer = CrossStageGOctConv(inputs, outputs, in_reductions=ins, out_reductions=outs, dtype=dtype, **options)
    # torch's float32 interpolation is itself off by 2e-6 at larger odd sizes: its positions are float32
    size = (13, 11) if dtype == torch.float32 and "downsample" in options else (19, 23)
    size = (size[0] + 10, size[1] + 14) if "stride" in options else size
    features = random_features(inputs, sizes_of(size, ins), dtype=dtype)
    reductions = {"in_reductions": ins, "out_reductions": outs}
    expected = octave.goctconv(
        as_arrays(features), path_weights(layer), path_biases(layer), outputs, **reductions, **options
    )
    assert_features_equal(layer(features), expected)


@pytest.mark.parametrize(
    "options",
    [{"kernel_size": 3}, {"kernel_size": 3, "dilation": 2, "padding_mode": "replicate"}, {"groups": 2, "bias": False}],
    ids=str,
)
def test_convolution_options(options):
    layer = CrossStageGOctConv(
        (4, 2), (6, 8), in_reductions=(2, 8), out_reductions=(4, 8), dtype=torch.float64, **options
    )
    features = random_features((4, 2), [(31, 23), (7, 5)])
    options = {name: value for name, value in options.items() if name not in {"kernel_size", "bias"}}
    expected = octave.goctconv(
        as_arrays(features),
        path_weights(layer),
        path_biases(layer),
        (6, 8),
        in_reductions=(2, 8),
        out_reductions=(4, 8),
        **options,
    )
    assert_features_equal(layer(features), expected)


@pytest.mark.parametrize("sizes", [[(19, 23), (10, 12), (5, 6)], [(11, 7), (3, 5), (13, 2)]], ids=["up", "any"])
def test_bilinear_takes_sizes_as_they_come(sizes):
    layer = CrossStageGOctConv(
        (3, 0, 5),
        (2, 7, 1),
        in_reductions=(4, 8, 16),
        out_reductions=(4, 8, 16),
        downsample="bilinear",
        dtype=torch.float64,
    )
    features = random_features((3, 0, 5), sizes)
    expected = octave.goctconv(
        as_arrays(features), path_weights(layer), path_biases(layer), (2, 7, 1), downsample="bilinear"
    )
    result = layer(features)
    assert_features_equal(result, expected)
    assert [tuple(x.shape[2:]) for x in result] == sizes


def test_int_out_channels_is_a_tensor():
    layer = CrossStageGOctConv((3, 5), 7, in_reductions=(4, 8), out_reductions=(8,), dtype=torch.float64)
    features = random_features((3, 5), [(9, 11), (4, 5)])
    expected = octave.goctconv(
        as_arrays(features), path_weights(layer), path_biases(layer), (7,), in_reductions=(4, 8), out_reductions=(8,)
    )
    assert_equal(layer(features), expected[0])


def test_default_reductions_are_those_of_goctconv():
    torch.manual_seed(0)
    cross = CrossStageGOctConv((3, 5, 2), (7, 1))
    torch.manual_seed(0)
    plain = GOctConv((3, 5, 2), (7, 1), 1)
    features = random_features((3, 5, 2), [(19, 23), (9, 11), (4, 5)], dtype=torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(cross(features), plain(features), strict=True))
    assert list(cross.state_dict()) == list(plain.state_dict())


def test_reset_parameters_draws_as_one_convolution(seed):
    layer = CrossStageGOctConv((3, 5, 2), (7, 1), in_reductions=(4, 8, 16), out_reductions=(4, 16))
    torch.manual_seed(seed)
    layer.reset_parameters()
    torch.manual_seed(seed)
    expected = nn.Conv2d(10, 8, 1)
    rows = [torch.cat([layer.paths[f"{i}_to_{j}"].weight for i in range(3)], dim=1) for j in range(2)]
    assert torch.equal(torch.cat(rows), expected.weight)


def test_paths_are_convolutions():
    layer = CrossStageGOctConv((3, 0, 2), (7, 1), in_reductions=(4, 8, 16), out_reductions=(4, 16))
    assert set(layer.paths) == {"0_to_0", "0_to_1", "2_to_0", "2_to_1"}
    assert {type(path) for path in layer.paths.values()} == {nn.Conv2d}
    assert {path.kernel_size for path in layer.paths.values()} == {(1, 1)}


def test_extra_repr_shows_reductions():
    layer = CrossStageGOctConv((3, 5), (7,), in_reductions=(4, 8), out_reductions=(8,))
    assert "(4, 8)" in layer.extra_repr()
    assert "(8,)" in layer.extra_repr()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"in_reductions": (4, 4)}, ValueError, r"\(4, 4\)"),
        ({"in_reductions": (8, 4)}, ValueError, r"\(8, 4\)"),
        ({"out_reductions": (8, 4)}, ValueError, r"\(8, 4\)"),
        ({"in_reductions": (0, 4)}, ValueError, r"\(0, 4\)"),
        ({"in_reductions": (-4, 4)}, ValueError, "-4"),
        ({"in_reductions": (4,)}, ValueError, r"(?s)\(4,\).*2|2.*\(4,\)"),
        ({"out_reductions": (4, 8, 16)}, ValueError, r"\(4, 8, 16\)"),
        ({"in_reductions": (4, 8.5)}, (TypeError, ValueError), r"8\.5"),
        ({"in_reductions": (4, 6)}, ValueError, "6"),
        ({"downsample": "averag"}, ValueError, r"averag"),
        ({"in_channels": (3, -1)}, ChannelError, "-1"),
        ({"groups": 2}, ChannelError, r"(?s)3.*2"),
        ({"kernel_size": 3, "padding": 0}, ScaleError, "0"),
    ],
    ids=str,
)
def test_refuses_arguments(changes, error, message):
    arguments = {
        "in_channels": (3, 2),
        "out_channels": (5, 7),
        "in_reductions": (4, 8),
        "out_reductions": (4, 8),
    }
    with pytest.raises(error, match=message):
        CrossStageGOctConv(**(arguments | changes))


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (torch.zeros(1, 3, 8, 10), TypeError, "tuple"),
        ((torch.zeros(1, 3, 8, 10),), ScaleError, r"(?s)1.*2|2.*1"),
        ((torch.zeros(1, 3, 8, 10), torch.zeros(1, 3, 2, 2)), ChannelError, r"(?s)scale 1.*3.*2"),
        ((torch.zeros(1, 3, 8, 10), torch.zeros(1, 2, 4, 5)), ScaleError, r"(?s)\(4, 5\).*\(2, 2\)"),
        ((torch.zeros(1, 3, 3, 10), torch.zeros(1, 2, 0, 2)), ScaleError, r"3, 10\)"),
    ],
    ids=["tensor", "one_scale", "channels", "size", "too_small"],
)
def test_refuses_features(features, error, message):
    with pytest.raises(error, match=message):
        CrossStageGOctConv((3, 2), (5,), in_reductions=(4, 16), out_reductions=(4,))(features)


def test_extra_repr_hides_default_reductions():
    assert CrossStageGOctConv((6, 10), 4).extra_repr() == "(6, 10), 4"
    assert CrossStageGOctConv((6, 10), 4, in_reductions=(4, 8)).extra_repr() == "(6, 10), 4, in_reductions=(4, 8)"
