"""ILBlock, ParallelDilatedConv and FusionHead equal their oracles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from goctconv import (
    ChannelError,
    CrossStageGOctConv,
    FusionHead,
    GOctConv,
    ILBlock,
    ParallelDilatedConv,
    PerScale,
    ScaleError,
    SimplifiedGOctConv,
)
from reference import octave
from reference.compare import as_arrays, assert_equal, assert_features_equal, random_features, sizes_of
from reference.parameters import branch_parameters, calibrate, norms, path_weights, scale_weights, slopes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
HALVES = (1, 2, 4, 8)
DILATIONS = (1, 2, 4, 8, 16)


def children(block: nn.Module, kind: str) -> list[nn.Module]:
    return [getattr(block, f"{kind}{number}") for number in (1, 2, 3)]


def expected_il_block(block: ILBlock, outputs: Sequence[int], features: Any, **options: Any) -> list[np.ndarray]:
    return octave.il_block(
        as_arrays(features),
        exchange=path_weights(block.conv1),
        depthwise=[scale_weights(block.conv2.convs), scale_weights(block.conv3.convs)],
        norms=[norms(norm) for norm in children(block, "norm")],
        slopes=[slopes(act) for act in children(block, "act")],
        out_channels=outputs,
        **options,
    )


@DTYPES
@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "options"),
    [
        ((3,), (4, 6), 3, {}),
        ((5, 3), (4, 6), 1, {}),
        ((5, 3), (4, 6), 3, {"stride": 2}),
        ((5, 3), (7,), 1, {}),
        ((5, 0), (0, 6), 1, {}),
        ((0, 3), (4, 6, 2), 3, {}),
        ((5, 3, 2), (4, 0, 6), 1, {"weight_scale": 1.0}),
        ((5, 3), (4, 6), 1, {"downsample": "avg", "upsample": "nearest"}),
    ],
)
def test_il_block_equals_oracle(inputs, outputs, kernel, options, dtype):
    block = ILBlock(inputs, outputs, kernel, **options).to(dtype)
    features = random_features(inputs, sizes_of((17, 23), HALVES[: len(inputs)]), dtype=dtype)
    calibrate(block, features)
    assert_features_equal(block(features), expected_il_block(block, outputs, features, **options))


@pytest.mark.parametrize(("in_channels", "out_channels"), [(3, 5), (3, (4, 2)), ((4, 2), 5)])
def test_il_block_of_tensors(in_channels, out_channels):
    block = ILBlock(in_channels, out_channels, 3, dtype=torch.float64)
    features = random_features(in_channels, [(13, 17), (6, 8)][: 1 if isinstance(in_channels, int) else 2])
    calibrate(block, features)
    outputs = (out_channels,) if isinstance(out_channels, int) else out_channels
    expected = expected_il_block(block, outputs, features)
    if isinstance(out_channels, int):
        assert_equal(block(features), expected[0])
    else:
        assert_features_equal(block(features), expected)


def test_il_block_structure():
    block = ILBlock((5, 0, 3), (4, 6, 0), 3)
    assert [name for name, _ in block.named_children()] == [
        f"{kind}{number}" for number in (1, 2, 3) for kind in ("conv", "norm", "act")
    ]
    assert [type(conv) for conv in children(block, "conv")] == [GOctConv, SimplifiedGOctConv, SimplifiedGOctConv]
    assert not [name for name, _ in block.named_parameters() if "conv" in name and name.endswith("bias")]
    for norm, act in zip(children(block, "norm"), children(block, "act"), strict=True):
        assert {name: (type(m), m.num_features, m.eps, m.momentum) for name, m in norm.named_children()} == {
            "0": (nn.BatchNorm2d, 4, 1e-5, 0.1),
            "1": (nn.BatchNorm2d, 6, 1e-5, 0.1),
        }
        assert [m.weight.tolist() for m in act.children()] == [[0.25] * 4, [0.25] * 6]
    assert {conv.weight.shape for conv in block.conv2.convs.values()} == {(4, 1, 3, 3), (6, 1, 3, 3)}
    assert sum(p.numel() for p in block.parameters()) == 8 * 10 * 9 + 2 * 10 * 9 + 9 * 10


def test_il_block_scales_depthwise_weights_only():
    """A hundred times the depthwise weights, and nothing else, makes up for a weight scale of 1."""
    block, other = ILBlock((5, 3), (4, 6)), ILBlock((5, 3), (4, 6), weight_scale=1.0)
    features = random_features((5, 3), [(8, 10), (4, 5)], dtype=torch.float32)
    calibrate(block, features)
    state = block.state_dict()
    other.load_state_dict(
        {k: 100 * v if k.startswith(("conv2", "conv3")) and k.endswith("weight") else v for k, v in state.items()}
    )
    for a, b in zip(block(features), other.eval()(features), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("stride", [1, 2])
def test_il_block_trains(stride):
    block = ILBlock((5, 3), (4, 6), stride=stride)
    features = random_features((5, 3), [(13, 17), (6, 8)], dtype=torch.float32)
    sum(x.square().mean() for x in block(features)).backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@DTYPES
@pytest.mark.parametrize(
    ("inputs", "branches", "options"),
    [
        ((6, 11), None, {}),
        ((3, 7), None, {}),
        ((6, 0, 5), None, {}),
        ((5, 3), ((1, 2, 2, 2, 4), (0, 1, 3, 7, 7)), {}),
        ((5, 3), ((1, 0, 0, 0, 0), (0, 0, 0, 0, 0)), {}),
        ((5, 3), ((2, 3), (1, 0)), {"dilations": (1, 3)}),
        ((5, 3), None, {"dilations": (1, 2), "weight_scale": 1.0, "kernel_size": 5}),
        ((5, 3), None, {"dilations": (1, 2, 3), "bias": True}),
        ((5, 3), None, {"dilations": (1, 2), "padding_mode": "replicate"}),
    ],
)
def test_parallel_dilated_equals_oracle(inputs, branches, options, dtype):
    layer = ParallelDilatedConv(inputs, branches, **options).to(dtype)
    features = random_features(inputs, sizes_of((17, 23), HALVES[: len(inputs)]), dtype=dtype)
    weights, biases = branch_parameters(layer, "weight"), branch_parameters(layer, "bias")
    given = {k: v for k, v in options.items() if k in {"dilations", "weight_scale", "padding_mode"}}
    expected = octave.parallel_dilated(as_arrays(features), weights, biases, **given)
    assert_features_equal(layer(features), expected)
    assert set(biases) == (set(weights) if options.get("bias") else set())
    widths = tuple(map(sum, branches)) if branches else inputs
    assert tuple(x.shape[1] for x in expected) == widths


@pytest.mark.parametrize("branches", [None, (1, 0, 2, 3, 1)])
def test_parallel_dilated_of_a_tensor(branches):
    layer = ParallelDilatedConv(7, branches, dtype=torch.float64)
    x = random_features(7, [(19, 23)])
    assert_equal(layer(x), octave.parallel_dilated(as_arrays(x), branch_parameters(layer, "weight"))[0])


@pytest.mark.parametrize(
    ("width", "expected"), [(13, [2, 2, 2, 2, 5]), (10, [2] * 5), (4, [0, 0, 0, 0, 4]), (5, [1] * 5)]
)
def test_parallel_dilated_default_branches(width, expected):
    weights = branch_parameters(ParallelDilatedConv(width), "weight")
    assert [len(weights.get((0, branch), ())) for branch in range(5)] == expected


def test_parallel_dilated_skips_absent_branches():
    layer = ParallelDilatedConv((5, 0, 3), ((1, 0, 2, 0, 4), (0,) * 5, (0, 1, 0, 0, 0)))
    assert {scale: list(branches) for scale, branches in layer.branches.items()} == {"0": ["0", "2", "4"], "2": ["1"]}
    for branches in layer.branches.values():
        for index, convolution in branches.items():
            assert isinstance(convolution, nn.Conv2d)
            assert convolution.dilation == (DILATIONS[int(index)],) * 2


def expected_head(head: FusionHead, features: Any, **options: Any) -> np.ndarray:
    return octave.fusion_head(
        as_arrays(features),
        fuse=path_weights(head.fuse),
        dilated=branch_parameters(head.dilated, "weight"),
        merge=path_weights(head.merge),
        norms=[norms(norm) for norm in children(head, "norm")],
        slopes=[slopes(act) for act in children(head, "act")],
        **options,
    )


@DTYPES
@pytest.mark.parametrize(
    ("inputs", "fuse", "branches", "out", "reductions", "target", "options"),
    [
        ((4, 8, 6), (6, 7, 5), None, None, (2, 4, 8), None, {}),
        ((4, 8, 6), (6, 7, 5), None, 9, (2, 4, 8), 2, {"weight_scale": 1.0}),
        ((4, 8, 6), (6, 7, 5), None, 9, (2, 4, 8), 8, {}),
        ((4, 8), (6, 7), ((1, 0, 2, 0, 4), (0, 6, 1, 0, 3)), None, (4, 16), None, {}),
        ((4, 8, 6), (6, 0, 5), None, None, (2, 4, 8), 4, {}),
        ((4, 0, 6), (6, 3, 5), None, None, None, None, {}),
        ((4, 8, 6), (6, 7, 5), None, None, (2, 4, 8), None, {"downsample": "bilinear"}),
        ((4, 8, 6), (6, 7, 5), None, None, (2, 4, 8), 4, {"downsample": "avg"}),
    ],
)
def test_fusion_head_equals_oracle(inputs, fuse, branches, out, reductions, target, options, dtype):
    head = FusionHead(
        inputs, fuse, branches, out, in_reductions=reductions, out_reduction=target, dtype=dtype, **options
    )
    ins = reductions or HALVES[: len(inputs)]
    widths = tuple(map(sum, branches)) if branches else fuse
    features = random_features(inputs, sizes_of((13, 11), ins), dtype=dtype)
    calibrate(head, features)
    expected = expected_head(
        head,
        features,
        fuse_channels=fuse,
        out_channels=out or sum(widths),
        in_reductions=ins,
        out_reduction=target or ins[0],
        **options,
    )
    assert_equal(head(features), expected)


def test_fusion_head_bilinear_takes_sizes_as_they_come():
    head = FusionHead((4, 8), (6, 7), in_reductions=(4, 8), downsample="bilinear", dtype=torch.float64)
    features = random_features((4, 8), [(13, 11), (7, 6)])
    calibrate(head, features)
    expected = expected_head(
        head,
        features,
        fuse_channels=(6, 7),
        out_channels=13,
        in_reductions=(4, 8),
        out_reduction=4,
        downsample="bilinear",
    )
    assert_equal(head(features), expected)


def test_fusion_head_structure():
    head = FusionHead((4, 8, 6), (6, 7, 5), in_reductions=(2, 4, 8))
    assert [type(child) for child in head.children()] == [
        CrossStageGOctConv,
        PerScale,
        PerScale,
        ParallelDilatedConv,
        PerScale,
        PerScale,
        CrossStageGOctConv,
        PerScale,
        PerScale,
    ]
    convolutions = sum(
        p.numel() for name, p in head.named_parameters() if name.startswith(("fuse", "dilated", "merge"))
    )
    assert convolutions == 18 * 18 + 9 * (6 * 6 + 7 * 7 + 5 * 5) + 18 * 18
    assert sum(p.numel() for p in head.parameters()) == convolutions + 9 * 18


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ILBlock((3, -2), (4, 6)), ChannelError, "-2"),
        (lambda: ILBlock((3, 2), (0, 0)), ChannelError, r"\(0, 0\)"),
        (lambda: ILBlock((3, 2), (4, 6), stride=3), ValueError, "3"),
        (lambda: ILBlock((3, 2), 2.5), TypeError, r"2\.5"),
        (lambda: ILBlock((3, 2), (4, 6), downsample="maxx"), ValueError, "maxx"),
        (lambda: ParallelDilatedConv((3, 2), ((1, 2, 3, 4, 5),)), ValueError, r"(?s)1.*2|2.*1"),
        (lambda: ParallelDilatedConv((3, 2), ((1, 2), (3, 4))), ValueError, r"(?s)\(1, 2\).*5|5.*2"),
        (lambda: ParallelDilatedConv(3, (1, -2, 3, 4, 5)), ChannelError, "-2"),
        (lambda: ParallelDilatedConv(3, (0, 0, 0, 0, 0)), ChannelError, "0, 0, 0, 0, 0"),
        (lambda: ParallelDilatedConv(3, (1, 2.5, 3, 4, 5)), TypeError, r"2\.5"),
        (lambda: ParallelDilatedConv((3, 0), ((1,) * 5, (1,) * 5)), ChannelError, "scale 1"),
        (lambda: ParallelDilatedConv(3, (), dilations=()), ValueError, r"\(\)"),
        (lambda: ParallelDilatedConv(3, (1, 2), dilations=(1, 0)), ValueError, r"0"),
        (lambda: FusionHead((3, 2), (4, 6), out_channels=0), ChannelError, "0"),
        (lambda: FusionHead((3, 2), (4, 6), in_reductions=(4, 4)), ScaleError, r"\(4, 4\)"),
        (lambda: FusionHead((3, 2), (4, 6), in_reductions=(4, 8), out_reduction=0), ValueError, "0"),
        (lambda: FusionHead((3, 2), (4, 6), in_reductions=(4, 8), out_reduction=12), ValueError, "12"),
    ],
)
def test_refuses_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ILBlock((3, 2), (4, 6)),
        lambda: ParallelDilatedConv((3, 2)),
        lambda: FusionHead((3, 2), (4, 6)),
    ],
    ids=["il_block", "parallel_dilated", "fusion_head"],
)
def test_refuses_features(make):
    layer = make()
    high = torch.zeros(2, 3, 8, 10)
    with pytest.raises(TypeError, match="tuple"):
        layer(high)
    with pytest.raises(ScaleError, match=r"(?s)1.*2|2.*1"):
        layer((high,))
    with pytest.raises(ChannelError, match=r"(?s)scale 1.*3.*2"):
        layer((high, torch.zeros(2, 3, 4, 5)))
