"""SimplifiedGOctConv equals its oracle, never mixes scales or channels, and scales its weight but not its bias."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from goctconv import ChannelError, ScaleError, SimplifiedGOctConv
from reference import octave
from reference.compare import as_arrays, assert_equal, assert_features_equal, random_features, sizes_of
from reference.parameters import scale_biases, scale_weights

CASES = {
    "one": ((5,), 3, {}),
    "two": ((5, 3), 3, {}),
    "four": ((2, 3, 5, 7), 3, {}),
    "kernel_1": ((5, 3), 1, {}),
    "kernel_5": ((5, 3), 5, {}),
    "kernel_3x1": ((5, 3), (3, 1), {}),
    "kernel_2": ((5, 3), 2, {}),
    "absent_fine": ((0, 3), 3, {}),
    "absent_middle": ((5, 0, 3), 3, {}),
    "absent_coarse": ((5, 0), 3, {}),
    "stride2": ((5, 3), 3, {"stride": 2}),
    "stride2_absent": ((0, 7, 3), 3, {"stride": 2}),
    "dilation": ((5, 3), 3, {"dilation": 2}),
    "dilation_pair": ((5, 3), 3, {"dilation": (1, 3)}),
    "padding": ((5, 3), 3, {"padding": 1}),
    "reflect": ((5, 3), 3, {"padding_mode": "reflect"}),
    "replicate": ((5, 3), 5, {"padding_mode": "replicate"}),
    "circular": ((5, 3), 3, {"padding_mode": "circular"}),
    "weight_scale": ((5, 3), 3, {"weight_scale": 100.0}),
    "weight_scale_reflect": ((5, 3), 3, {"weight_scale": 0.5, "padding_mode": "reflect", "dilation": 2}),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # torch's, about speed
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize(("channels", "kernel", "options"), CASES.values(), ids=CASES)
def test_equals_oracle(channels, kernel, options, bias, dtype):
    layer = SimplifiedGOctConv(channels, kernel, bias=bias, dtype=dtype, **options)
    features = random_features(channels, sizes_of((17, 23), [1, 2, 4, 8][: len(channels)]), dtype=dtype)
    biases = scale_biases(layer.convs)
    expected = octave.simplified(as_arrays(features), scale_weights(layer.convs), biases, **options)
    assert_features_equal(layer(features), expected)
    assert set(biases) == {scale for scale, width in enumerate(channels) if width and bias}


def test_tensor():
    layer = SimplifiedGOctConv(5, 3, weight_scale=100.0, dtype=torch.float64)
    x = random_features(5, [(13, 17)])
    expected = octave.simplified(as_arrays(x), scale_weights(layer.convs), scale_biases(layer.convs), weight_scale=100)
    assert_equal(layer(x), expected[0])


def test_convolutions():
    layer = SimplifiedGOctConv((5, 0, 3), 3, weight_scale=100.0)
    assert list(layer.convs) == ["0", "2"]
    for scale, convolution in layer.convs.items():
        width = (5, 0, 3)[int(scale)]
        assert isinstance(convolution, nn.Conv2d)
        assert convolution.weight.shape == (width, 1, 3, 3)
        assert convolution.groups == width
        assert convolution.stride == (1, 1)
        assert convolution.weight.abs().max() <= 1 / 3  # raw, as nn.Conv2d draws it: 1 / sqrt(fan-in), of 9
        assert convolution.weight.abs().max() > 0.2
    assert {type(conv) for conv in SimplifiedGOctConv((5, 3), 3).convs.values()} <= {nn.Conv2d, type(convolution)}


def test_weight_scale_spares_bias():
    layer = SimplifiedGOctConv((5, 3), 3, weight_scale=100.0)
    for convolution in layer.convs.values():
        nn.init.zeros_(convolution.weight)
    for output, convolution in zip(
        layer(random_features((5, 3), [(7, 11), (3, 5)], dtype=torch.float32)), layer.convs.values(), strict=True
    ):
        torch.testing.assert_close(output, convolution.bias[:, None, None].expand_as(output))


def test_reset_parameters_redraws():
    layer = SimplifiedGOctConv((5, 3), 3)
    before = [p.detach().clone() for p in layer.parameters()]
    layer.reset_parameters()
    assert not any(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))


def test_scales_and_channels_do_not_mix():
    layer = SimplifiedGOctConv((5, 3), 3)
    features = random_features((5, 3), [(8, 10), (4, 5)], dtype=torch.float32)
    before = layer(features)
    features[1][:, 2] += 1
    after = layer(features)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1][:, :2], after[1][:, :2])
    assert not torch.equal(before[1][:, 2], after[1][:, 2])


def test_extra_repr_hides_defaults():
    plain = SimplifiedGOctConv((5, 3), 3).extra_repr()
    for hidden in ("stride", "dilation", "bias", "padding", "weight_scale"):
        assert hidden not in plain
    assert "(5, 3)" in plain
    other = repr(SimplifiedGOctConv((5, 3), 3, 2, bias=False, padding_mode="reflect", weight_scale=100.0))
    for shown in ("stride=2", "bias=False", "reflect", "weight_scale=100"):
        assert shown in other


def test_gradcheck():
    layer = SimplifiedGOctConv((2, 3), 3, weight_scale=10.0, dtype=torch.float64)
    features = random_features((2, 3), [(5, 7), (2, 3)], batch=1)
    names, values = zip(*layer.named_parameters(), strict=True)

    def run(*tensors):
        return torch.func.functional_call(layer, dict(zip(names, tensors[2:], strict=True)), (tensors[:2],))

    assert torch.autograd.gradcheck(run, [t.detach().clone().requires_grad_() for t in (*features, *values)])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"channels": (3, -2)}, ChannelError, "-2"),
        ({"channels": (0, 0)}, ChannelError, r"\(0, 0\)"),
        ({"channels": 0}, ChannelError, "0"),
        ({"channels": ()}, ChannelError, r"\(\)"),
        ({"channels": (3, 2.5)}, TypeError, r"2\.5"),
        ({"channels": True}, TypeError, "True"),
        ({"padding_mode": "zero"}, ValueError, "zero"),
        ({"padding": "sam"}, ValueError, "sam"),
        ({"padding": 0}, ScaleError, "0"),
        ({"stride": 3}, ValueError, "3"),
        ({"weight_scael": 100}, TypeError, "weight_scael"),
    ],
    ids=str,
)
def test_refuses_arguments(changes, error, message):
    with pytest.raises(error, match=message):
        SimplifiedGOctConv(**({"channels": (3, 2), "kernel_size": 3} | changes))


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (torch.zeros(1, 5, 8, 10), TypeError, "tuple"),
        ((torch.zeros(1, 5, 8, 10),), ScaleError, r"(?s)1.*2|2.*1"),
        ((torch.zeros(1, 5, 8, 10), torch.zeros(1, 4, 4, 5)), ChannelError, r"(?s)scale 1.*4.*3"),
    ],
    ids=["tensor", "one_scale", "channels"],
)
def test_refuses_features(features, error, message):
    with pytest.raises(error, match=message):
        SimplifiedGOctConv((5, 3), 3)(features)


def test_refuses_tuple_for_tensor():
    with pytest.raises(TypeError, match="tuple"):
        SimplifiedGOctConv(5, 3)((torch.zeros(1, 5, 8, 10),))
