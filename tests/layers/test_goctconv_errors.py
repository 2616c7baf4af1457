"""GOctConv refuses what it cannot mean, and names it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from goctconv import ChannelError, GOctConv, ScaleError

WRONG_ARGUMENTS = {
    "negative_width": ({"in_channels": (3, -2)}, ChannelError, "-2"),
    "negative_int": ({"out_channels": -3}, ChannelError, "-3"),
    "zero_int": ({"in_channels": 0}, ChannelError, "0"),
    "all_zero_in": ({"in_channels": (0, 0)}, ChannelError, r"in_channels.*\(0, 0\)"),
    "all_zero_out": ({"out_channels": (0, 0, 0)}, ChannelError, r"out_channels.*\(0, 0, 0\)"),
    "no_scale": ({"in_channels": ()}, ChannelError, r"\(\)"),
    "float_width": ({"in_channels": (3, 2.5)}, TypeError, "2.5"),
    "float_int": ({"in_channels": 3.0}, TypeError, "3.0"),
    "bool_width": ({"out_channels": (3, True)}, TypeError, "True"),
    "bool_int": ({"out_channels": True}, TypeError, "True"),
    "text": ({"in_channels": "37"}, TypeError, "37"),
    "none": ({"out_channels": None}, TypeError, "None"),
    "downsample": ({"downsample": "maxx"}, ValueError, r"(?s)maxx.*\bmax\b"),
    "upsample": ({"upsample": "nearst"}, ValueError, r"(?s)nearst.*\bnearest\b"),
    "upsample_is_no_pool": ({"upsample": "max"}, ValueError, "'max'"),
    "padding_name": ({"padding": "sam"}, ValueError, "sam"),
    "padding_mode": ({"padding_mode": "zero"}, ValueError, "zero"),
    "padding_none": ({"padding": 0}, ScaleError, "0"),
    "padding_valid": ({"padding": "valid"}, ScaleError, "valid"),
    "padding_too_small": ({"padding": 1, "kernel_size": 5}, ScaleError, "1"),
    "padding_too_large": ({"padding": 1, "kernel_size": 1}, ScaleError, "1"),
    "padding_ignores_dilation": ({"padding": 1, "dilation": 2}, ScaleError, "1"),
    "padding_one_axis": ({"padding": (1, 0)}, ScaleError, r"\(1, 0\)"),
    "padding_even_kernel": ({"padding": 1, "kernel_size": 2}, ScaleError, "1"),
    "groups_in": ({"groups": 2, "in_channels": (3, 4), "out_channels": (2, 4)}, ChannelError, "(?s)3.*2"),
    "groups_out": ({"groups": 2, "in_channels": (2, 4), "out_channels": (2, 7)}, ChannelError, "(?s)7.*2"),
    "groups_zero": ({"groups": 0}, ValueError, "0"),
    "stride": ({"stride": 3}, ValueError, "3"),
    "stride_zero": ({"stride": 0}, ValueError, "0"),
    "kernel_zero": ({"kernel_size": 0}, ValueError, "0"),
    "dilation_zero": ({"dilation": 0}, ValueError, "0"),
    "typo": ({"dilatation": 2}, TypeError, "dilatation"),
}


@pytest.mark.parametrize(("changes", "error", "message"), WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS)
def test_refuses_arguments(changes, error, message):
    arguments = {"in_channels": (3, 2), "out_channels": (5, 7), "kernel_size": 3} | changes
    with pytest.raises(error, match=message):
        GOctConv(**arguments)


def zeros(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(shape) for shape in shapes)


WRONG_FEATURES = {
    "tensor": (torch.zeros(2, 3, 17, 23), TypeError, r"\(2, 3, 17, 23\).*tuple"),
    "none_inside": ((torch.zeros(2, 3, 17, 23), None, torch.zeros(2, 0, 4, 5)), TypeError, "None"),
    "too_few": (zeros((2, 3, 17, 23), (2, 2, 8, 11)), ScaleError, "(?s)2.*3|3.*2"),
    "too_many": (zeros((2, 3, 17, 23), (2, 2, 8, 11), (2, 0, 4, 5), (2, 1, 2, 2)), ScaleError, "(?s)4.*3|3.*4"),
    "channels": (zeros((2, 3, 17, 23), (2, 5, 8, 11), (2, 0, 4, 5)), ChannelError, "(?s)scale 1.*5.*2"),
    "channels_where_absent": (zeros((2, 3, 17, 23), (2, 2, 8, 11), (2, 7, 4, 5)), ChannelError, "(?s)scale 2.*7.*0"),
    "size": (zeros((2, 3, 17, 23), (2, 2, 9, 12), (2, 0, 4, 5)), ScaleError, r"(?s)scale 1.*\(9, 12\).*\(8, 11\)"),
    "size_where_absent": (
        zeros((2, 3, 17, 23), (2, 2, 8, 11), (2, 0, 4, 6)),
        ScaleError,
        r"(?s)scale 2.*\(4, 6\).*\(4, 5\)",
    ),
    "batch": (zeros((2, 3, 17, 23), (1, 2, 8, 11), (2, 0, 4, 5)), ValueError, "(?s)scale 1.*1.*2"),
    "not_batched": (zeros((3, 17, 23), (2, 8, 11), (0, 4, 5)), ValueError, r"\(3, 17, 23\)"),
}


@pytest.mark.parametrize(("features", "error", "message"), WRONG_FEATURES.values(), ids=WRONG_FEATURES)
def test_refuses_features(features, error, message):
    layer = GOctConv((3, 2, 0), (5, 7), 3)
    with pytest.raises(error, match=message):
        layer(features)


def test_refuses_tuple_for_tensor():
    with pytest.raises(TypeError, match="tuple"):
        GOctConv(3, 5, 3)((torch.zeros(2, 3, 17, 23),))


def test_refuses_tensor_of_wrong_channels():
    with pytest.raises(ChannelError, match=r"(?s)7.*3|3.*7"):
        GOctConv(3, 5, 3)(torch.zeros(2, 7, 17, 23))


@pytest.mark.parametrize("out_channels", [(5, 7, 2), (5, 7), 5], ids=str)
def test_refuses_scale_without_pixels(out_channels):
    with pytest.raises(ScaleError, match=r"3, 7\).*at least one pixel"):
        GOctConv((3, 2, 1), out_channels, 3)(zeros((2, 3, 3, 7), (2, 2, 1, 3), (2, 1, 0, 1)))


def test_refuses_image_too_small_for_its_outputs():
    with pytest.raises(ScaleError, match=r"3, 7\).*at least one pixel"):
        GOctConv(3, (5, 7, 2), 3)(torch.zeros(2, 3, 3, 7))


def test_refuses_image_too_small_after_stride():
    assert GOctConv(3, (5, 7), 3, 2)(torch.zeros(2, 3, 4, 4))[1].shape == (2, 7, 1, 1)
    with pytest.raises(ScaleError, match=r"3, 4\).*at least one pixel"):
        GOctConv(3, (5, 7), 3, 2)(torch.zeros(2, 3, 3, 4))


def test_bilinear_still_counts_scales_and_channels():
    layer = GOctConv((3, 2), (5, 7), 3, downsample="bilinear")
    with pytest.raises(ScaleError, match=r"(?s)3.*2|2.*3"):
        layer(zeros((2, 3, 17, 23), (2, 2, 9, 12), (2, 1, 5, 6)))
    with pytest.raises(ChannelError, match=r"(?s)scale 1.*5.*2"):
        layer(zeros((2, 3, 17, 23), (2, 5, 9, 12)))


def test_errors_are_value_errors():
    assert issubclass(ScaleError, ValueError)
    assert issubclass(ChannelError, ValueError)
