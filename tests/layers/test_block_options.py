"""What the blocks pass on to their layers: resampling, padding, normalisation, activation, dilations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from goctconv import ChannelError, FusionHead, GOctConv, ILBlock, ScaleError
from reference import octave
from reference.compare import as_arrays, assert_features_equal, random_features, sizes_of
from reference.parameters import calibrate, norms, path_weights, slopes

SIZES = sizes_of((18, 22), (1, 2))


@pytest.mark.parametrize("resampling", [{}, {"downsample": "avg", "upsample": "nearest"}])
@pytest.mark.parametrize("stride", [1, 2])
def test_vanilla_block_is_three_exchanges(stride, resampling):
    block = ILBlock((5, 3), (4, 6), 3, stride, simplified=False, dtype=torch.float64, **resampling)
    features = random_features((5, 3), SIZES)
    calibrate(block, features)
    expected = as_arrays(features)
    for number, step in ((1, stride), (2, 1), (3, 1)):
        weights = path_weights(getattr(block, f"conv{number}"))
        expected = octave.goctconv(expected, weights, {}, (4, 6), stride=step, **resampling)
        norm, act = (getattr(block, f"{kind}{number}") for kind in ("norm", "act"))
        expected = octave.norm_act(expected, norms(norm), slopes(act))
    assert_features_equal(block(features), expected)


def conv_modules(block: nn.Module) -> list[nn.Conv2d]:
    return [module for module in block.modules() if isinstance(module, nn.Conv2d)]


def test_block_uses_the_given_norm_activation_and_padding_everywhere():
    block = ILBlock(
        (4, 2), (6, 2), 3, padding_mode="replicate", norm=lambda c: nn.GroupNorm(2, c), activation=lambda _: nn.GELU()
    )
    kinds = [type(module) for module in block.modules()]
    assert kinds.count(nn.GroupNorm) == kinds.count(nn.GELU) == 6
    assert not {nn.BatchNorm2d, nn.PReLU} & set(kinds)
    assert {conv.padding_mode for conv in conv_modules(block)} == {"replicate"}


def test_head_uses_the_given_norm_activation_padding_dilations_and_resampling():
    head = FusionHead(
        (4, 6),
        (4, 6),
        dilations=(1, 3),
        padding_mode="replicate",
        weight_scale=1.0,
        downsample="bilinear",
        upsample="nearest",
        norm=lambda c: nn.GroupNorm(2, c),
        activation=lambda _: nn.GELU(),
    )
    kinds = [type(module) for module in head.modules()]
    assert kinds.count(nn.GroupNorm) == kinds.count(nn.GELU) == 5
    assert not {nn.BatchNorm2d, nn.PReLU} & set(kinds)
    dilated = conv_modules(head.dilated)
    assert [conv.dilation[0] for conv in dilated] == [1, 3, 1, 3]
    assert {(type(conv), conv.padding_mode) for conv in dilated} == {(nn.Conv2d, "replicate")}
    assert {(conv.downsample, conv.upsample) for conv in (head.fuse, head.merge)} == {("bilinear", "nearest")}
    assert head((torch.rand(1, 4, 9, 13), torch.rand(1, 6, 5, 7))).shape == (1, 10, 9, 13)


def test_head_refuses_a_resolution_that_no_stage_has():
    with pytest.raises(ScaleError, match=r"out_reduction=16 must be one of the stages' reductions \(2, 4\)"):
        FusionHead((4, 6), (4, 6), in_reductions=(2, 4), out_reduction=16)


@pytest.mark.parametrize(
    ("mode", "size", "least"), [("reflect", (2, 2), (2, 2)), ("reflect", (5, 3), (3, 3)), ("circular", (3, 3), (2, 2))]
)
def test_padding_made_of_too_small_an_image_is_named(mode, size, least):
    kernel = 3 if least == (2, 2) and mode == "reflect" else 5
    layer = GOctConv((3, 2), (4, 2), kernel, padding_mode=mode)
    features = torch.zeros(1, 3, *size), torch.zeros(1, 2, size[0] // 2, size[1] // 2)
    with pytest.raises(ScaleError, match=rf"padding_mode='{mode}'.*needs at least \({least[0]}, {least[1]}\) pixels"):
        layer(features)


@pytest.mark.parametrize("mode", ["reflect", "circular"])
def test_padding_made_of_just_enough_image(mode):
    layer = GOctConv((3, 2), (4, 2), 3, padding_mode=mode)
    side = 4 if mode == "reflect" else 2
    fine, coarse = layer((torch.zeros(1, 3, side, side), torch.zeros(1, 2, side // 2, side // 2)))
    assert (fine.shape[-1], coarse.shape[-1]) == (side, side // 2)


def test_absent_output_has_the_type_of_the_present_ones_under_autocast():
    layer = GOctConv((3, 2), (0, 4), 1)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = layer((torch.rand(1, 3, 8, 8), torch.rand(1, 2, 4, 4)))
    assert [y.dtype for y in outputs] == [torch.bfloat16, torch.bfloat16]


@pytest.mark.parametrize(("inputs", "fuse"), [(8, 4), ((8, 8), 4), ((8, 8), (4, 4, 4))])
def test_head_needs_a_width_for_each_stage(inputs, fuse):
    with pytest.raises(ChannelError, match="must be one width for each stage"):
        FusionHead(inputs, fuse)
